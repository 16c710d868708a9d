"""genforce's StyleGAN2, StyleGAN and ProGAN: `{models: {generator, discriminator, generator_smooth}, ...}`, these alone, or one state dict.

Against NVlabs' names, StyleGAN2's weights of upsampling convolutions are flipped and its style biases are 1 less, which rounds once each
way. StyleGAN's are those of the published network, see `karras2019`. Discriminators are StyleGAN2's alone.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import torch
from torch import nn

from stylegan_ops._pickle_machine import Fault
from stylegan_ops.models import progan, stylegan, stylegan2
from stylegan_ops.ops import setup_filter

from .arguments import progan_generator, stylegan2_discriminator, stylegan2_generator, stylegan_generator
from .layout import FLIP, Step, Table, count, flat, is_state_dict, numbers, plus, resolutions, to_ours, to_theirs, without_lod
from .report import Report
from .stored import Stored
from .stylegan_names import Part, stylegan_table
from .weights import Weights
from .writable import FILTER, check_stylegan2

NAME = "genforce"
_NETWORKS = {"generator_smooth": "G_ema", "generator": "G", "discriminator": "D"}
_BLUR = [1, 2, 1]


def _turn(x: torch.Tensor) -> torch.Tensor:
    """A 4x4 convolution of one pixel with 3 zeros around it [C, z, 4, 4] as a fully connected layer [C 4 4, z]."""
    if x.shape[2:] != (4, 4):
        raise Fault(f"must be a 4x4 convolution (got shape {list(x.shape)})")
    return x.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, x.shape[1])


_AS_LINEAR = Step("reshaped", _turn, lambda x: x.reshape(-1, 4, 4, x.shape[1]).permute(0, 3, 1, 2).flip(2, 3))


def matches(tree: Any) -> bool:
    """A dict with such networks, or one of them alone."""
    return any(_kind(state) for state in _state_dicts(tree).values())


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The networks, G_ema first."""
    readers = {"stylegan2": _stylegan2, "stylegan": _stylegan, "progan": _progan, "discriminator": _discriminator}
    found = {}
    for name, tensors in _state_dicts(tree).items():
        if kind := _kind(tensors):
            found[name] = readers[kind](without_lod(tensors, report, "lod", "synthesis.lod"), report)
        else:
            report.add("ignored", f"{name}, which is neither a generator nor StyleGAN2's discriminator")
    return found


def write(networks: dict[str, nn.Module], file: BinaryIO, report: Report) -> None:
    """Write `{generator_smooth, generator, discriminator}`, as far as they are there.

    Raises:
        Fault: a network is one that the layout has no place for.
    """
    tree: dict[str, Any] = {}
    their_names = {ours: theirs for theirs, ours in _NETWORKS.items()}
    for name, network in networks.items():
        kwargs, state = network.init_kwargs, dict(network.state_dict())
        steps = kwargs["img_resolution"].bit_length() - 2
        if kwargs.get("c_dim"):
            raise Fault(f"{name} must have no labels for this layout (c_dim is {kwargs['c_dim']})")
        if isinstance(network, (stylegan2.Generator, stylegan2.Discriminator)):
            check_stylegan2(name, network, report)
        if isinstance(network, stylegan2.Generator):
            filters = {f"synthesis.layer{2 * i - 1}.filter.kernel": 4 * setup_filter(FILTER)[None, None] for i in range(1, steps)}
            found = to_theirs(stylegan2_table(steps, kwargs["num_layers"]), state, report, filters)
        elif isinstance(network, stylegan2.Discriminator):
            found = to_theirs(discriminator_table(steps), state, report)
        elif isinstance(network, stylegan.Generator):
            table = stylegan_table(steps, kwargs["num_layers"], _stylegan_name)
            if missing := {entry[0] for entry in table.values()} - set(state):
                raise Fault(f"{name} must be a StyleGAN in the default form of its layers with all toRGBs (lacks {min(missing)})")
            if kwargs["blur_filter"] != _BLUR or kwargs["norm_eps"] != 1e-8 or kwargs["activation"] != "lrelu" or kwargs["pixel_norm"]:
                raise Fault(f"{name} must be a StyleGAN in the default form of its layers for this layout")
            blurs = {f"synthesis.layer{2 * i}.blur.kernel": setup_filter(_BLUR)[None, None] for i in range(1, steps)}
            found = to_theirs(table, state, report, blurs | {"synthesis.lod": _lod(name, network)})
        elif isinstance(network, progan.Generator):
            found = to_theirs(progan_table(steps), state, report, {"lod": _lod(name, network)})
        else:
            report.notes.append(f"{name} is left out: of genforce's discriminators, only StyleGAN2's is known here")
            continue
        tree[their_names[name]] = found
    torch.save(tree, file)


def stylegan2_table(steps: int, num_layers: int) -> Table:
    """StyleGAN2's generator, but for its filters."""
    table: Table = {f"mapping.dense{i}.{part}": (f"mapping.fc{i}.{part}",) for i in range(num_layers) for part in ("weight", "bias")}
    table |= {"truncation.w_avg": ("mapping.w_avg", flat(1)), "synthesis.early_layer.const": ("synthesis.b4.const", flat(3, 4))}
    for i, r in enumerate(resolutions(steps)):
        for conv in ["conv1"] if i == 0 else ["conv0", "conv1"]:
            number = 2 * i - 1 if conv == "conv0" else 2 * i
            theirs, ours = f"synthesis.layer{number}", f"synthesis.b{r}.{conv}"
            table[f"{theirs}.weight"] = (f"{ours}.weight", *([FLIP] if conv == "conv0" else []))
            table[f"{theirs}.bias"] = (f"{ours}.bias",)
            table[f"{theirs}.noise"] = (f"{ours}.noise_const", flat(2, 4))
            table[f"{theirs}.noise_strength"] = (f"{ours}.noise_strength", flat(0))
            table |= _style(theirs, ours)
        theirs, ours = f"synthesis.output{i}", f"synthesis.b{r}.torgb"
        table |= {f"{theirs}.{part}": (f"{ours}.{part}",) for part in ("weight", "bias")} | _style(theirs, ours)
    return table


