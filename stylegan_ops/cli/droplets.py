"""`stylegan-ops droplets`: what a spike in a feature map does to AdaIN, and not to demodulation."""

from __future__ import annotations

from pathlib import Path

import click

from .options import PngFile, reported, require


@click.command(name="droplets", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", required=True, type=PngFile(), help="PNG file of the figure.")
@click.option("--resolution", type=int, default=32, show_default=True, metavar="PIXELS", help="Side of the feature maps, a multiple of 4.")
def command(out: Path, resolution: int) -> None:
    """Draw why StyleGAN's images have droplets: no network and no data are needed.

    Four feature maps of different magnitudes, one with a spike at a single pixel, go through instance normalisation (AdaIN) and through
    a modulated convolution with demodulation. AdaIN makes all maps equally strong, and weakens the rest of the one with the spike, the
    more the higher it is; demodulation keeps the magnitudes and the rest as they were.

    \b
    Example:
      stylegan-ops droplets --out droplets.png
    """
    require("figures", "matplotlib")
    from stylegan_ops.figures import droplets_plot
    from stylegan_ops.training.files import atomic_write

    with reported():
        figure = droplets_plot(resolution)
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            figure.savefig(file, format="png", dpi=120)
    click.echo(str(out))
