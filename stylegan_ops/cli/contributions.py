"""`stylegan-ops contributions`: what each resolution adds to a skip generator's picture, over a run."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import click

from .options import CHECKPOINT, CLASS, Seeds, best_device, open_generator, reported, require


@click.command(name="contributions", context_settings={"help_option_names": ["-h", "--help"]})
@CHECKPOINT
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for plot.png, images.png and contributions.json.")
@click.option("--samples", type=click.IntRange(min=1), default=1024, show_default=True, metavar="N", help="Images to measure each on.")
@click.option("--seeds", type=Seeds(), default="0-5", show_default=True, help="A row of pictures for each seed, such as 0-15,20.")
@CLASS
def command(checkpoint: str, out: Path, samples: int, seeds: list[int], class_index: int | None) -> None:
    """Measure the resolutions' contributions in the averaged generators of CHECKPOINT, the folder of a run or one file of it.

    A generator of the architecture skip adds an image at every resolution. plot.png has these parts' standard deviations against
    the training's length, in thousand real images: relative to the picture's, and as shares of them all. images.png shows the newest
    generator's parts (mid-grey is 0) and pictures. contributions.json has the numbers.

    A run's folder holds the newest checkpoints alone, two by default: train with `--keep N` to have more to plot.

    \b
    Example:
      stylegan-ops train faces32.zip --outdir runs/faces --preset demo --keep 50
      stylegan-ops contributions runs/faces --out contributions
    """
    require("train", "PIL", "tqdm")
    require("figures", "matplotlib")
    from tqdm import tqdm

    from stylegan_ops.figures import captioned, contribution_images, contributions_of_run, contributions_plot
    from stylegan_ops.training.checkpoint import list_checkpoints
    from stylegan_ops.training.files import atomic_write
    from stylegan_ops.training.grids import save_png

    with reported():
        G = open_generator(checkpoint, class_index)
        images = contribution_images(G, seeds, class_index)
        out.mkdir(parents=True, exist_ok=True)
        paths = list_checkpoints(checkpoint) if Path(checkpoint).is_dir() else [Path(checkpoint)]
        measured = contributions_of_run(paths, samples, device=best_device(), progress=functools.partial(tqdm, unit="checkpoint"))
        captions = [f"{r} px" for r in G.synthesis.resolutions] + ["sum"]
        save_png(out / "images.png", captioned(images, captions))
        with atomic_write(out / "plot.png") as file:
            contributions_plot(measured).savefig(file, format="png", dpi=120)
        with atomic_write(out / "contributions.json") as file:
            file.write(json.dumps(measured, indent=2).encode())
    click.echo(f"{len(paths)} checkpoint{'s' * (len(paths) > 1)}: {out}")
