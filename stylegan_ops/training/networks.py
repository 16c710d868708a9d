"""The networks that can be trained, by the names of their families."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from stylegan_ops.layers import Growing
from stylegan_ops.models import progan, stylegan, stylegan2

from .config import TrainingConfig

FAMILIES: dict[str, ModuleType] = {"progan": progan, "stylegan": stylegan, "stylegan2": stylegan2}

# Where float16 layers are cut off; activations of a healthy network stay far below it.
FLOAT16_CLAMP = 256.0


def build_networks(config: TrainingConfig, data: dict[str, int]) -> tuple[nn.Module, nn.Module]:
    """Make the untrained G and D of a run, from torch's random stream.

    Args:
        config: settings, with a resolved precision.
        data: {"resolution", "channels", "c_dim"} of the data set.

    Returns:
        (generator, discriminator) of the family `config.model`.
    """
    sizes = (data["resolution"], data["channels"])
    shared: dict[str, Any] = {"c_dim": data["c_dim"], "channel_base": config.channel_base, "channel_max": config.channel_max}
    of_g: dict[str, Any] = {"z_dim": config.z_dim}
    of_d: dict[str, Any] = {"mbstd_group_size": config.mbstd_group_size}
    if config.model != "progan":
        of_g |= {"w_dim": config.w_dim, "num_layers": config.mapping_layers}
    if config.model == "stylegan2":
        shared["conv_clamp"] = FLOAT16_CLAMP if config.precision == "float16" else None
        of_g["architecture"], of_d["architecture"] = config.g_architecture, config.d_architecture
    family = FAMILIES[config.model]
    return family.Generator(*sizes, **shared, **of_g), family.Discriminator(*sizes, **shared, **of_d)


def grow(network: nn.Module, resolution: int, alpha: float) -> None:
    """Set the stage of a generator or discriminator, if it is one that grows."""
    growing = getattr(network, "synthesis", network)
    if isinstance(growing, Growing):
        growing.grow_to(resolution, alpha)
