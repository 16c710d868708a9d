"""The folder of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .checkpoint import checkpoint_path, list_checkpoints
from .files import atomic_write


def claim_outdir(outdir: Path, *, resumed_images: int | None = None) -> None:
    """Create the folder of a run, or take up the one of a run that goes on.

    Layout: config.json, log.jsonl, tb/, reals.png, grids/kimgNNNNNN.png, checkpoint-IMAGES.pt.

    Args:
        outdir: the folder; a new one may also go on from another folder's checkpoint.
        resumed_images: images that the resumed checkpoint has seen; None for a run from the start.

    Raises:
        ValueError: it is a file, or holds a run whose newest checkpoint is not the resumed one.
    """
    if outdir.exists() and not outdir.is_dir():
        raise ValueError(f"train: outdir must be a folder ({str(outdir)!r})")
    checkpoints = list_checkpoints(outdir)
    if checkpoints or (outdir / "config.json").exists():
        if resumed_images is None and not checkpoints:
            raise ValueError(f"train: outdir must not hold a run without a checkpoint; remove it, or name another folder ({str(outdir)!r})")
        if resumed_images is None:
            raise ValueError(
                f"train: outdir must not hold another run; continue that one with --resume latest, or name another folder ({str(outdir)!r})"
            )
        newest = checkpoints[-1] if checkpoints else None
        if newest != checkpoint_path(outdir, resumed_images):
            raise ValueError(
                "train: outdir must have the resumed checkpoint as its newest; remove what is newer, or name another folder "
                f"({str(newest or outdir)!r})"
            )
    (outdir / "grids").mkdir(parents=True, exist_ok=True)
    for folder in (outdir, outdir / "grids"):
        for left_by_a_crash in folder.glob(".*.tmp"):
            left_by_a_crash.unlink()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a dict as indented JSON, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())
