"""`torch_utils.ops.fma`: multiply and add."""

from __future__ import annotations

import torch


def fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """`a * b + c` with broadcasting, in one pass; differentiable to any order in all three."""
    return torch.addcmul(c, a, b)
