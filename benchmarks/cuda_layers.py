"""Counts every convolution of StyleGAN2's networks at full size in an emulator: what cuda_convolution.py and cuda_model.py make tables of.

    PTXEMU=/path/to/ptxemu python benchmarks/cuda_layers.py counts.json [--resolutions 256,1024] [--batch 4]

Needs the CUDA library, built with PTX as .ci/test-cuda does, first on PYTHONPATH, and PTXEMU, the folder of the emulator; no GPU. Each
layer runs as its network calls it in float16, with the fused convolution ("fused") and, its time being modelled, with a convolution that
computes nothing in the place of cuDNN's ("composed"): in inference, forward in training, and backward with all gradients. Where the library
chooses its own convolution ("auto"), that is counted in the place of "fused". Of a kernel's blocks a sample runs (cuda_sample.py). Layers
up to 32x32 are counted with one sample too, and in a frozen network.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from cuda_sample import Sizes, sampled_package, scaled
from cuda_shapes import SMALL, Layer, discriminator, generator

WAYS = {"auto": 0, "composed": 1, "fused": 2}  # of set_convolution
SAMPLED_MMA = 400_000  # about as many of a convolution's tensor-core instructions are emulated
ALL = 2**31  # blocks
PROCESSES = 2


def sample_sizes(layer: Layer, n: int) -> Sizes:
    """A block makes at most 256 pixels of 64 channels; one of the weights' gradient goes through many of them."""
    if layer.size <= SMALL and layer.fewest_mma(n) < SAMPLED_MMA / 2:
        return {"modulated_conv2d": ALL, "conv_blur": ALL, "": 16}
    of_block = 8 * layer.kernel**2 * max(layer.in_channels, layer.out_channels)
    blocks = next(size for size in (12, 24, 48) if size == 48 or SAMPLED_MMA / of_block < 2 * size)
    return {"weight_kernel": 4, "modulated_conv2d": blocks, "conv_blur": blocks, "": 16}


def cases(resolutions: list[int], batch: int) -> Iterator[tuple[Layer, int]]:
    """Layers with their batches."""
    for layer in dict.fromkeys(layer for r in resolutions for layer in generator(r) + discriminator(r)):
        for n in (1, batch) if layer.size <= SMALL and layer.network == "G" and batch > 1 else (batch,):
            yield layer, n


