"""`stylegan-ops dataset`: prepare a set of images for training."""

import click

from stylegan_ops import keep_freed_memory

_NAMED = 20  # images left out that are named before "and N more"


@click.command(name="dataset", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.argument("dest", type=click.Path())
@click.option("--resolution", type=int, required=True, metavar="PIXELS", help="Height and width to write, a power of two from 4 to 4096.")
@click.option(
    "--channels",
    type=click.Choice(["auto", "1", "3"]),
    default="auto",
    show_default=True,
    help="1 writes grey, 3 writes RGB, auto writes grey if every image of SOURCE is.",
)
@click.option(
    "--count",
    type=int,
    metavar="IMAGES",
    help="Images to draw from dicebear:STYLE [default: 10000], or the most to take from another SOURCE, chosen at random [default: all].",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of --count: another seed, other images.")
@click.option("--labels", metavar="TRAIT", help="dicebear:STYLE only: the trait whose values become classes, such as hairColor.")
@click.option(
    "--pyramid/--no-pyramid",
    default=False,
    show_default=True,
    help="Also write each image at every power of two from 4 pixels to half of --resolution: for trainings that grow.",
)
@click.option("--force", is_flag=True, help="Replace DEST if it exists.")
def command(
    source: str, dest: str, resolution: int, channels: str, count: int | None, seed: int, labels: str | None, pyramid: bool, force: bool
) -> None:
    """Write the images of SOURCE as squares of one size to DEST.

    \b
    SOURCE is one of
      a folder or zip     any format that Pillow reads; labels from dataset.json
                          ({"labels": [["path", class], ...]}), else from the
                          names of the folders in which the tree divides
      dicebear:STYLE      cartoon faces drawn here: avataaars, lorelei, ...
      fashion-mnist       60,000 photos of clothes (31 MB), from the Debian
                          package dataset-fashion-mnist; needs no root
      a folder of idx     train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz;
                          28x28 becomes 32x32 by a margin of 2 pixels

    DEST is a zip if its name ends in .zip, else a folder. It appears whole or not at all.

    Images are turned upright, cropped to the square at the centre, laid over white where transparent, and resized (Lanczos). Images that
    are damaged or have over 67 million pixels are left out and named.

    \b
    Examples:
      stylegan-ops dataset ~/photos photos256.zip --resolution 256
      stylegan-ops dataset dicebear:avataaars faces32.zip --resolution 32
      stylegan-ops dataset fashion-mnist fashion32.zip --resolution 32
    """
    keep_freed_memory()
    try:
        from stylegan_ops.data import prepare

        report = prepare(
            source,
            dest,
            resolution,
            channels=channels if channels == "auto" else int(channels),
            count=count,
            seed=seed,
            labels=labels,
            pyramid=pyramid,
            force=force,
            progress=True,
        )
    except ModuleNotFoundError as error:
        extra = "train" if error.name in ("PIL", "tqdm") else "demo"
        raise click.ClickException(f'{error.name} is not installed; run: pip install "stylegan_ops[{extra}]"') from None
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted: nothing was written to {dest}", err=True)
        raise SystemExit(130) from None
    except (ValueError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from None
    _print(report)


def _print(report) -> None:
    for line in report.skipped[:_NAMED]:
        click.echo(f"left out {line}", err=True)
    if len(report.skipped) > _NAMED:
        click.echo(f"left out {len(report.skipped) - _NAMED} more", err=True)
    classes = "no labels" if report.classes is None else f"{len(report.classes)} classes ({_some(report.classes)})"
    side = report.resolution
    kind = "grey" if report.channels == 1 else "RGB"
    levels = f" and in a pyramid at {', '.join(map(str, report.pyramid))} px" if report.pyramid else ""
    click.echo(f"{report.dest}: {report.count:,} images, {side}x{side} {kind}{levels}, {classes}, {report.size / 1e6:,.1f} MB")
    notes = (
        (len(report.skipped), "could not be read and were left out"),
        (report.enlarged, f"were smaller than {side} pixels and were enlarged"),
    )
    for number, what in notes:
        if number:
            click.echo(f"{number:,} images {what}")
    if report.ignored:
        click.echo(f"{report.ignored:,} other files were ignored")


def _some(names: list[str]) -> str:
    # A folder may be called anything, terminal commands included.
    return ", ".join(name if name.isprintable() else ascii(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
