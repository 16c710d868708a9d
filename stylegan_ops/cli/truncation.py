"""`stylegan-ops truncation`: the images of seeds at several strengths of the truncation."""

from __future__ import annotations

from pathlib import Path

import click

from .options import CHECKPOINT, CLASS, Finite, PngFile, Seeds, open_generator, reported, require


class Psis(click.ParamType):
    """Numbers joined by commas."""

    name = "numbers"

    def convert(self, value: str | list[float], param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        return value if isinstance(value, list) else [Finite().convert(part, param, ctx) for part in value.split(",")]


@click.command(name="truncation", context_settings={"help_option_names": ["-h", "--help"]})
@CHECKPOINT
@click.option("--out", required=True, type=PngFile(), help="PNG file of the figure.")
@click.option("--seeds", type=Seeds(), default="0-5", show_default=True, help="A row for each seed, such as 0-15,20.")
@click.option(
    "--psi",
    "psis",
    type=Psis(),
    default="-1,-0.5,0,0.5,0.7,1",
    show_default=True,
    help="A column for each: 1 is the image itself, 0 the average image, below 0 its opposite.",
)
@CLASS
def command(checkpoint: str, out: Path, seeds: list[int], psis: list[float], class_index: int | None) -> None:
    """Truncate images from CHECKPOINT, a file of any layout that `stylegan-ops inspect` knows or the folder of a run.

    The average is the running mean of w that the network carries; where it carries none, it is estimated over 10,000 codes.

    \b
    Example:
      stylegan-ops truncation runs/faces --seeds 3,5,8 --psi 0,0.5,1,1.5 --out truncated.png
    """
    require("train", "PIL")
    from stylegan_ops.figures import captioned, truncation
    from stylegan_ops.training.grids import save_png

    with reported():
        G = open_generator(checkpoint, class_index)
        picture = captioned(truncation(G, seeds, psis, class_index), [f"psi {psi:g}" for psi in psis])
        out.parent.mkdir(parents=True, exist_ok=True)
        save_png(out, picture)
    click.echo(f"{len(seeds)} x {len(psis)} images: {out}")
