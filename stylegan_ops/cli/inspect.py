"""`stylegan-ops inspect`: say what is in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from .options import reported

if TYPE_CHECKING:
    from torch import nn


@click.command(name="inspect", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--inexact", is_flag=True, help="Also what cannot be converted exactly; the error is stated.")
def command(file: str, inexact: bool) -> None:
    """Say what FILE, a checkpoint of any known layout, holds, and what reading it does to its tensors. Nothing of it is run.

    \b
    Example:
      stylegan-ops inspect network-snapshot.pkl
    """
    from stylegan_ops.checkpoints import load_any

    with reported():
        networks, report = load_any(file, inexact=inexact)
    for name, network in networks.items():
        click.echo("\n".join(describe(name, network)))
    click.echo(report)


def describe(name: str, network: nn.Module) -> Iterator[str]:
    """The lines on one network."""
    from stylegan_ops.models._shape import channels_of

    kwargs = network.init_kwargs
    family = type(network).__module__.rpartition(".")[2]
    channels = channels_of("inspect", kwargs["img_resolution"], kwargs["channel_base"], kwargs["channel_max"])
    yield f"{name}: {family} {type(network).__name__}"
    growing = getattr(network, "synthesis", network)
    present = getattr(growing, "resolution", network.img_resolution)
    stage = f", grown to {present} px" if present != network.img_resolution else ""
    yield f"  resolution: {network.img_resolution} px, {network.img_channels} channels{stage}"
    yield f"  feature maps: {', '.join(f'{c} at {r}' for r, c in channels.items())}"
    yield f"  labels: {kwargs['c_dim'] or 'none'}"
    yield f"  parameters: {sum(p.numel() for p in network.parameters()):,}"
    if name != "D":
        yield f"  latents: z {network.z_dim}, w {network.w_dim}, {network.num_ws} codes"
        w_avg = getattr(network.mapping, "w_avg", None)
        yield f"  w_avg: {'none' if w_avg is None else f'norm {float(w_avg.norm()):.4g}'}"
    others = {key: value for key, value in kwargs.items() if key not in _TOLD}
    yield f"  options: {', '.join(f'{key}={value}' for key, value in others.items())}"


_TOLD = ("img_resolution", "img_channels", "channel_base", "channel_max", "c_dim", "z_dim", "w_dim")
