"""rosinality's StyleGAN (style-based-gan-pytorch): `{generator, discriminator, ..., g_running}`, or the generator's state dict alone.

A generator there adds the bias of its upsampling convolution before the blur, whose borders are zeros, and here it stands behind: the two
are equal where that bias is 0, and only the borders differ where it is not. All else is a matter of scales, since every weight there, also
that of the noise, is multiplied by sqrt(2 / fan_in).
"""

from __future__ import annotations

import math
from typing import Any

import torch

from stylegan_ops.ops import setup_filter

from .arguments import stylegan_generator
from .layout import FLIP, Step, Table, count, is_state_dict, numbers, ones, resolutions, times, to_ours
from .report import Report
from .stored import Stored
from .stylegan_names import stylegan_parts
from .weights import Weights

NAME = "style-based"
_NETWORKS = {"g_running": "G_ema", "generator": "G"}
_CONST = "generator.progression.0.conv1.input"
_BLUR = [1, 2, 1]


def _less_on_scales(number: float) -> Step:
    def change(x: torch.Tensor, sign: float) -> torch.Tensor:
        half = len(x) // 2
        return torch.cat([x[:half] + sign * number, x[half:]])

    return Step("shifted", lambda x: change(x, -1), lambda x: change(x, 1))


_SCALE_BIAS = _less_on_scales(1)
_SQRT2 = times(math.sqrt(2))
_NOISE = Step("scaled", lambda x: x.flatten() * math.sqrt(2 / x.numel()), lambda x: (x / math.sqrt(2 / x.numel()))[None, :, None, None])
_FUSED = Step("transposed", lambda x: x.permute(1, 0, 2, 3) / 4, lambda x: 4 * x.permute(1, 0, 2, 3))


def matches(tree: Any) -> bool:
    """A dict with such generators, or one alone."""
    return bool(_state_dicts(tree))


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The generators, G_ema first."""
    found = {name: _generator(name, tensors, report) for name, tensors in _state_dicts(tree).items()}
    if not is_state_dict(tree):
        for name in sorted(map(str, set(tree) - set(_NETWORKS))):
            report.add("ignored", name)
    return found


def _state_dicts(tree: Any) -> dict[str, dict[str, Stored]]:
    if is_state_dict(tree):
        return {"G_ema": tree} if _CONST in tree else {}
    states = tree if isinstance(tree, dict) else {}
    return {ours: states[theirs] for theirs, ours in _NETWORKS.items() if is_state_dict(states.get(theirs)) and _CONST in states[theirs]}


def _generator(name: str, tensors: dict[str, Stored], report: Report) -> Weights:
    steps = count(tensors, r"generator\.to_rgb\.(\d+)\.")
    fused = {i for i in range(1, steps) if f"generator.progression.{i}.conv1.0.weight" in tensors}
    state = to_ours(_table(steps, len(numbers(tensors, r"style\.(\d+)\.")), fused), tensors, report, _blurs(steps, fused))
    state["synthesis.epilogue4_0.bias"] = torch.zeros(state["synthesis.const"].shape[0])
    biases = {r: float(state[f"synthesis.epilogue{r}_0.bias"].abs().max()) for r in resolutions(steps)[1:]}
    if largest := max(biases.values(), default=0.0):
        # A 3x3 binomial blur with zeros outside keeps 3/4 of a constant at an edge and 9/16 in a corner.
        report.inexact.append(
            f"{name}: biases before the blur are up to {largest:.3g}: features differ by up to {7 / 16 * largest:.3g} in the corners of a "
            f"layer and {largest / 4:.3g} along its edges, before instance norm; not at all inside"
        )
    report.notes.append(f"{name}: instance norms have PyTorch's eps, 1e-5; at which size it was trained is not in the file")
    kwargs = {**stylegan_generator(state), "blur_filter": _BLUR, "norm_eps": 1e-5}
    return Weights("stylegan", "Generator", kwargs, state)


def _blurs(steps: int, fused: set[int]) -> dict[str, torch.Tensor]:
    names = [f"generator.progression.{i}.conv1.{1 if i in fused else 2}" for i in range(1, steps)]
    return {f"{name}.{buffer}": setup_filter(_BLUR) for name in names for buffer in ("weight", "weight_flip")}


def _table(steps: int, num_layers: int, fused: set[int]) -> Table:
    table: Table = {}
    for part, ours in stylegan_parts(steps, num_layers):
        block = f"generator.progression.{part.i}"
        weight = "weight_orig" if part.part == "weight" else "bias"
        up = f"{block}.conv1.0." if part.i in fused else f"{block}.conv1.1.conv."
        match part.kind:
            case "dense":
                table[f"style.{2 * part.i + 1}.linear.{weight}"] = (ours, times(100))
            case "const":
                table[_CONST] = (ours, ones(1))
            case "weight" if part.k == 1:
                table[f"{block}.conv2.conv.weight_orig"] = (ours,)
            case "weight" if part.i in fused:
                table[f"{up}weight"] = (ours, _FUSED, FLIP)
            case "weight":
                table[f"{up}weight_orig"] = (ours,)
            case "bias" if part.k == 1:
                table[f"{block}.conv2.conv.bias"] = (ours,)
            case "bias" if part.i > 0:
                table[f"{up}bias"] = (ours,)
            case "noise":
                table[f"{block}.noise{part.k + 1}.weight_orig"] = (ours, _NOISE)
            case "style":
                table[f"{block}.adain{part.k + 1}.style.linear.{weight}"] = (ours, _SQRT2 if part.part == "weight" else _SCALE_BIAS)
            case "torgb":
                table[f"generator.to_rgb.{part.i}.conv.{weight}"] = (ours, *([_SQRT2] if part.part == "weight" else []))
    return table
