"""rosinality's StyleGAN2: `{g, d, g_ema, g_optim, d_optim, args, ada_aug_p}` of a training, or the converted `{g_ema, latent_avg}`.

The tensors are those of NVlabs' PyTorch layout with other names and dimensions of length 1; no weight is flipped. Filters carry the gain
of the upsampling, 4.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import torch
from torch import nn

from stylegan_ops._pickle_machine import Fault
from stylegan_ops.ops import setup_filter

from .arguments import stylegan2_discriminator, stylegan2_generator
from .layout import Table, count, is_state_dict, ones, resolutions, to_ours, to_theirs
from .report import Report
from .stored import Stored
from .weights import Weights
from .writable import FILTER, check_stylegan2

NAME = "rosinality"
_NETWORKS = {"g_ema": "G_ema", "g": "G", "d": "D"}


def matches(tree: Any) -> bool:
    """A dict with the state dict of a generator or discriminator, or one of these alone."""
    return bool(_state_dicts(tree))


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The networks, G_ema first; `latent_avg` goes to G_ema."""
    found = {}
    states = _state_dicts(tree)
    for name, tensors in states.items():
        if name == "D":
            found[name] = _discriminator(tensors, report)
            continue
        found[name] = _generator(tensors, report)
        if name == "G_ema" and isinstance(tree.get("latent_avg"), Stored):
            found[name].state |= to_ours({"latent_avg": ("mapping.w_avg",)}, {"latent_avg": tree["latent_avg"]}, report)
    if not is_state_dict(tree):
        for name in sorted(map(str, set(tree) - set(_NETWORKS) - {"latent_avg"})):
            report.add("ignored", name)
    return found


def write(networks: dict[str, nn.Module], file: BinaryIO, report: Report) -> None:
    """Write the converted form, with `g` and `d` where they are there.

    Raises:
        Fault: a network is one that the layout has no place for.
    """
    tree: dict[str, Any] = {}
    their_names = {ours: theirs for theirs, ours in _NETWORKS.items()}
    for name, network in networks.items():
        kwargs = check_stylegan2(name, network, report)
        if kwargs["img_channels"] != 3:
            raise Fault(f"{name} must have images of 3 channels for this layout ({kwargs['img_channels']})")
        if name != "D" and kwargs["z_dim"] != kwargs["w_dim"]:
            raise Fault(f"{name} must have z_dim equal to w_dim for this layout ({kwargs['z_dim']} and {kwargs['w_dim']})")
        steps = kwargs["img_resolution"].bit_length() - 2
        state = dict(network.state_dict())
        if name == "D":
            tree["d"] = to_theirs(discriminator_table(steps), state, report, discriminator_filters(steps))
            continue
        w_avg = state.pop("mapping.w_avg").clone()
        if tree.setdefault("latent_avg", w_avg) is not w_avg:  # that of G_ema, which comes first
            report.add("ignored", f"{name}.mapping.w_avg")
        tree[their_names[name]] = to_theirs(generator_table(steps, kwargs["num_layers"]), state, report, generator_filters(steps))
    torch.save(tree, file)


def generator_table(steps: int, num_layers: int) -> Table:
    """A generator of so many resolutions, but for its filters."""
    table: Table = {
        f"style.{i + 1}.{part}": (f"mapping.fc{i}.{part}",) for i in range(num_layers) for part in ("weight", "bias")
    }  # style.0 normalises
    table["input.input"] = ("synthesis.b4.const", ones(1))
    for i, r in enumerate(resolutions(steps)):
        convs = [("conv1", "conv1")] if i == 0 else [(f"convs.{2 * i - 2}", "conv0"), (f"convs.{2 * i - 1}", "conv1")]
        for k, (theirs, conv) in enumerate(convs):
            ours = f"synthesis.b{r}.{conv}"
            table[f"{theirs}.conv.weight"] = (f"{ours}.weight", ones(1))
            table[f"{theirs}.conv.modulation.weight"] = (f"{ours}.affine.weight",)
            table[f"{theirs}.conv.modulation.bias"] = (f"{ours}.affine.bias",)
            table[f"{theirs}.noise.weight"] = (f"{ours}.noise_strength", ones(1))
            table[f"{theirs}.activate.bias"] = (f"{ours}.bias",)
            table[f"noises.noise_{max(2 * i - 1, 0) + k}"] = (f"{ours}.noise_const", ones(2))
        theirs, ours = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}", f"synthesis.b{r}.torgb"
        table[f"{theirs}.conv.weight"] = (f"{ours}.weight", ones(1))
        table[f"{theirs}.conv.modulation.weight"] = (f"{ours}.affine.weight",)
        table[f"{theirs}.conv.modulation.bias"] = (f"{ours}.affine.bias",)
        table[f"{theirs}.bias"] = (f"{ours}.bias", ones(1, 2))
    return table


