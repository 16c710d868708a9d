"""What the commands that draw from a trained generator share: their types, options and ways to open and to fail."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stylegan_ops import keep_freed_memory

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT = click.argument("checkpoint", type=click.Path(exists=True))
CLASS = click.option(
    "--class", "class_index", type=int, metavar="K", help="Class, from 0. [default: the seed modulo the number of classes]"
)


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


class Finite(click.ParamType):
    """A number that is neither infinite nor NaN."""

    name = "float"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"must be finite ({number})", param, ctx)
        return number


class PngFile(click.Path):
    """The name of a PNG file to write."""

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.suffix.lower() != ".png":
            self.fail(f"must end in .png ({str(value)!r})", param, ctx)
        return path


def require(extra: str, *modules: str) -> None:
    """End in an error that names the extra to install where a module is missing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise click.ClickException(f'{module} is not installed; run: pip install "stylegan_ops[{extra}]"')


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn the errors of checkpoints, arguments and files into the command line's."""
    from stylegan_ops.training import CheckpointError

    try:
        yield
    except (CheckpointError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


def newest(checkpoint: str) -> str:
    """The path of a checkpoint: the newest one, where the folder of a run is given."""
    from stylegan_ops.training import latest_checkpoint

    return str(latest_checkpoint(checkpoint)) if Path(checkpoint).is_dir() else checkpoint


def open_generator(checkpoint: str, class_index: int | None = None) -> nn.Module:
    """Load the averaged generator of a checkpoint of any layout, or of the newest one of a run's folder, and check the class for it."""
    from stylegan_ops.checkpoints import load_any

    keep_freed_memory()
    networks, _ = load_any(newest(checkpoint), best_device(), only_generator=True)
    (G,) = networks.values()
    check_class(G, class_index)
    return G


def check_class(G: nn.Module, class_index: int | None) -> None:
    """Check `--class` against the network."""
    if class_index is not None and not 0 <= class_index < G.c_dim:
        rule = f"must be in 0 to {G.c_dim - 1} ({class_index})" if G.c_dim else "needs a conditional network"
        raise click.BadParameter(rule, param_hint="--class")


def best_device() -> str:
    """The GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
