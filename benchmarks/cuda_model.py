"""A model, not a measurement: time per layer and per training step of StyleGAN2 on several cards, out of the counts of cuda_layers.py.

    python benchmarks/cuda_model.py counts.json [--resolution 1024] [--plot docs/cuda-model.png] [--markdown]

Three ways of doing each layer in float16: "fused" (this library's convolution), "composed" (scaling, cuDNN, fused epilogue) and "unfused"
(weights of their own for each sample, a grouped convolution, the filter as a depthwise one, one pass over memory for each operation).

Assumptions. A launch takes LAUNCH, and its largest bound over REACHED: what DRAM, L2, issue slots, L1 with shared memory, FP32, SFU and
tensor cores need at the least for what was counted (published peaks; a wave that does not fill the card counts whole). cuDNN's
convolution is one launch at REACHED of the tensor peak or of DRAM, however small; mma.sync reaches MMA_SYNC of the tensor peak on Hopper
and later, cuDNN all of it. The kernels' plans are those for an A100's 108 multiprocessors. Left out: cache hits between launches, latency,
the host, the mapping network, losses and optimisers. R1 and the path length are counted as two forward and two backward passes, the
latter at the whole batch.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cuda_shapes import SMALL, Layer, discriminator, generator

LAUNCH = 3e-6  # seconds
REACHED = 0.75
MMA_SYNC = 0.6


@dataclass(frozen=True)
class Card:
    """Published peaks: multiprocessors, boost clock in GHz, DRAM and L2 in GB/s, FP32 lanes of a multiprocessor, 128-byte wavefronts of its
    L1 and shared memory a clock, dense float16 TFLOP/s with float32 sums."""

    processors: int
    clock: float
    dram: float
    l2: float
    fp32: int
    wavefronts: float
    tensor: float
    mma_sync: float = 1


CARDS = {
    "T4": Card(40, 1.59, 320, 1270, 64, 0.5, 65),
    "A100": Card(108, 1.41, 2039, 5120 * 1.41, 64, 1, 312),
    "H100": Card(132, 1.98, 3352, 5120 * 1.755, 128, 1, 989, MMA_SYNC),
    "RTX 4090": Card(128, 2.52, 1008, 2048 * 2.52, 128, 1, 165),
}
SFU = 16  # lanes of a multiprocessor
NOT_ISSUED = ("mov", "param")  # PTX that ptxas drops, mostly
MEMORY = ("ld_global", "st_global", "local", "atomic", "cp_async", "ld_shared", "st_shared", "warp")


# 1. Launches


def conv_read_bytes(row: dict, launch: dict) -> float:
    """What a convolution's launch reads of distinct memory: neighbouring tiles and all blocks' weights lie in the L2 cache."""
    layer, n = Layer(**row["layer"]), row["batch"]
    side_x, side_y = layer.conv_sizes
    x, y, w = 2 * n * side_x**2 * layer.in_channels, 2 * n * side_y**2 * layer.out_channels, 2 * layer.weight_count()
    if row["direction"] != "backward":
        return x + w
    if "weight_kernel" in launch["kernel"]:
        return x + y
    return y + w + (x if layer.network == "G" else 0)  # x for the styles' gradient


def bounds(row: dict, launch: dict, card: Card) -> dict[str, float]:
    """Seconds that each resource needs at the least."""
    blocks, n = math.prod(launch["grid"]), launch["warp_inst"]
    busiest = math.ceil(blocks / card.processors) / blocks / (card.clock * 1e9)  # share of the multiprocessor that has most to do
    read = launch["dram_read_bytes"]
    if launch["mma"]:
        read = min(read, conv_read_bytes(row, launch))
    sectors = launch["global_load"]["sectors"] + launch["global_store"]["sectors"]
    flops = sum(m["flops"] for m in launch["mma"].values())
    per_clock = card.tensor * 1e12 * card.mma_sync / (card.processors * card.clock * 1e9)  # FLOP of a multiprocessor
    return {
        "DRAM": (read + launch["dram_write_bytes"]) / (card.dram * 1e9),
        "L2": 32 * (launch["l2_read_sectors"] + launch["global_store"]["sectors"]) / (card.l2 * 1e9),
        "issue": (sum(n.values()) - sum(n.get(c, 0) for c in NOT_ISSUED)) / 4 * busiest,
        "L1": max(sum(n.get(c, 0) for c in MEMORY), launch["shared_wavefronts"] + sectors / 4) / card.wavefronts * busiest,
        "FP32": n.get("fp32", 0) * 32 / card.fp32 * busiest,
        "SFU": n.get("sfu", 0) * 32 / SFU * busiest,
        "tensor": flops / per_clock * busiest,
    }


def dense(macs: float, touched: float, card: Card) -> float:
    """cuDNN's convolution."""
    return max(2 * macs / (card.tensor * 1e12), touched / (card.dram * 1e9)) / REACHED + LAUNCH


