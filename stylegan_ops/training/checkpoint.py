"""Checkpoints: one file with everything, written whole, read without running code from it."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import stylegan_ops

from .config import TrainingConfig
from .files import atomic_write
from .networks import FAMILIES, grow

FORMAT = "stylegan_ops training checkpoint"
VERSION = 2
KEYS = {
    *("format", "version", "config", "data", "step", "images", "stage", "seconds", "random", "G_init_kwargs", "D_init_kwargs"),
    *("G", "D", "G_ema", "g_optimizer", "d_optimizer", "path_length", "scaler"),
}
_NAME = re.compile(r"checkpoint-(\d{9,})\.pt")


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another kind; the message names the file."""


def checkpoint_path(outdir: str | os.PathLike[str], images: int) -> Path:
    """Name the checkpoint of a run after so many real images."""
    return Path(outdir) / f"checkpoint-{images:09d}.pt"


def checkpoint_images(path: str | os.PathLike[str]) -> int:
    """Read off a checkpoint's name how many real images the run had seen.

    Raises:
        CheckpointError: the name is not one of `checkpoint_path`.
    """
    match = _NAME.fullmatch(Path(path).name)
    if not match:
        raise CheckpointError(f"checkpoint: {str(path)!r} must be named checkpoint-IMAGES.pt")
    return int(match[1])


def save_checkpoint(path: str | os.PathLike[str], state: dict[str, Any], *, keep: int) -> None:
    """Write a checkpoint atomically, then remove all but the newest ones of its folder.

    Args:
        path: `checkpoint_path` of the run.
        state: `TrainingState.state_dict()`.
        keep: how many checkpoints stay, at least 1.
    """
    versions = {"stylegan_ops": stylegan_ops.__version__, "torch": str(torch.__version__)}
    with atomic_write(path) as file:
        torch.save({"format": FORMAT, "version": VERSION, "versions": versions, **state}, file)
    for old in list_checkpoints(Path(path).parent)[:-keep]:
        old.unlink()


def list_checkpoints(outdir: str | os.PathLike[str]) -> list[Path]:
    """List the checkpoints of a run, oldest first. The file names are the only record: there is no pointer that could be wrong."""
    folder = Path(outdir)
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def latest_checkpoint(outdir: str | os.PathLike[str]) -> Path:
    """Find the newest checkpoint of a run.

    Raises:
        CheckpointError: there is none.
    """
    checkpoints = list_checkpoints(outdir)
    if not checkpoints:
        raise CheckpointError(f"checkpoint: {str(outdir)!r} must hold a file checkpoint-*.pt to resume from")
    return checkpoints[-1]


def load_checkpoint(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read and check a checkpoint, with `weights_only=True`.

    Args:
        path: the file.
        device: where the tensors go.

    Returns:
        `TrainingState.state_dict()` of the run, with "format" and "version".

    Raises:
        CheckpointError: the file is missing, truncated, damaged, not a checkpoint of this package or a newer version of it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint: {str(path)!r} must be a file")
    try:
        # torch.load does not compare the check sums that torch.save wrote, and a flipped bit in a weight has no other sign.
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"check sum of {damaged} is wrong")
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch.load has no common error for files that are no checkpoints
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"checkpoint: {str(path)!r} must be an undamaged checkpoint ({reason}){_older(path)}") from error
    if reason := check_state(state):
        raise CheckpointError(f"checkpoint: {str(path)!r} {reason}{_older(path)}")
    return state


def told(value: Any) -> str:
    """A number or text of a file for an error's words; of anything else, whose text may be endless, the type."""
    return repr(value)[:100] if type(value) in (int, float, str, bool, type(None)) else type(value).__name__


def check_state(state: Any) -> str | None:
    """What a checkpoint's content must be and is not, as the end of a sentence; None where it is right."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return "must have been written by `stylegan-ops train`"
    if state.get("version") != VERSION:
        return f"must have version {VERSION} ({told(state.get('version'))})"
    if missing := KEYS - state.keys():
        return f"must hold {', '.join(sorted(missing))}"
    return None


def load_generator(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> nn.Module:
    """Make the averaged generator of a checkpoint.

    Args:
        path: file written by `stylegan-ops train`.
        device: where it goes.

    Returns:
        The `Generator` of the run's family in eval mode, parameters without grad; one that grows stands at the run's stage.

    Raises:
        CheckpointError: as for `load_checkpoint`, or the weights do not fit the network.
    """
    state = load_checkpoint(path)
    try:
        generator = FAMILIES[state["config"]["model"]].Generator(**state["G_init_kwargs"])
        generator.load_state_dict(state["G_ema"])
        grow(generator, state["stage"]["resolution"], state["stage"]["alpha"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint: weights of {str(path)!r} must fit its G_init_kwargs ({error})") from error
    return generator.eval().requires_grad_(False).to(device)


def config_of(state: dict[str, Any]) -> TrainingConfig:
    """Give the settings that a loaded checkpoint was written under."""
    return TrainingConfig.from_json(state["config"])


def _older(path: Path) -> str:
    others = [other for other in list_checkpoints(path.parent) if other.name < path.name]
    return f"; an older one is {str(others[-1])!r}" if others else ""
