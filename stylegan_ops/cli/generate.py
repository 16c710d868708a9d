"""`stylegan-ops generate`: draw images from a trained generator."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stylegan_ops import keep_freed_memory

if TYPE_CHECKING:
    import torch

    from stylegan_ops.models.stylegan2 import Generator

_BATCH = 16


class Seeds(click.ParamType):
    """A list such as `0-15,20,31`."""

    name = "seeds"

    def convert(self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        seeds: list[int] = []
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part)
            if not match:
                self.fail(f"must be numbers and ranges such as 0-15,20 ({part!r})", param, ctx)
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first or last - first >= 100_000:
                self.fail(f"ranges must run upwards over at most 100000 seeds ({part!r})", param, ctx)
            seeds += range(first, last + 1)
        return seeds


@click.command(name="generate", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(exists=True))
@click.option("--out", required=True, type=click.Path(), help="PNG file of the grid, or with --no-grid the folder for seedNNNN.png.")
@click.option("--seeds", type=Seeds(), default="0-15", show_default=True, help="One image for each seed, such as 0-15,20.")
@click.option("--truncation", type=float, default=0.7, show_default=True, help="psi: 1 is the full variety, 0 the average image.")
@click.option("--class", "class_index", type=int, metavar="K", help="Class, from 0. [default: the seed modulo the number of classes]")
@click.option(
    "--noise-mode",
    type=click.Choice(["const", "random", "none"]),
    default="const",
    show_default=True,
    help="Noise in the layers: the network's own, drawn by the image's seed, or none.",
)
@click.option("--grid/--no-grid", default=True, show_default=True, help="One picture of all images, or one file for each.")
def command(checkpoint: str, out: str, seeds: list[int], truncation: float, class_index: int | None, noise_mode: str, grid: bool) -> None:
    """Draw images from the averaged generator of CHECKPOINT, a file written by `stylegan-ops train` or the folder of a run.

    A seed gives the same image alone and among others, up to rounding.

    \b
    Examples:
      stylegan-ops generate runs/faces --seeds 0-63 --out faces.png
      stylegan-ops generate runs/faces/checkpoint-000020480.pt --seeds 7,9 --no-grid --out faces
    """
    keep_freed_memory()
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError:
        raise click.ClickException('PIL is not installed; run: pip install "stylegan_ops[train]"') from None
    import torch

    from stylegan_ops.training import CheckpointError, latest_checkpoint, load_generator
    from stylegan_ops.training.grids import save_png, tile

    path = Path(out)
    if grid and path.suffix.lower() != ".png":
        raise click.BadParameter(f"must end in .png for a grid ({out!r})", param_hint="--out")
    if not math.isfinite(truncation):
        raise click.BadParameter(f"must be finite ({truncation})", param_hint="--truncation")
    try:
        if Path(checkpoint).is_dir():
            checkpoint = str(latest_checkpoint(checkpoint))
        G = load_generator(checkpoint, "cuda" if torch.cuda.is_available() else "cpu")
        if class_index is not None and not 0 <= class_index < G.c_dim:
            raise click.BadParameter(
                f"must be in 0 to {G.c_dim - 1} ({class_index})" if G.c_dim else "needs a conditional network", param_hint="--class"
            )
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
    except (CheckpointError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{len(seeds)} images: {path}")


def _draw(G: Generator, seeds: list[int], truncation: float, class_index: int | None, noise_mode: str) -> torch.Tensor:
    """Generate one batch, uint8 [N, C, H, W] on the CPU."""
    import torch

    from stylegan_ops.training.grids import to_uint8

    device = G.mapping.w_avg.device
    with torch.inference_mode():
        z = torch.cat([torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).to(device)
        c = None
        if G.c_dim:
            classes = torch.tensor([seed % G.c_dim if class_index is None else class_index for seed in seeds])
            c = torch.nn.functional.one_hot(classes, G.c_dim).float().to(device)
        torch.manual_seed(seeds[0])
        return to_uint8(G(z, c, truncation_psi=truncation, noise_mode=noise_mode)).cpu()
