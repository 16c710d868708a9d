"""`stylegan-ops benchmark`: the ops, the networks and the training step against the machine's own limits and plain PyTorch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stylegan_ops.benchmark.cases import Options, Row
    from stylegan_ops.benchmark.run import Job

SECTIONS = ("ops", "models", "training")
DTYPES = ("float64", "float32", "bfloat16", "float16")
FORMS = ("native", "baseline", "autocast", "reference", "compile")


class Several(click.ParamType):
    """Names of a list, joined by commas."""

    def __init__(self, name: str, choices: tuple[str, ...]) -> None:
        self.name, self.choices = name, choices

    def convert(self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
        wrong = [name for name in names if name not in self.choices]
        if wrong:
            self.fail(f"must be of {', '.join(self.choices)}, joined by commas ({wrong[0]!r})", param, ctx)
        return names


class Resolution(click.ParamType):
    """Pixels of an image's side."""

    name = "pixels"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(value) if str(value).isascii() and str(value).isdigit() else 0
        if number < 8 or number & (number - 1):
            self.fail(f"must be a power of two of at least 8 ({value!r})", param, ctx)
        return number


class Seconds(click.ParamType):
    """A duration."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            self.fail(f"must be a finite number above 0 ({value!r})", param, ctx)
        return number


COUNT = click.IntRange(min=1)


@click.command(name="benchmark", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sections", nargs=-1, type=click.Choice(SECTIONS), metavar="[ops|models|training]...")
@click.option("--device", default="cpu", metavar="cpu|cuda", show_default=True, help="Where the tensors are.")
@click.option(
    "--dtype",
    "dtypes",
    type=Several("dtypes", DTYPES),
    metavar="LIST",
    help="Of " + ", ".join(DTYPES) + ". [default: all for "
    "the memory-bound ops; float32 for small tensors and --scaling; float32,bfloat16 for convolutions, networks and training]",
)
@click.option(
    "--compare",
    type=Several("forms", FORMS),
    default=("native", "baseline"),
    metavar="LIST",
    help="Forms that take turns: native, baseline (the usual plain PyTorch, networks in float32), autocast (the networks' baseline "
    "in the row's dtype), reference, compile (torch.compile of reference or baseline; ops and models only). [default: native,baseline]",
)
@click.option("--resolution", type=Resolution(), default=128, show_default=True, help="Of the networks.")
@click.option("--batch", type=COUNT, metavar="IMAGES", help="Of the networks. [default: 4; 1 from 1024 px on]")
@click.option("--channel-base", type=COUNT, metavar="N", help="Channels times resolution. [default: 16384; 32768 from 1024 px on]")
@click.option("--scaling", is_flag=True, help="More rows of models: 32 to 1024 px at batch 1, and batch 1 to 32 at --resolution.")
@click.option("--threads", type=COUNT, metavar="N", help="CPU threads. [default: torch's choice]")
@click.option("--seconds", type=Seconds(), metavar="S", help="Of measuring per row. [default: 0.5 to 1 for ops, 2 to 10 for networks]")
@click.option("--only", default="", metavar="TEXT", help="Only the rows whose title, 'group: name', contains TEXT.")
@click.option("--cold", is_flag=True, help="Return freed memory to the system, so that fresh outputs cost page faults.")
@click.option("--list", "listing", is_flag=True, help="Print the titles of the rows instead of measuring them.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write all numbers into FILE, too.")
@click.option("--html", "html_path", type=click.Path(dir_okay=False), metavar="FILE", help="Write a page with plots, readable offline.")
def command(
    sections: tuple[str, ...], threads: int | None, cold: bool, listing: bool, json_path: str | None, html_path: str | None, **given: Any
) -> None:
    """Measure ops, networks and training step. Without an argument: all three.

    The forms of a row take turns in one process. A row has the median time of the first form (native, unless it is left out), its rate,
    the rate of what the machine can do in the same rounds (a copy of as many bytes, or a dense channels_last 3x3 convolution), the share
    of the one in the other, and each other form's time and ratio. Small tensors have the microseconds above an empty registered operator
    instead, training the peak memory of fresh processes too. Ctrl-C keeps the rows measured so far.

    \b
    Examples:
      stylegan-ops benchmark ops --only "bias_act: lrelu" --dtype float32
      stylegan-ops benchmark models --compare native,baseline,compile --html models.html
      stylegan-ops benchmark models --resolution 1024
      stylegan-ops benchmark training --json training.json
    """
    import torch

    for option, path in (("--json", json_path), ("--html", html_path)):
        if path and not Path(path).absolute().parent.is_dir():
            raise click.BadParameter(f"must lie in a folder that exists ({path!r})", param_hint=option)
        if path and Path(path).exists() and not Path(path).is_file():
            raise click.BadParameter(f"must be a regular file where it is there already ({path!r})", param_hint=option)
    from stylegan_ops.benchmark import machine
    from stylegan_ops.benchmark.cases import Options
    from stylegan_ops.benchmark.run import jobs

    options = Options(warm=not cold, **given)
    chosen = list(dict.fromkeys(sections)) or list(SECTIONS)
    _check(chosen, options)
    options = machine.prepare(options, threads or torch.get_num_threads())
    torch.manual_seed(0)
    work = jobs(chosen, options)
    if not work:
        raise click.BadParameter(f"must be part of a row's title; --list shows them ({options.only!r})", param_hint="--only")
    if listing:
        click.echo("\n".join(job.title for job in work))
        return
    try:
        _run(work, options, json_path, html_path)
    except (RuntimeError, OSError, ValueError) as error:  # ValueError: a network that cannot be, among those of --scaling
        raise click.ClickException(str(error)) from None


def _check(sections: list[str], options: Options) -> None:
    """What no single option can know."""
    import torch

    from stylegan_ops._impl import why_not_native
    from stylegan_ops.benchmark.training import COMPARED

    try:
        device = torch.device(options.device)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise click.BadParameter(f"must be cpu or cuda ({options.device!r})", param_hint="--device")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise click.BadParameter("must be there: this torch finds no GPU, `stylegan-ops doctor` says why ('cuda')", param_hint="--device")
    if "native" in options.compare:
        reason = why_not_native(torch.empty(0, device=device))
        if reason:
            raise click.BadParameter(f"must name forms that run here: {reason} ('native')", param_hint="--compare")
    if options.width < options.resolution:
        raise click.BadParameter(f"must be at least the resolution, {options.resolution} ({options.width})", param_hint="--channel-base")
    if "ops" in sections and set(options.compare) == {"autocast"}:
        raise click.BadParameter("must name another form for ops, which have no autocast ('autocast')", param_hint="--compare")
    if "training" in sections:
        wrong = [form for form in options.compare if form not in COMPARED]
        if wrong:
            rule = "a compiled function cannot be differentiated twice" if wrong == ["compile"] else "not a form"
            raise click.BadParameter(f"must be of {', '.join(COMPARED)} for training: {rule} ({wrong[0]!r})", param_hint="--compare")
        if options.dtypes and "float64" in options.dtypes:
            raise click.BadParameter("must be of float32, bfloat16, float16 for training ('float64')", param_hint="--dtype")


def _run(work: list[Job], options: Options, json_path: str | None, html_path: str | None) -> None:
    from stylegan_ops.benchmark import machine, report, run, table
    from stylegan_ops.training.files import atomic_write

    about = machine.describe(options)
    for name, value in about.items():
        click.echo(f"{name:>14}  {value}")

    def progress(i: int, job: Job) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K[{i}/{len(work)}] {job.title[:100]}", err=True, nl=False)

    rows: list[Row] = []
    head = ""
    try:
        for row in run.run(work, progress):
            if sys.stderr.isatty():
                click.echo("\r\x1b[K", err=True, nl=False)
            if table.head(row) != head:
                head = table.head(row)
                click.secho(f"\n{head}", bold=True)
            click.echo(table.line(row))
            for note in table.notes(row):
                click.secho(f"      {note}", dim=True)
            rows.append(row)
        if not rows:
            raise RuntimeError(f"--only: no row of {options.only!r} could be made without the others it is made of")
    finally:  # after Ctrl-C or an error in a late row, too: the rows before it took long enough
        everything = {"machine": about, "rows": [row.as_json() for row in rows]}
        for path, text in ((json_path, lambda: json.dumps(everything, indent=1) + "\n"), (html_path, lambda: report.page(everything))):
            if path and rows:
                with atomic_write(path) as file:
                    file.write(text().encode())
                click.echo(f"Written: {path}, {len(rows)} of {len(work)} rows")
