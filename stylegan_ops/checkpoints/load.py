"""`load_any`: the networks of any checkpoint; `convert`: to another layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from stylegan_ops._pickle_machine import Fault
from stylegan_ops.training.checkpoint import CheckpointError
from stylegan_ops.training.files import atomic_write

from . import basicsr, genforce, huangzh13, mmagic, native, nvlabs_pt, nvlabs_tf, refused, rosinality, seed, style_based
from .files import read_tree
from .report import Report, printable
from .weights import Weights

# In the order in which they are asked whether a file is theirs.
LAYOUTS = (native, nvlabs_pt, nvlabs_tf, rosinality, genforce, seed, huangzh13, style_based, mmagic, basicsr, refused)
WRITERS: dict[str, Callable[[dict[str, nn.Module], BinaryIO, Report], None]] = {
    "nvlabs-pt": nvlabs_pt.write,
    "rosinality": rosinality.write,
    "genforce": genforce.write,
    "seed": seed.write,
    "safetensors": native.write_safetensors,
    "native": native.write,
}


def load_any(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", *, only_generator: bool = False, inexact: bool = False
) -> tuple[dict[str, nn.Module], Report]:
    """Load the networks of a checkpoint of any known layout, recognised by what it holds, as models of `stylegan_ops.models`.

        networks, report = load_any("network-snapshot.pkl")
        G = next(iter(networks.values()))  # the averaged generator
        print(report)

    1. Read the file without running anything of it: only a closed list of symbols is known, all of them inert.
    2. Recognise the layout by names and shapes; docs/checkpoints.md lists all.
    3. Rename, transpose, flip; build the models once everything is known to fit; load strictly. Noise that a file lacks is drawn by a fixed
       seed, and w_avg is estimated over 10,000 codes, see `estimate_w_avg`.

    Args:
        path: the file.
        device: where the networks go.
        only_generator: build the first network alone, which must be a generator.
        inexact: also convert what cannot be converted exactly; the report states the error.

    Returns:
        {name: network}, names `G_ema`, `G`, `D` as far as the file has them and in this order, in eval mode, parameters without grad;
        and the report of what was done.

    Raises:
        CheckpointError: the file is missing, damaged, of no known layout, asks for something that is not allowed (which is named), or does
            not fit the models.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint: {str(path)!r} must be a file")
    try:
        with open(path, "rb") as file:
            found, report = _read(read_tree(file))
            if only_generator:
                found = dict(list(found.items())[:1])
            if only_generator and next(iter(found.values())).kind != "Generator":
                raise Fault("it holds a discriminator alone")
            if report.inexact and not inexact:
                raise Fault(f"it cannot be converted exactly, and was not asked to be otherwise: {'; '.join(report.inexact)}")
            networks = {name: weights.build(name, report).to(device) for name, weights in found.items()}
    except Fault as fault:
        raise CheckpointError(
            f"checkpoint: {str(path)!r} must be an undamaged checkpoint of a known layout ({printable(str(fault))}); {_NOT_RUN}"
        ) from None
    except MemoryError:
        raise CheckpointError(f"checkpoint: {str(path)!r} must fit into memory; {_NOT_RUN}") from None
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        reason = printable(f"{type(error).__name__}: {str(error)[:200]}")
        raise CheckpointError(f"checkpoint: {str(path)!r} must be an undamaged checkpoint ({reason}); {_NOT_RUN}") from error
    return networks, report


_NOT_RUN = "nothing of it was run"


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], layout: str, *, inexact: bool = False) -> tuple[Report, Report]:
    """Write the networks of a checkpoint of any known layout in another one.

    Args:
        source: file to read, see `load_any`.
        target: file to write, atomically; another one than source.
        layout: a name of `WRITERS`.
        inexact: also convert what cannot be converted exactly.

    Returns:
        The reports of reading and of writing.

    Raises:
        CheckpointError: as for `load_any`, or the layout has no place for these networks.
        ValueError: there is no such layout, or target is source.
    """
    if layout not in WRITERS:
        raise ValueError(f"convert: layout must be one of {', '.join(WRITERS)} (got {layout!r})")
    if os.path.realpath(source) == os.path.realpath(target):
        raise ValueError(f"convert: target must be another file than source, {str(source)!r}")
    networks, read = load_any(source, inexact=inexact)
    written = Report(layout)
    try:
        with atomic_write(target) as file:
            WRITERS[layout](networks, file, written)
            if written.inexact and not inexact:
                raise Fault(f"not exactly, and it was not asked to be otherwise: {'; '.join(written.inexact)}")
    except Fault as fault:
        raise CheckpointError(f"checkpoint: {str(source)!r} cannot be written as {layout} ({fault})") from None
    return read, written


def _read(tree: Any) -> tuple[dict[str, Weights], Report]:
    for layout in LAYOUTS:
        if layout.matches(tree):
            report = Report(layout.NAME)
            return layout.read(tree, report), report
    keys = ", ".join(sorted(map(str, tree))[:5]) if isinstance(tree, dict) else type(tree).__name__
    raise Fault(f"its layout is none of those known, {keys[:200]}")
