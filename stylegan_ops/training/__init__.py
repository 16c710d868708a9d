"""Training: adversarial losses and regularisers, and a loop that can be interrupted, resumed and spread over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .checkpoint import CheckpointError, latest_checkpoint, load_checkpoint, load_generator, save_checkpoint
from .config import TrainingConfig
from .ema import ema_beta, update_ema
from .growing import GrowthSchedule, Stage, fade_reals, parse_per_resolution
from .lazy import lazy_adam
from .losses import (
    LOSSES,
    AdversarialLoss,
    discriminator_loss,
    generator_loss,
    hinge_discriminator_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
    minimax_generator_loss,
    rahinge_discriminator_loss,
    rahinge_generator_loss,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)
from .mixing import draw_crossovers, mix_styles
from .path_length import PathLengthRegularizer, default_path_weight, simple_path_length_penalty
from .presets import PRESETS
from .processes import Processes
from .regularizers import clip_equalized, clip_weights, gradient_penalty, r1_penalty, r2_penalty
from .state import TrainingState

if TYPE_CHECKING:
    from .trainer import RunResult, Trainer, TrainingDiverged

__all__ = [
    "LOSSES",
    "PRESETS",
    "AdversarialLoss",
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
    "clip_equalized",
    "clip_weights",
    "default_path_weight",
    "discriminator_loss",
    "draw_crossovers",
    "ema_beta",
    "fade_reals",
    "generator_loss",
    "gradient_penalty",
    "hinge_discriminator_loss",
    "latest_checkpoint",
    "lazy_adam",
    "load_checkpoint",
    "load_generator",
    "lsgan_discriminator_loss",
    "lsgan_generator_loss",
    "minimax_generator_loss",
    "mix_styles",
    "parse_per_resolution",
    "r1_penalty",
    "r2_penalty",
    "rahinge_discriminator_loss",
    "rahinge_generator_loss",
    "save_checkpoint",
    "simple_path_length_penalty",
    "update_ema",
    "wasserstein_discriminator_loss",
    "wasserstein_generator_loss",
]


def __getattr__(name: str) -> Any:
    """The trainer reads images, which needs Pillow: it is imported when it is asked for, so that the losses need no more than torch."""
    if name in ("RunResult", "Trainer", "TrainingDiverged"):
        from . import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
