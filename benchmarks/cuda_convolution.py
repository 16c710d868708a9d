"""What the fused convolution costs beyond its arithmetic, for every layer of StyleGAN2's generator, out of the counts of cuda_layers.py.

    python benchmarks/cuda_convolution.py counts.json [--resolution 1024] [--batch 4] [--markdown]

    mma       tensor-core instructions over the fewest that the true arithmetic takes, forward, in the gradient of the input (where the
              convolution is ours) and of the weights
    FLOP/B    arithmetic over the bytes of x, w and y
    issue ..  what issue slots, L1 with shared memory, and L2 need, over what the tensor cores need, on the model of an A100: the worst
              of the layer's kernels
    floor     what DRAM needs over the largest of all bounds: the least of the layer's kernels
    blocks    of a launch for each of an A100's multiprocessors, the fewest of the layer's kernels, and the same with one sample

Layers without a goal: toRGB has 3 channels, which fill less than a fragment.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from cuda_model import CARDS, bounds, print_table
from cuda_shapes import Layer, generator

A100 = CARDS["A100"]
PARTS = ("forward", "input", "weights")
HEAD = ["layer", *(f"mma {part}" for part in PARTS), "FLOP/B", "issue", "L1", "L2", "floor", "blocks", "blocks, 1 sample"]


def kernels(rows: list[dict], layer: Layer, n: int) -> dict[str, tuple[dict, dict]]:
    """The launch that does a part's arithmetic, with its row; without the input's gradient where that is cuDNN's."""
    found = {}
    for row in rows:
        if (
            Layer(**row["layer"]) == layer
            and row["way"] != "composed"
            and row["batch"] == n
            and row["direction"] in ("forward", "backward")
        ):
            for launch in row["launches"]:
                if launch["mma"]:
                    backward = "weights" if "weight_kernel" in launch["kernel"] else "input"
                    found["forward" if row["direction"] == "forward" else backward] = (row, launch)
    return found


def mma(launch: dict) -> float:
    return sum(m["count"] for m in launch["mma"].values())


def measures(rows: list[dict], layer: Layer, n: int) -> dict:
    """A layer's numbers, as the columns are described above."""
    parts = kernels(rows, layer, n)
    b = {part: bounds(row, launch, A100) for part, (row, launch) in parts.items()}
    single = kernels(rows, layer, 1)

    def blocks(of: dict) -> float:
        return min((math.prod(launch["grid"]) / A100.processors for _, launch in of.values()), default=math.nan)

    return {
        "mma": {part: mma(launch) / layer.fewest_mma(n) for part, (_, launch) in parts.items()},
        "intensity": layer.intensity(n),
        **{key: max(v[key] / v["tensor"] for v in b.values()) for key in ("issue", "L1", "L2")},
        "floor": min(v["DRAM"] / max(v.values()) for v in b.values()),
        "blocks": blocks(parts),
        "single": blocks(single),
    }


def misses(layer: Layer, m: dict) -> list[str]:
    """The goals that a layer does not meet."""
    wide = min(layer.in_channels, layer.out_channels) >= 16
    found = [f"{part} mma {v:.2f} > 1.5" for part, v in m["mma"].items() if wide and v > 1.5]
    if m["intensity"] > 200:
        found += [f"{key} {m[key]:.2f} > 0.8" for key in ("issue", "L1", "L2") if m[key] > 0.8]
    if layer.size == 1024 and layer.out_channels <= 32 and m["floor"] < 0.85:
        found.append(f"floor {m['floor']:.0%} < 85 %")
    if layer.size <= 32:
        found += [f"{name} {m[key]:.2f} < 0.8" for key, name in (("blocks", "blocks"), ("single", "blocks, 1 sample")) if m[key] < 0.8]
    return found


def overheads(rows: list[dict], resolution: int, n: int) -> dict[str, float]:
    """Instructions over the fewest, summed over the generator's layers, for each part and all together."""
    done, needed = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
    for layer in generator(resolution):
        for part, (_, launch) in kernels(rows, layer, n).items():
            done[part] += mma(launch)
            needed[part] += layer.fewest_mma(n)
    return {**{part: done[part] / needed[part] for part in PARTS}, "all": sum(done.values()) / sum(needed.values())}


def table(rows: list[dict], resolution: int, n: int) -> list[list[str]]:
    body = []
    for layer in generator(resolution):
        m = measures(rows, layer, n)
        cells = [f"{m['mma'][part]:.2f}" if part in m["mma"] else "cuDNN" for part in PARTS]
        cells += [f"{m['intensity']:.0f}", *(f"{m[key]:.2f}" for key in ("issue", "L1", "L2")), f"{m['floor']:.0%}"]
        body.append([str(layer), *cells, *("" if math.isnan(m[key]) else f"{m[key]:.2f}" for key in ("blocks", "single"))])
    return body


def summary(rows: list[dict], resolutions: list[int], n: int) -> list[str]:
    """A list: the sums against their goal, and every goal that is missed."""
    lines = []
    for resolution in resolutions:
        o = overheads(rows, resolution, n)
        parts = ", ".join(f"{part} {o[part]:.3f}" for part in PARTS)
        lines.append(f"- Tensor-core instructions over the fewest, the generator at {resolution} px: {o['all']:.3f} (goal 1.18; {parts}).")
    missed = [
        f"- missed by {layer}: {', '.join(found)}"
        for layer in generator(max(resolutions))
        if (found := misses(layer, measures(rows, layer, n)))
    ]
    return lines + (missed or ["- No layer misses a goal."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=Path, help="JSON file of cuda_layers.py")
    parser.add_argument("--resolution", type=int, default=1024, help="pixels, as counted (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="samples, as counted (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print a table for docs/cuda.md")
    options = parser.parse_args()
    rows = json.loads(options.counts.read_text())
    print_table(HEAD, table(rows, options.resolution, options.batch), options.markdown)
    print("\n".join(["", *summary(rows, [options.resolution], options.batch)]))


if __name__ == "__main__":
    main()
