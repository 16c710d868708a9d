"""`stylegan-ops convert`: write a checkpoint in another layout."""

from __future__ import annotations

import click

from .options import reported

FORMATS = ("nvlabs-pt", "rosinality", "genforce", "seed", "safetensors", "native")


@click.command(name="convert", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--format", "layout", type=click.Choice(FORMATS), required=True, help="Layout of TARGET.")
@click.option("--inexact", is_flag=True, help="Also convert what cannot be converted exactly; the error is stated.")
def command(source: str, target: str, layout: str, inexact: bool) -> None:
    """Convert SOURCE, a checkpoint of any known layout, to TARGET.

    Nothing of SOURCE is run. docs/checkpoints.md lists the layouts, and what is exact. Tensors only: optimisers, settings and the like stay
    behind, and the report names them.

    \b
    Examples:
      stylegan-ops convert network-snapshot.pkl faces.safetensors --format safetensors
      stylegan-ops convert 550000.pt faces.pkl --format nvlabs-pt
    """
    from stylegan_ops.checkpoints import convert

    with reported():
        for report in convert(source, target, layout, inexact=inexact):
            click.echo(report)
    click.echo(f"written: {target}")