def a_pass(touched: float, card: Card) -> float:
    return touched / (card.dram * 1e9) / REACHED + LAUNCH


def counted(row: dict, card: Card) -> float:
    """Seconds of one direction of a layer, as it was counted: our launches, aten's, cuDNN's."""
    seconds = sum(max(bounds(row, launch, card).values()) / REACHED + LAUNCH for launch in row["launches"])
    for call in row["library"]:
        conv = call.get("convolution")
        seconds += dense(conv["macs"], conv["bytes"], card) if conv else a_pass(call["bytes"], card)
    return seconds


# 2. The unfused sequence


def unfused(layer: Layer, n: int, backward: bool, card: Card) -> float:
    """Seconds of a layer's forward pass, or of its backward pass: a pass over memory for each operation, whose backward reads one image
    more than its forward."""
    side_x, side_y = layer.conv_sizes
    x, y, w = n * side_x**2 * layer.in_channels, n * side_y**2 * layer.out_channels, layer.weight_count()
    own = w * (n if layer.network == "G" else 1)  # weights in use
    final = n * layer.out_size**2 * layer.out_channels
    behind = {"rgb": 2, "skip": 0}.get(layer.kind, 4) + (layer.kind in ("same", "up"))  # (noise,) bias, activation, gain, clamp
    passes = [(6 if backward else 4) * final] * behind
    if layer.kind in ("up", "down", "skip"):
        before, after = (y, final) if layer.kind == "up" else (n * layer.in_size**2 * layer.in_channels, x)
        passes.append(2 * (before + after))
    # w s; with demodulation w^2, its sum, times d; to 16 bits. All but the last in float32.
    modulation = {"same": 3, "up": 3, "rgb": 1}.get(layer.kind, 1)
    passes += [(12 if backward else 8) * own] * modulation + [6 * own]
    convolution = dense(layer.macs(n), 2 * (x + y + own), card)
    return sum(a_pass(p, card) for p in passes) + convolution * (2 if backward else 1)


# 3. Layers and steps


class Times:
    """Modelled seconds by layer, way, direction and batch on one card."""

    def __init__(self, rows: Iterable[dict], card: Card) -> None:
        self.card = card
        self.seconds = {(Layer(**r["layer"]), r["way"], r["direction"], r["batch"]): counted(r, card) for r in rows}
        # Where the library chooses its own convolution, all that it does then was counted, and stands for "fused" too.
        self.fused_by_choice = {(layer, n) for layer, way, direction, n in self.seconds if (way, direction) == ("auto", "backward")}

    def of(self, layer: Layer, way: str, direction: str, n: int) -> float:
        if way == "unfused":
            return unfused(layer, n, direction == "backward", self.card)
        if way in ("auto", "fused") and (layer, n) in self.fused_by_choice:
            way = "auto"
        elif way == "auto" or (layer, way, "forward", n) not in self.seconds:  # not counted fused: the discriminator's small layers
            way = "composed"
        if direction == "inference" and layer.network == "D":
            direction = "forward"
        return self.seconds[layer, way, direction, n]

    def layer(self, layer: Layer, way: str, n: int) -> float:
        """Forward and backward."""
        return self.of(layer, way, "forward", n) + self.of(layer, way, "backward", n)

    def steps(self, resolution: int, way: str, n: int) -> dict[str, float]:
        """Seconds of the four updates of training."""

        def of(network: list[Layer], direction: str) -> float:
            return sum(self.of(layer, way, direction, n) for layer in network)

        G, D = generator(resolution), discriminator(resolution)
        g_image, g, g_back = (of(G, direction) for direction in ("inference", "forward", "backward"))
        d, d_back = of(D, "forward"), of(D, "backward")
        return {
            "G": g + d + d_back + g_back,
            "D": g_image + 2 * (d + d_back),
            "R1": 2 * (d + d_back),
            "path length": 2 * (g + g_back),
        }


