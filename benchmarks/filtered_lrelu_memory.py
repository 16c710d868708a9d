"""Peak memory of filtered_lrelu beside the same steps one after the other, each form in a fresh process.

    python benchmarks/filtered_lrelu_memory.py [--shape 1,64,276,276] [--dtype float32] [--threads 1]

Prints, for the kernel, for bias_act and upfirdn2d one after the other, and for the reference: what the process's peak resident memory
rises by, in multiples of the image x and in MB, in a forward pass without a graph and in a forward and backward pass, and the seconds of
each. Up 2, down 2, filters of 12 taps.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import time

import torch

from stylegan_ops import bias_act, filtered_lrelu, setup_filter, upfirdn2d

FORMS = ("native", "step by step", "reference")


def step_by_step(x: torch.Tensor, fu: torch.Tensor, fd: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    z = upfirdn2d(bias_act(x, b), fu, up=2, padding=11, gain=4)
    return upfirdn2d(bias_act(z, act="lrelu", clamp=256), fd, down=2)


def measure(form: str, shape: list[int], dtype: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    f = setup_filter(torch.hann_window(14, periodic=False)[1:-1], separable=True)
    fused = functools.partial(filtered_lrelu, up=2, down=2, padding=11, clamp=256, impl=form)
    call = step_by_step if form == "step by step" else fused

    def train(x: torch.Tensor, b: torch.Tensor) -> None:
        y = call(x.requires_grad_(), f, f, b.requires_grad_())
        torch.autograd.grad(y, (x, b), torch.ones_like(y))

    def forward(x: torch.Tensor, b: torch.Tensor) -> None:
        with torch.no_grad():
            call(x, f, f, b)

    found = {}
    small = torch.randn(1, shape[1], 16, 16, dtype=getattr(torch, dtype))
    x, b = torch.randn(shape, dtype=getattr(torch, dtype)), torch.randn(shape[1])
    for name, what in (("forward", forward), ("training", train)):  # the first needs less
        what(small.clone(), b.clone())
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        what(x, b)
        found[f"{name} seconds"] = time.perf_counter() - started
        found[f"{name} MB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found["training MB"] += found["forward MB"]  # the peak rises from the first's
    return {**found, "image MB": x.nbytes / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="1,64,276,276", help="N,C,H,W (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float64", "float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--form", choices=FORMS, help="measure one form in this process and print JSON")
    given = parser.parse_args()
    if given.form:
        print(json.dumps(measure(given.form, [int(n) for n in given.shape.split(",")], given.dtype, given.threads)))
        return
    options = ["--shape", given.shape, "--dtype", given.dtype, "--threads", str(given.threads)]
    print("| form | forward: memory / x | MB | s | forward and backward: memory / x | MB | s |\n|---|---|---|---|---|---|---|")
    for form in FORMS:
        line = subprocess.run([sys.executable, __file__, *options, "--form", form], capture_output=True, text=True, check=True).stdout
        row = json.loads(line)
        cells = [
            f"{row[f'{p} MB'] / row['image MB']:.1f} | {row[f'{p} MB']:.0f} | {row[f'{p} seconds']:.2f}" for p in ("forward", "training")
        ]
        print(f"| {form} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
