"""Lazy regularisation: a regulariser every k-th step, with the optimiser corrected for the extra steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def lazy_adam(
    parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], interval: int | None, eps: float = 1e-8
) -> torch.optim.Adam:
    """Make an Adam whose step and memory are as long as without the extra regularisation steps.

    With one regularisation step after every k main steps: c = k / (k + 1), lr' = c * lr, beta' = beta^c. The regulariser's loss is
    multiplied by k where it is computed.

    Args:
        parameters: what to train.
        lr: learning rate of the equivalent optimiser without lazy regularisation.
        betas: its two decays.
        interval: k, main steps per regularisation step; None where there is no regulariser (c = 1).
        eps: added to the root of the second moment.

    Returns:
        torch.optim.Adam, fused (one pass over memory).

    Source: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, section 3.1 and appendix B.
    """
    correction = interval / (interval + 1) if interval is not None else 1.0
    beta1, beta2 = (float(beta) ** correction for beta in betas)
    return torch.optim.Adam(parameters, lr=lr * correction, betas=(beta1, beta2), eps=eps, fused=True)


def lazy_rmsprop(parameters: Iterable[nn.Parameter], *, lr: float, interval: int | None) -> torch.optim.RMSprop:
    """Make the RMSprop of the Wasserstein GAN's algorithm, its step corrected as in `lazy_adam`.

    Args:
        parameters: what to train.
        lr: learning rate, 0.00005 in the paper.
        interval: k, main steps per regularisation step; None where there is no regulariser.

    Returns:
        torch.optim.RMSprop with a decay of 0.99 and no momentum.

    Source: Arjovsky et al., Wasserstein GAN, 2017 (arXiv:1701.07875), algorithm 1.
    """
    correction = interval / (interval + 1) if interval is not None else 1.0
    return torch.optim.RMSprop(parameters, lr=lr * correction, alpha=0.99**correction)


def is_due(step: int, interval: int | None) -> bool:
    """Tell whether a regulariser runs in this step.

    Args:
        step: number of the step, from 0.
        interval: k, main steps per regularisation step; None for never.

    Returns:
        True in steps 0, k, 2k, ...
    """
    return interval is not None and step % interval == 0
