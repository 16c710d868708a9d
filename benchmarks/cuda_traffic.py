"""Counts what the CUDA kernels do on [2, 64, 128, 128]: instructions, memory traffic and bank conflicts, as an emulator saw them.

    PTXEMU=/path/to/ptxemu python benchmarks/cuda_traffic.py [--only upfirdn2d] [--markdown]

Needs the CUDA library, built with PTX as .ci/test-cuda does, and PTXEMU, the folder of the emulator; no GPU. For each call:

    instr.    thread instructions of the compiled PTX per output element, all of the call's launches together
    traffic   32-byte sectors read beyond a perfect L1 and sectors stored, over the distinct sectors of memory touched; 1 is ideal
    conflict  shared-memory wavefronts over the fewest possible; 1 is ideal
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from stylegan_ops import (
    adain,
    bias_act,
    conv_epilogue,
    downsample2d,
    filter2d,
    filtered_lrelu,
    pixel_norm,
    setup_filter,
    upsample2d,
)

SHAPE = (2, 64, 128, 128)
GOALS = {"bias_act": 14, "bias_act backward": 26, "upfirdn2d up 2": 32, "upfirdn2d down 2": 130}  # instructions per output element
FILTER_GOALS = {"channels_last": 28, "contiguous": 48}


def gradient(op: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
    leaves = [t.requires_grad_() for t in inputs]
    y = op(*leaves)
    dy = torch.ones_like(y)
    return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)[0]


def calls() -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """Names, and calls that return a tensor with as many elements as they are counted for."""
    n, c, h, w = SHAPE
    f = setup_filter([1, 3, 3, 1]).cuda()
    g = setup_filter([1, 2, 4, 6, 8, 9, 9, 8, 6, 4, 2, 1]).cuda()
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for (layout, memory_format), dtype in itertools.product(layouts.items(), (torch.float32, torch.float16)):

        def image(memory_format=memory_format, dtype=dtype):
            return torch.ones(SHAPE, device="cuda").to(dtype, memory_format=memory_format)

        b, scale, noise = torch.ones(c, device="cuda"), torch.ones(n, c, device="cuda"), torch.ones(h, w, device="cuda")
        x = image()
        act = functools.partial(bias_act, act="lrelu", clamp=256)
        epilogue = functools.partial(conv_epilogue, act="lrelu", clamp=256)
        norm = functools.partial(adain, act="lrelu")
        forms = {
            "bias_act": lambda x=x, b=b, act=act: act(x, b),
            "bias_act backward": gradient(act, image(), b.clone()),
            "conv_epilogue": lambda x=x, b=b, s=scale, z=noise, e=epilogue: e(x, s, z, None, b),
            "conv_epilogue backward": gradient(
                lambda x, s, z, b, e=epilogue: e(x, s, z, None, b), image(), scale.clone(), noise.clone(), b.clone()
            ),
            "adain": lambda x=x, b=b, s=scale, z=noise, a=norm: a(x, s, s, z, b, b),
            "adain backward": gradient(lambda x, s, b, z=noise, a=norm: a(x, s, s, z, b, b), image(), scale.clone(), b.clone()),
            "pixel_norm": lambda x=x: pixel_norm(x),
            "pixel_norm backward": gradient(pixel_norm, image()),
            "upfirdn2d filter": lambda x=x: filter2d(x, f),
            "upfirdn2d up 2": lambda x=x: upsample2d(x, f),
            "upfirdn2d down 2": lambda x=x: downsample2d(x, f),
            "filtered_lrelu": lambda x=x, b=b: filtered_lrelu(x, g, g, b, 2, 2, 11),
            "filtered_lrelu backward": gradient(lambda x, b: filtered_lrelu(x, g, g, b, 2, 2, 11), image(), b.clone()),
        }
        for name, call in forms.items():
            yield f"{name}, {str(dtype).removeprefix('torch.')} {layout}", call


def run(only: str, marks: Path) -> None:
    """What runs under the emulator: each call once, and how many launches had been counted behind it."""
    stats = Path(os.environ["PTXEMU_STATS"])
    rows = []
    for name, call in calls():
        if only in name:
            before = len(stats.read_text().splitlines())
            outputs = call().numel()
            torch.cuda.synchronize()
            rows.append({"name": name, "outputs": outputs, "launches": [before, len(stats.read_text().splitlines())]})
    marks.write_text(json.dumps(rows))


def summary(launches: list[dict], outputs: int) -> dict[str, float]:
    def total(*keys: str) -> float:
        return sum(functools.reduce(lambda d, key: d[key], keys, launch) for launch in launches)

    shared = total("shared_load", "ideal") + total("shared_store", "ideal")
    return {
        "launches": len(launches),
        "instructions": total("warp_inst_total") * 32 / outputs,
        "traffic": 32
        * (total("l2_read_sectors") + total("global_store", "sectors"))
        / (total("dram_read_bytes") + total("dram_write_bytes")),
        "conflict": (total("shared_load", "wavefronts") + total("shared_store", "wavefronts")) / shared if shared else 1.0,
    }


def goal(name: str) -> str:
    op, rest = name.split(", ")
    value = FILTER_GOALS[rest.split()[1]] if op == "upfirdn2d filter" else GOALS.get(op)
    return "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="calls whose name contains TEXT")
    parser.add_argument("--markdown", action="store_true", help="print a table for docs/cuda.md")
    parser.add_argument("--marks", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.marks:
        return run(options.only, options.marks)
    if "PTXEMU" not in os.environ:
        parser.error("PTXEMU must name the emulator's folder")
    with tempfile.TemporaryDirectory() as folder:
        stats, marks = Path(folder) / "stats.jsonl", Path(folder) / "marks.json"
        again = [sys.executable, __file__, "--only", options.only, "--marks", str(marks)]
        subprocess.run([Path(os.environ["PTXEMU"]) / "stats", stats, *again], check=True)
        rows, launches = json.loads(marks.read_text()), [json.loads(line) for line in stats.read_text().splitlines()]
    columns = ["call", "launches", "instr.", "goal", "traffic", "conflict"]
    row = "| " + " | ".join(["{}"] * 6) + " |" if options.markdown else "{:<46} {:>8} {:>7} {:>5} {:>8} {:>8}"
    print(row.format(*columns))
    if options.markdown:
        print("|---" * 6 + "|")
    for r in rows:
        s = summary(launches[slice(*r["launches"])], r["outputs"])
        numbers = [f"{s['instructions']:.1f}", goal(r["name"]), f"{s['traffic']:.2f}", f"{s['conflict']:.2f}"]
        print(row.format(r["name"], s["launches"], *numbers))


if __name__ == "__main__":
    main()
