"""`stylegan-ops generate`: draw images from a trained generator."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import CHECKPOINT, CLASS, Finite, Seeds, open_generator, reported, require

if TYPE_CHECKING:
    import torch
    from torch import nn

_BATCH = 16


@click.command(name="generate", context_settings={"help_option_names": ["-h", "--help"]})
@CHECKPOINT
@click.option("--out", required=True, type=click.Path(), help="PNG file of the grid, or with --no-grid the folder for seedNNNN.png.")
@click.option("--seeds", type=Seeds(), default="0-15", show_default=True, help="One image for each seed, such as 0-15,20.")
@click.option("--truncation", type=Finite(), help="psi: 1 is the full variety, 0 the average image. [default: 0.7; progan has only 1]")
@CLASS
@click.option(
    "--noise-mode",
    type=click.Choice(["const", "random", "none"]),
    default="const",
    show_default=True,
    help="Noise in the layers: the network's own, drawn by the image's seed, or none.",
)
@click.option("--grid/--no-grid", default=True, show_default=True, help="One picture of all images, or one file for each.")
def command(
    checkpoint: str, out: str, seeds: list[int], truncation: float | None, class_index: int | None, noise_mode: str, grid: bool
) -> None:
    """Draw images from the averaged generator of CHECKPOINT, a file of any layout that `stylegan-ops inspect` knows or the folder of a run.

    A seed gives the same image alone and among others, up to rounding.

    \b
    Examples:
      stylegan-ops generate runs/faces --seeds 0-63 --out faces.png
      stylegan-ops generate runs/faces/checkpoint-000020480.pt --seeds 7,9 --no-grid --out faces
    """
    require("train", "PIL")
    import torch

    from stylegan_ops.training.grids import save_png, tile

    path = Path(out)
    if grid and path.suffix.lower() != ".png":
        raise click.BadParameter(f"must end in .png for a grid ({out!r})", param_hint="--out")
    with reported():
        G = open_generator(checkpoint, class_index)
        if truncation is None:
            truncation = 0.7 if G.num_ws > 1 else 1.0
        # Random noise is drawn for one image at a time, by that image's seed.
        count = 1 if noise_mode == "random" else _BATCH
        batches = [_draw(G, seeds[i : i + count], truncation, class_index, noise_mode) for i in range(0, len(seeds), count)]
        images = torch.cat(batches)
        (path.parent if grid else path).mkdir(parents=True, exist_ok=True)
        if grid:
            save_png(path, tile(images, math.ceil(math.sqrt(len(seeds)))))
        else:
            for seed, image in zip(seeds, images, strict=True):
                save_png(path / f"seed{seed:04d}.png", image)
    click.echo(f"{len(seeds)} images: {path}")


def _draw(G: nn.Module, seeds: list[int], truncation: float, class_index: int | None, noise_mode: str) -> torch.Tensor:
    """Generate one batch, uint8 [N, C, H, W] on the CPU."""
    import torch

    from stylegan_ops.figures import draw_images, seeded_latents

    torch.manual_seed(seeds[0])
    with torch.no_grad():
        return draw_images(G, G.mapping(*seeded_latents(G, seeds, class_index), truncation_psi=truncation), noise_mode)