def calls(layer: Layer, n: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Directions, and what runs them."""
    import torch

    from stylegan_ops import modulated_conv2d, setup_filter
    from stylegan_ops.ops._demodulation import NetworkStyles

    def empty(*shape, dtype=torch.float32, **layout):  # what is computed does not matter
        return torch.empty(shape, dtype=dtype, device="cuda", **layout).requires_grad_()

    half = {"dtype": torch.float16, "memory_format": torch.channels_last}
    x = empty(n, layer.in_channels, layer.in_size, layer.in_size, **half)
    w = empty(layer.out_channels, layer.in_channels, layer.kernel, layer.kernel)
    b = empty(layer.out_channels) if layer.kind != "skip" else None
    styles = empty(n, layer.in_channels) if layer.network == "G" else None
    noise = empty(n, 1, layer.out_size, layer.out_size) if layer.kind in ("same", "up") else None
    up, down = 1 + (layer.kind == "up"), 1 + (layer.kind in ("down", "skip"))
    settings = {
        "up": up,
        "down": down,
        "padding": layer.kernel // 2,
        "resample_filter": setup_filter([1, 3, 3, 1]).cuda() if up * down > 1 else None,
        "demodulate": layer.kind != "rgb",
        "flip_weight": up == 1,
        "act": "linear" if layer.kind in ("rgb", "skip") else "lrelu",
        "clamp": 256,
    }

    def run():
        return modulated_conv2d(x, w, styles, noise, bias=b, **settings)

    def inference():
        with torch.no_grad():
            return run()

    def frozen():
        with torch.no_grad():
            return modulated_conv2d(x, w, given, noise, bias=b, **settings)

    if layer.network == "G":
        yield "inference", inference
    if layer.network == "G" and layer.size <= SMALL:  # as a frozen network calls it: styles given, weights kept from the first call on
        (given,) = NetworkStyles([w], [settings["demodulate"]], torch.float32, True, 1e-8)(styles.detach()[None])
        frozen()
        yield "frozen", frozen
    y = []
    yield "forward", lambda: y.append(run())
    leaves = [t for t in (x, w, styles, noise, b) if t is not None]
    dy = torch.empty_like(y[0])
    yield "backward", lambda: torch.autograd.grad(y[0], leaves, dy)


def replace_library_convolutions(log: list[dict]):
    """aten's convolutions compute nothing and are logged with their arithmetic; returns what keeps them replaced."""
    import torch

    def record(images: list, weight: list[int], side: int) -> None:
        macs = images[0].shape[0] * side * weight[0] * weight[1] * weight[2] * weight[3]
        log.append({"convolution": {"macs": macs, "bytes": 2 * (sum(t.numel() for t in images) + weight.numel())}})

    def pixels(t):
        return t.shape[2] * t.shape[3]

    def convolution(x, w, b, stride, padding, dilation, transposed, extra, groups):
        if transposed:
            sides = [(x.shape[d + 2] - 1) * stride[d] - 2 * padding[d] + w.shape[d + 2] + extra[d] for d in (0, 1)]
        else:
            sides = [(x.shape[d + 2] + 2 * padding[d] - w.shape[d + 2]) // stride[d] + 1 for d in (0, 1)]
        y = x.new_empty([x.shape[0], w.shape[int(transposed)], *sides]).to(memory_format=torch.channels_last)
        record([x, y], w.shape, min(pixels(x), pixels(y)))
        return y

    def convolution_backward(dy, x, w, *_):
        record([x, dy], w.shape, min(pixels(x), pixels(dy)))
        return None, torch.empty_like(w), None

    aten = torch.library.Library("aten", "IMPL")
    aten.impl("convolution", convolution, "CUDA", allow_override=True)
    aten.impl("convolution_backward", convolution_backward, "CUDA", allow_override=True)
    return aten


def aten_log(log: list[dict]):
    """Logs aten's own kernels, which the emulator does not count, with the bytes that they read and write."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    allocations = ("empty", "new_empty", "detach")

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            views = any(r.alias_info is not None and not r.alias_info.is_write for r in function._schema.returns)
            if function.namespace == "aten" and not views and not function._schema.name[6:].startswith(allocations):
                tensors = [t for t in (*args, result) if isinstance(t, torch.Tensor)]
                log.append({"aten": function._schema.name[6:], "bytes": sum(t.numel() * t.element_size() for t in tensors)})
            return result

    return Log()


def run(todo: list[dict], sizes: Sizes) -> None:
    """What runs under the emulator: prints a list of rows, one for each way and direction, for each case."""
    import torch

    import stylegan_ops  # noqa: F401  (loads the library)

    stats, log = Path(os.environ["PTXEMU_STATS"]), []
    library = replace_library_convolutions(log)
    for task in todo:
        layer, rows, ours = Layer(**task["layer"]), [], False
        for way, value in WAYS.items():
            # The discriminator's layers run fused only where that may be chosen.
            if way == "fused" and (ours or (layer.network == "D" and layer.size < 128)):
                continue
            torch.ops.stylegan_ops.set_convolution(value)
            for direction, call in calls(layer, task["batch"]):
                log.clear()
                stats.write_text("")
                with aten_log(log):
                    call()
                torch.cuda.synchronize()
                launches = [slim(scaled(json.loads(line), sizes)) for line in stats.read_text().splitlines()]
                rows.append({**task, "way": way, "direction": direction, "launches": launches, "library": log.copy()})
                ours |= way == "auto" and any(launch["mma"] for launch in launches)
                if way == "auto" and not ours:
                    break
        print(json.dumps(rows), flush=True)
    del library


def slim(launch: dict) -> dict:
    """What the tables need of a launch, in whole numbers."""
    keys = ("kernel", "grid", "block", "warp_inst", "mma", "global_load", "global_store", "l2_read_sectors")
    shared = launch["shared_load"]["wavefronts"] + launch["shared_store"]["wavefronts"]

    def whole(value):
        return {k: whole(v) for k, v in value.items()} if isinstance(value, dict) else round(value) if isinstance(value, float) else value

    kept = {k: launch[k] for k in (*keys, "dram_read_bytes", "dram_write_bytes")}
    return {**whole({**kept, "shared_wavefronts": shared}), "factor": launch["factor"]}


def emulated(todo: list[dict], sizes: Sizes) -> Iterator[list[dict]]:
    """The rows of each case that run() prints, in a process under the emulator."""
    package = Path(find_spec("stylegan_ops").origin).parent
    with tempfile.TemporaryDirectory() as folder:
        sampled_package(package, Path(folder), sizes)
        command = [Path(os.environ["PTXEMU"]) / "stats", Path(folder) / "stats.jsonl", sys.executable, __file__, "--run", json.dumps(sizes)]
        env = {**os.environ, "PYTHONPATH": folder, "PTXEMU_CHECK": "0"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
            process.stdin.write(json.dumps(todo))
            process.stdin.close()
            yield from map(json.loads, process.stdout)
        if process.returncode != 0:
            raise RuntimeError(f"the emulated process ended with status {process.returncode}")


def count(resolutions: list[int], batch: int, report: Callable[[], object] = lambda: None) -> list[dict]:
    """Counts all cases, in PROCESSES at once, each for one size of the sample; `report` is called after each case."""
    groups: dict[str, list[dict]] = {}
    for layer, n in cases(resolutions, batch):
        groups.setdefault(json.dumps(sample_sizes(layer, n)), []).append({"layer": asdict(layer), "batch": n})

    def share(job: tuple[str, list[dict]]) -> list[dict]:
        rows = []
        for of_case in emulated(job[1], json.loads(job[0])):
            rows += of_case
            report()
        return rows

    jobs = [(sizes, todo[i::PROCESSES]) for sizes, todo in groups.items() for i in range(PROCESSES) if todo[i::PROCESSES]]
    with ThreadPoolExecutor(PROCESSES) as pool:
        return [row for rows in pool.map(share, jobs) for row in rows]


DEVIATION_HEAD = ["layer, direction: kernel", "blocks", "mma", "instructions", "L2 sectors", "stored sectors", "wavefronts"]


def deviations() -> list[list[str]]:
    """Counts scaled from a sample over the whole launch's, of three layers that are small enough to run whole."""
    layers = Layer("same", 64, 64, 32), Layer("up", 128, 64, 64), Layer("same", 96, 80, 37)
    todo = [{"layer": asdict(layer), "batch": 4} for layer in layers]
    whole, sample = ([row for rows in emulated(todo, {"": size}) for row in rows] for size in (ALL, 8))
    table = []
    for row, all_blocks in ((r, w) for r, w in zip(sample, whole, strict=True) if r["direction"] in ("forward", "backward")):
        for part, launch in zip(row["launches"], all_blocks["launches"], strict=True):
            if launch["mma"]:
                kernel = "weights" if "weight_kernel" in launch["kernel"] else "images"
                ratios = [f"{p / w:.3f}" for p, w in zip(figures(part), figures(launch), strict=True)]
                table.append([f"{Layer(**row['layer'])}, {row['direction']}: {kernel}", str(math.prod(launch["grid"])), *ratios])
    return table


def figures(launch: dict) -> list[float]:
    mma = sum(m["count"] for m in launch["mma"].values())
    instructions, stored = sum(launch["warp_inst"].values()), launch["global_store"]["sectors"]
    return [mma, instructions, launch["l2_read_sectors"], stored, launch["shared_wavefronts"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, help="JSON file that is written")
    parser.add_argument(
        "--resolutions", type=lambda text: [int(r) for r in text.split(",")], default=[256, 1024], help="pixels (default: 256,1024)"
    )
    parser.add_argument("--batch", type=int, default=4, help="samples (default: %(default)s)")
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(json.load(sys.stdin), options.run)
        sys.stdout.flush()
        os._exit(0)  # at the interpreter's end the emulator's threads may abort the process
    if options.output is None or "PTXEMU" not in os.environ:
        parser.error("needs the name of a file to write, and PTXEMU, the emulator's folder")
    from tqdm import tqdm

    with tqdm(total=len(list(cases(options.resolutions, options.batch))), unit="layer") as progress:
        options.output.write_text(json.dumps(count(options.resolutions, options.batch, progress.update)))


if __name__ == "__main__":
    main()
