"""`stylegan-ops mix`: the style-mixing matrix of a trained generator."""

from __future__ import annotations

from pathlib import Path

import click

from .options import CHECKPOINT, CLASS, Finite, PngFile, Seeds, open_generator, reported, require


@click.command(name="mix", context_settings={"help_option_names": ["-h", "--help"]})
@CHECKPOINT
@click.option("--out", required=True, type=PngFile(), help="PNG file of the figure.")
@click.option("--rows", type=Seeds(), default="0-3", show_default=True, help="Seeds of the rows' sources.")
@click.option("--columns", type=Seeds(), default="4-9", show_default=True, help="Seeds of the columns' sources.")
@click.option(
    "--layers",
    default="coarse,middle,fine",
    show_default=True,
    metavar="LIST",
    help="Layers that take the column's codes: coarse, middle, fine or numbers such as 0-3, a matrix for each.",
)
@click.option("--truncation", type=Finite(), default=0.7, show_default=True, help="psi of the sources: 1 is the full variety.")
@CLASS
def command(
    checkpoint: str, out: Path, rows: list[int], columns: list[int], layers: str, truncation: float, class_index: int | None
) -> None:
    """Mix the styles of two sets of images from CHECKPOINT, a file that `stylegan-ops inspect` knows or the folder of a run.

    The first row and column of a matrix show the sources. Every other image has its column's codes in the layers named above the
    matrix, and its row's codes in all others.

    A network has two layers to a resolution. From 64 pixels on, coarse is 4 and 8 pixels (layers 0-3), middle 16 and 32 (4-7), fine
    64 and more (8 and up), as published. The layers of smaller networks are cut in three: 0-2, 3-4 and 5-7 at 32 pixels, 0-1, 2-3
    and 4-5 at 16, 0, 1-2 and 3 at 8.

    \b
    Examples:
      stylegan-ops mix runs/faces --out mixed.png
      stylegan-ops mix runs/faces --rows 3,5,8 --columns 20-25 --layers 0-1,2-7 --out mixed.png
    """
    require("train", "PIL")
    import torch

    from stylegan_ops.figures import RANGES, captioned, layer_range, mix
    from stylegan_ops.training.grids import save_png

    with reported():
        G = open_generator(checkpoint, class_index)
        matrices = []
        for name in (part.strip() for part in layers.split(",")):
            matrix = mix(G, rows, columns, name, truncation, class_index)
            first, behind = layer_range(name, G.synthesis.num_ws_in_use)
            numbers = f"layers {first}-{behind - 1}" if behind - first > 1 else f"layer {first}"
            matrices.append(
                captioned(matrix, [f"{name} ({numbers}) from the top row" if name in RANGES else f"{numbers} from the top row"])
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        save_png(out, torch.cat(matrices, dim=1))
    click.echo(f"{len(matrices)} matrices of {len(rows)} x {len(columns)} images: {out}")