def generator_filters(steps: int) -> dict[str, torch.Tensor]:
    """The filters of a generator: four times the normalised one."""
    names = [name for i in range(steps - 1) for name in (f"convs.{2 * i}.conv.blur.kernel", f"to_rgbs.{i}.upsample.kernel")]
    return {name: 4 * setup_filter(FILTER) for name in names}


def discriminator_table(steps: int) -> Table:
    """A discriminator of so many resolutions, but for its filters."""
    sizes = resolutions(steps)[::-1]
    table: Table = {"convs.0.0.weight": (f"b{sizes[0]}.fromrgb.weight",), "convs.0.1.bias": (f"b{sizes[0]}.fromrgb.bias",)}
    for i, r in enumerate(sizes[:-1], 1):
        table |= {
            f"convs.{i}.conv1.0.weight": (f"b{r}.conv0.weight",),
            f"convs.{i}.conv1.1.bias": (f"b{r}.conv0.bias",),
            f"convs.{i}.conv2.1.weight": (f"b{r}.conv1.weight",),
            f"convs.{i}.conv2.2.bias": (f"b{r}.conv1.bias",),
            f"convs.{i}.skip.1.weight": (f"b{r}.skip.weight",),
        }
    table |= {"final_conv.0.weight": ("b4.conv.weight",), "final_conv.1.bias": ("b4.conv.bias",)}
    for i, layer in enumerate(("fc", "out")):
        table |= {f"final_linear.{i}.{part}": (f"b4.{layer}.{part}",) for part in ("weight", "bias")}
    return table


def discriminator_filters(steps: int) -> dict[str, torch.Tensor]:
    """The filters of a discriminator."""
    return {f"convs.{i}.{layer}.0.kernel": setup_filter(FILTER) for i in range(1, steps) for layer in ("conv2", "skip")}


def _state_dicts(tree: Any) -> dict[str, dict[str, Stored]]:
    if not isinstance(tree, dict):
        return {}
    if is_state_dict(tree):
        kind = "G" if "style.1.weight" in tree and "input.input" in tree else "D" if "final_linear.0.weight" in tree else None
        return {kind: tree} if kind and (kind == "G" or "convs.0.0.weight" in tree) else {}
    found = {}
    for theirs, ours in _NETWORKS.items():
        value = tree.get(theirs)
        if is_state_dict(value) and ("convs.0.0.weight" if ours == "D" else "input.input") in value:
            found[ours] = value
    return found


def _generator(tensors: dict[str, Stored], report: Report) -> Weights:
    steps = count(tensors, r"to_rgbs\.(\d+)\.") + 1
    state = to_ours(generator_table(steps, count(tensors, r"style\.(\d+)\.", 1)), tensors, report, generator_filters(steps))
    return Weights("stylegan2", "Generator", stylegan2_generator(state), state)


def _discriminator(tensors: dict[str, Stored], report: Report) -> Weights:
    steps = count(tensors, r"convs\.(\d+)\.")
    state = to_ours(discriminator_table(steps), tensors, report, discriminator_filters(steps))
    return Weights("stylegan2", "Discriminator", stylegan2_discriminator(state), state)