def _style(theirs: str, ours: str) -> Table:
    return {f"{theirs}.style.weight": (f"{ours}.affine.weight",), f"{theirs}.style.bias": (f"{ours}.affine.bias", plus(1))}


def discriminator_table(steps: int) -> Table:
    """StyleGAN2's discriminator."""
    sizes = resolutions(steps)[::-1]
    layers = [f"b{r}.{conv}" for r in sizes[:-1] for conv in ("conv0", "conv1")] + ["b4.conv", "b4.fc", "b4.out"]
    table: Table = {f"layer{k}.{part}": (f"{ours}.{part}",) for k, ours in enumerate(layers) for part in ("weight", "bias")}
    table |= {f"input0.{part}": (f"b{sizes[0]}.fromrgb.{part}",) for part in ("weight", "bias")}
    return table | {f"skip_layer{j}.weight": (f"b{r}.skip.weight",) for j, r in enumerate(sizes[:-1])}


def progan_table(steps: int) -> Table:
    """ProGAN's generator."""
    sizes = resolutions(steps)
    layers = ["synthesis.conv"] + [f"synthesis.b{r}.{conv}" for r in sizes[1:] for conv in ("conv0", "conv1")]
    table: Table = {"layer0.weight": ("synthesis.input.weight", _AS_LINEAR), "layer0.bias": ("synthesis.input_bias",)}
    table |= {f"layer{k}.{part}": (f"{ours}.{part}",) for k, ours in enumerate(layers, 1) for part in ("weight", "bias")}
    return table | {f"output{i}.{part}": (f"synthesis.torgb{r}.{part}",) for i, r in enumerate(sizes) for part in ("weight", "bias")}


def _stylegan_name(part: Part) -> Any:
    layer = f"synthesis.layer{2 * part.i + part.k}"
    return {
        "dense": f"mapping.dense{part.i}.{part.part}",
        "w_avg": ("truncation.w_avg", flat(1)),
        "const": ("synthesis.layer0.const", flat(3, 4)),
        "weight": f"{layer}.weight",
        "bias": f"{layer}.bias",
        "noise": f"{layer}.apply_noise.weight",
        "noise_const": (f"{layer}.apply_noise.noise", flat(2, 4)),
        "style": f"{layer}.style.{part.part}",
        "torgb": f"synthesis.output{part.i}.{part.part}",
    }[part.kind]


def _state_dicts(tree: Any) -> dict[str, dict[str, Stored]]:
    if is_state_dict(tree):
        return {"D" if _kind(tree) == "discriminator" else "G": tree}
    if isinstance(tree, dict) and isinstance(tree.get("models"), dict):
        tree = tree["models"]
    states = tree if isinstance(tree, dict) else {}
    return {ours: states[theirs] for theirs, ours in _NETWORKS.items() if is_state_dict(states.get(theirs))}


def _kind(tensors: dict[str, Stored]) -> str | None:
    kinds = {"synthesis.early_layer.const": "stylegan2", "synthesis.layer0.const": "stylegan", "skip_layer0.weight": "discriminator"}
    for name, kind in kinds.items():
        if name in tensors:
            return kind
    return "progan" if {"layer0.weight", "output0.weight"} <= set(tensors) else None


def _lod(name: str, network: nn.Module) -> torch.Tensor:
    synthesis = network.synthesis
    if synthesis.resolution != synthesis.resolutions[-1] or synthesis.is_fading:
        raise Fault(f"{name} must be at its full size for this layout")
    return torch.zeros(())


def _filters(tensors: dict[str, Stored], taps: list[int], gains: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """The filter for every name that ends in `.kernel`, with the gain that its sum shows."""
    found = {}
    for name, x in tensors.items():
        if name.endswith(".kernel"):
            gain = round(float(x.read().sum()))
            found[name] = (gain if gain in gains else 1) * setup_filter(taps)
    return found


def _stylegan2(tensors: dict[str, Stored], report: Report) -> Weights:
    table = stylegan2_table(count(tensors, r"synthesis\.output(\d+)\."), count(tensors, r"mapping\.dense(\d+)\."))
    state = to_ours(table, tensors, report, _filters(tensors, FILTER, (1, 4)))
    return Weights("stylegan2", "Generator", stylegan2_generator(state), state)


def _discriminator(tensors: dict[str, Stored], report: Report) -> Weights:
    steps = len(numbers(tensors, r"skip_layer(\d+)\.")) + 1
    state = to_ours(discriminator_table(steps), tensors, report, _filters(tensors, FILTER, (1,)))
    return Weights("stylegan2", "Discriminator", stylegan2_discriminator(state), state)


def _stylegan(tensors: dict[str, Stored], report: Report) -> Weights:
    table = stylegan_table(count(tensors, r"synthesis\.output(\d+)\."), count(tensors, r"mapping\.dense(\d+)\."), _stylegan_name)
    state = to_ours(table, tensors, report, _filters(tensors, _BLUR, (1,)))
    return Weights("stylegan", "Generator", {**stylegan_generator(state), "blur_filter": _BLUR}, state)


def _progan(tensors: dict[str, Stored], report: Report) -> Weights:
    state = to_ours(progan_table(count(tensors, r"output(\d+)\.")), tensors, report)
    return Weights("progan", "Generator", progan_generator(state), state)
