"""Exponential moving average of the generator."""

from __future__ import annotations

import torch
from torch import nn


def ema_beta(batch_size: int, images: int, ema_kimg: float, rampup: float) -> float:
    """Decay of the average for one step.

    beta = 0.5 ^ (batch_size / half_life),  half_life = min(1000 * ema_kimg, rampup * images)

    Early in training the half-life is a share of what has been seen, so that the first, bad generators are soon forgotten.

    Args:
        batch_size: images in one step, over all processes.
        images: real images shown to D so far.
        ema_kimg: half-life in thousands of images; 0 gives a plain copy.
        rampup: largest half-life as a share of `images`; 0 leaves the half-life as it is.

    Returns:
        float in [0, 1).

    Source: Karras et al., Progressive Growing of GANs, 2018, section 4 (the average); the ramp-up is Karras et al., Training
    Generative Adversarial Networks with Limited Data, 2020.
    """
    half_life = ema_kimg * 1000
    if rampup > 0:
        half_life = min(half_life, images * rampup)
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, beta: float) -> None:
    """Move the average towards the model: average <- beta * average + (1 - beta) * model; buffers, w_avg among them, are copied.

    Args:
        average: module of the same structure as `model`, changed in place.
        model: the module in training.
        beta: decay in [0, 1], see `ema_beta`.
    """
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - beta)
    for averaged, buffer in zip(average.buffers(), model.buffers(), strict=True):
        averaged.copy_(buffer)
