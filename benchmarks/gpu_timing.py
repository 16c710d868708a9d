"""How benchmarks/gpu.py measures: time by CUDA events, errors against float64."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def relative_error(got: torch.Tensor, truth: torch.Tensor) -> float:
    return float((got.detach().double().cpu() - truth.detach()).norm() / truth.detach().norm().clamp(min=1e-300))


def median_seconds(form: Callable[[int], object], options: argparse.Namespace) -> float:
    """Median over CUDA events; form(i) uses the i-th of its buffers."""
    for i in range(2 if options.tiny else 5):
        form(i)
    times: list[float] = []
    while len(times) < (3 if options.tiny else 15) or (sum(times) < options.seconds and len(times) < 500):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        form(len(times))
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)