def speedups(rows: list[dict], resolution: int, n: int) -> list[list[str]]:
    """Per layer that was counted fused, how many times as fast that is as composed on each card, forward and backward together."""
    times = {name: Times(rows, card) for name, card in CARDS.items()}
    both = {Layer(**r["layer"]) for r in rows if r["way"] != "composed" and r["direction"] == "backward" and r["batch"] == n}
    table = []
    for layer in [layer for layer in generator(resolution) + discriminator(resolution) if layer in both]:
        ratios = {name: t.layer(layer, "composed", n) / t.layer(layer, "fused", n) for name, t in times.items()}
        chosen = "fused" if (layer, n) in times["A100"].fused_by_choice else "composed"
        table.append([str(layer), chosen, *(f"{r:.2f}" for r in ratios.values())])
    return table


def step_table(rows: list[dict], resolution: int, n: int) -> list[list[str]]:
    """Milliseconds of each update on each card, by way, and of a whole step: R1 every 16th, the path length every 4th time."""
    times = {name: Times(rows, card) for name, card in CARDS.items()}
    table = []
    for name, t in times.items():
        for way in ("unfused", "composed", "fused", "auto"):
            s = t.steps(resolution, way, n)
            whole = s["G"] + s["D"] + s["R1"] / 16 + s["path length"] / 4
            table.append([f"{name}, {way}", *(f"{1e3 * v:.2f}" for v in (*s.values(), whole))])
    return table


def small_layers(rows: list[dict], batches: list[int]) -> list[list[str]]:
    """Layers that wait for launches, in a frozen network: launches, and how many times as fast fused is as composed."""
    of = {(Layer(**r["layer"]), r["way"], r["batch"]): r for r in rows if r["direction"] == "frozen"}
    table = []
    for layer, n in ((layer, n) for layer in generator(SMALL) for n in batches):
        composed = of[layer, "composed", n]
        fused = of[(layer, "fused", n) if (layer, "fused", n) in of else (layer, "auto", n)]
        launches = [str(len(r["launches"]) + len(r["library"])) for r in (composed, fused)]
        table.append([str(layer), str(n), *launches, *(f"{counted(composed, c) / counted(fused, c):.2f}" for c in CARDS.values())])
    return table


SMALL_HEAD = ["layer", "samples", "launches composed", "launches fused", *CARDS]
STEP_HEAD = ["ms", "G", "D", "R1", "path length", "step"]


def print_table(head: list[str], body: list[list[str]], markdown: bool) -> None:
    if markdown:
        print("\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body]))
        return
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    for cells in [head, *body]:
        print(cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)), sep="  ")


def plot(rows: list[dict], resolution: int, n: int, path: Path) -> None:
    """Time per layer, forward and backward, of the three ways."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    layers = [layer for layer in generator(resolution) if layer.kind != "rgb"]
    figure, axes = plt.subplots(len(CARDS), 1, figsize=(9, 2.3 * len(CARDS)), sharex=True, layout="constrained")
    for axis, (name, card) in zip(axes, CARDS.items(), strict=True):
        times = Times(rows, card)
        for way, colour in (("unfused", "#bbbbbb"), ("composed", "#3b75af"), ("fused", "#d1562c")):
            axis.plot([times.layer(layer, way, n) * 1e3 for layer in layers], "o-", color=colour, label=way, markersize=4)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_ylabel(f"{name}\nmilliseconds")
        axis.grid(axis="y", alpha=0.3)
    axes[0].legend(ncols=3, frameon=False)
    axes[0].set_title(f"Model: forward and backward of the generator's layers, float16, batch {n}")
    labels = [f"{layer.kind} {layer.size}\n{layer.in_channels}-{layer.out_channels}" for layer in layers]
    axes[-1].set_xticks(range(len(layers)), labels, rotation=90, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=Path, help="JSON file of cuda_layers.py")
    parser.add_argument("--resolution", type=int, default=1024, help="of the networks, in pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="samples, as counted (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the time of each layer")
    parser.add_argument("--markdown", action="store_true", help="print tables for docs/cuda.md")
    options = parser.parse_args()
    rows, n = json.loads(options.counts.read_text()), options.batch
    print_table(STEP_HEAD, step_table(rows, options.resolution, n), options.markdown)
    print()
    print_table(["fused against composed", "rule", *CARDS], speedups(rows, options.resolution, n), options.markdown)
    print()
    print_table(SMALL_HEAD, small_layers(rows, [1, n]), options.markdown)
    if options.plot:
        plot(rows, options.resolution, n, options.plot)


if __name__ == "__main__":
    main()
