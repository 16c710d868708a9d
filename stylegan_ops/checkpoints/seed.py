"""The published StyleGAN generators in PyTorch, whose names `karras2019` knows."""

from __future__ import annotations

from typing import Any, BinaryIO

import torch
from torch import nn

from stylegan_ops._pickle_machine import Fault

from .arguments import stylegan_generator
from .karras2019 import from_karras2019, to_karras2019
from .layout import check_apart, is_state_dict
from .report import Report
from .weights import Weights

NAME = "seed"


def matches(tree: Any) -> bool:
    """A state dict with the published names."""
    return is_state_dict(tree) and "blocks.4x4.const" in tree


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The generator, an averaged one."""
    check_apart(tree)
    try:
        state = from_karras2019({name: x.read() for name, x in tree.items()})
    except ValueError as error:
        raise Fault(str(error)) from None
    except IndexError as error:
        raise Fault(f"a tensor in it has another shape ({error})") from None
    _report(report, tree, state)
    report.notes.append("instance norms have eps 1e-8, as the network had that was published; the PyTorch module of this layout has 1e-5")
    return {"G_ema": Weights("stylegan", "Generator", stylegan_generator(state), state)}


def write(networks: dict[str, nn.Module], file: BinaryIO, report: Report) -> None:
    """Write the first network's generator.

    Raises:
        Fault: it is no StyleGAN generator in the default form of its layers.
    """
    name, network = next(iter(networks.items()))
    kwargs = network.init_kwargs
    if (kwargs.get("activation"), kwargs.get("pixel_norm"), kwargs.get("instance_norm")) != ("lrelu", False, True):
        raise Fault(f"{name} must be a StyleGAN generator in the default form of its layers for this layout")
    if kwargs["z_dim"] != kwargs["w_dim"]:
        raise Fault(f"{name} must have z_dim equal to w_dim for this layout ({kwargs['z_dim']} and {kwargs['w_dim']})")
    if network.synthesis.resolution != network.img_resolution or network.synthesis.is_fading:
        raise Fault(f"{name} must be at its full size for this layout")
    if kwargs["norm_eps"] != 1e-8:
        report.inexact.append(f"{name}: instance norms have eps 1e-8 there and {kwargs['norm_eps']:g} here")
    state = network.state_dict()
    try:
        found = to_karras2019(state)
    except ValueError as error:
        raise Fault(str(error)) from None
    for ignored in [*list(networks)[1:], *(key for key in state if key.endswith(("w_avg", "noise_const")))]:
        report.add("ignored", ignored)
    _report(report, found, state)
    torch.save({key: x.clone(memory_format=torch.contiguous_format) for key, x in found.items()}, file)


def _report(report: Report, theirs: Any, ours: Any) -> None:
    report.tensors += len(theirs)
    for name in theirs:
        report.add("renamed", name)
    for name in ours:
        if name.endswith("conv.weight") and int(name.split(".")[1].removeprefix("up")) >= 128:
            report.add("flipped", name)
