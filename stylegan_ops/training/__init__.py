"""Training: the losses and regularisers of StyleGAN2, and a loop that can be interrupted, resumed and spread over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .checkpoint import CheckpointError, latest_checkpoint, load_checkpoint, load_generator, save_checkpoint
from .config import TrainingConfig
from .ema import ema_beta, update_ema
from .growing import GrowthSchedule, Stage, fade_reals, parse_per_resolution
from .lazy import lazy_adam
from .losses import discriminator_loss, generator_loss, r1_penalty
from .mixing import draw_crossovers, mix_styles
from .path_length import PathLengthRegularizer, default_path_weight
from .presets import PRESETS
from .processes import Processes
from .state import TrainingState

if TYPE_CHECKING:
    from .trainer import RunResult, Trainer, TrainingDiverged

__all__ = [
    "PRESETS",
    "CheckpointError",
    "GrowthSchedule",
    "PathLengthRegularizer",
    "Processes",
    "RunResult",
    "Stage",
    "Trainer",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingState",
    "default_path_weight",
    "discriminator_loss",
    "draw_crossovers",
    "ema_beta",
    "fade_reals",
    "generator_loss",
    "latest_checkpoint",
    "lazy_adam",
    "load_checkpoint",
    "load_generator",
    "mix_styles",
    "parse_per_resolution",
    "r1_penalty",
    "save_checkpoint",
    "update_ema",
]


def __getattr__(name: str) -> Any:
    """The trainer reads images, which needs Pillow: it is imported when it is asked for, so that the losses need no more than torch."""
    if name in ("RunResult", "Trainer", "TrainingDiverged"):
        from . import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
