"""The arguments of a model, read off the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from stylegan_ops._pickle_machine import Fault
from stylegan_ops.models._shape import channels_of

from .layout import count, numbers

State = dict[str, torch.Tensor]


def _of_shapes(kwargs: Callable[[State], dict[str, Any]]) -> Callable[[State], dict[str, Any]]:
    """Turns what goes wrong while arguments are read off tensors into a `Fault`."""

    def read(state: State) -> dict[str, Any]:
        try:
            return kwargs(state)
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise Fault(f"its tensors are not those of a network here ({type(error).__name__}: {error})") from None

    return read


def _widths(channels: dict[int, int]) -> dict[str, int]:
    """channel_base and channel_max of a network with so many feature maps at every resolution.

    Raises:
        Fault: they are not inversely proportional to the resolution below a ceiling.
    """
    found = {"channel_base": max(r * c for r, c in channels.items()), "channel_max": max(channels.values())}
    if channels_of("checkpoint", max(channels), **found) != channels:
        raise Fault(f"its numbers of feature maps must be min(base // resolution, max) ({channels})")
    return found


def _sizes_of(names: Iterable[str], pattern: str) -> list[int]:
    """The resolutions in names, which must be 4, 8, ... without a gap."""
    found = numbers(names, pattern)
    if not found or len(found) > 11 or found != [4 << i for i in range(len(found))]:
        raise Fault("its resolutions must be 4, 8, ... without a gap")
    return found


def _mapping_kwargs(state: State) -> dict[str, int]:
    first = state["mapping.fc0.weight"].shape
    c_dim = state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0
    z_dim = first[1] - (first[0] if c_dim else 0)
    return {"z_dim": z_dim, "c_dim": c_dim, "w_dim": first[0], "num_layers": count(state, r"mapping\.fc(\d+)\.")}


def _taps(state: State, name: str, default: list[float]) -> list[float]:
    """The whole numbers whose outer product is the filter."""
    if name not in state:
        return default
    x = state[name].double()
    row = x.sum(dim=0) if x.ndim == 2 else x
    taps = row / row.abs()[row != 0].min()
    return [round(tap) if abs(tap - round(tap)) < 1e-4 else tap for tap in taps.tolist()]


@_of_shapes
def stylegan2_generator(state: State) -> dict[str, Any]:
    """The arguments of a `stylegan2.Generator` with these tensors."""
    sizes = _sizes_of(state, r"synthesis\.b(\d+)\.")
    last = sizes[-1]
    is_skip = "synthesis.b4.torgb.weight" in state
    architecture = "resnet" if f"synthesis.b{last}.skip.weight" in state else "skip" if is_skip else "orig"
    return {
        "img_resolution": last,
        "img_channels": state[f"synthesis.b{last}.torgb.weight"].shape[0],
        **_mapping_kwargs(state),
        **_widths({r: state[f"synthesis.b{r}.conv1.bias"].numel() for r in sizes}),
        "architecture": architecture,
        "resample_filter": _taps(state, f"synthesis.b{last}.resample_filter", [1, 3, 3, 1]),
    }


@_of_shapes
def stylegan2_discriminator(state: State) -> dict[str, Any]:
    """The arguments of a `stylegan2.Discriminator` with these tensors, but for the group size of the minibatch standard deviation."""
    sizes = _sizes_of(state, r"b(\d+)\.")
    last = sizes[-1]
    channels = {r: state[f"b{r}.conv0.weight"].shape[0] for r in sizes[1:]} | {4: state["b4.conv.weight"].shape[0]}
    architecture = "resnet" if f"b{last}.skip.weight" in state else "skip" if "b4.fromrgb.weight" in state and last > 4 else "orig"
    return {
        "img_resolution": last,
        "img_channels": state[f"b{last}.fromrgb.weight"].shape[1],
        "c_dim": state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0,
        **_widths(dict(sorted(channels.items()))),
        "architecture": architecture,
        "mbstd_num_channels": state["b4.conv.weight"].shape[1] - channels[4],
        "resample_filter": _taps(state, f"b{last}.resample_filter", [1, 3, 3, 1]),
    }


@_of_shapes
def stylegan_generator(state: State) -> dict[str, Any]:
    """The arguments of a `stylegan.Generator` in the default form of its layers."""
    sizes = _sizes_of(state, r"synthesis\.conv(\d+)\.")
    last = sizes[-1]
    blur = _taps(state, f"synthesis.up{last}.blur.resample_filter", [])
    return {
        "img_resolution": last,
        "img_channels": state[f"synthesis.torgb{last}.weight"].shape[0],
        **_mapping_kwargs(state),
        **_widths({r: state[f"synthesis.epilogue{r}_1.bias"].numel() for r in sizes}),
        "blur_filter": blur or None,
        "progressive": last > 4 and "synthesis.torgb4.weight" in state,
    }


@_of_shapes
def progan_generator(state: State) -> dict[str, Any]:
    """The arguments of a `progan.Generator` without labels."""
    sizes = _sizes_of(state, r"synthesis\.torgb(\d+)\.")
    last = sizes[-1]
    return {
        "img_resolution": last,
        "img_channels": state[f"synthesis.torgb{last}.weight"].shape[0],
        "z_dim": state["synthesis.input.weight"].shape[1],
        **_widths({r: state[f"synthesis.torgb{r}.weight"].shape[1] for r in sizes}),
    }
