"""The truncation trick as a picture: every seed's image at several psi."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..layers import estimate_w_avg, truncate
from .images import draw_images, seeded_latents

PSIS = (-1.0, -0.5, 0.0, 0.5, 0.7, 1.0)


def mean_w(G: nn.Module) -> torch.Tensor:
    """Give the mean code of a network.

    Args:
        G: a generator with a mapping network.

    Returns:
        w_avg [w_dim]: the running mean that the network carries, or where that is all zeros, as in files without one, the mean over
        10,000 codes (`estimate_w_avg`).

    Raises:
        ValueError: G has no mapping network, so that its codes are the latents themselves (num_ws is 1).
    """
    if G.num_ws == 1:
        raise ValueError("truncation: G must have a mapping network; a ProGAN has none (num_ws is 1), and its codes have no mean image")
    w_avg = getattr(G.mapping, "w_avg", None)
    return w_avg if w_avg is not None and w_avg.any() else estimate_w_avg(G.mapping)


@torch.no_grad()
def truncation(G: nn.Module, seeds: Sequence[int], psis: Sequence[float] = PSIS, class_index: int | None = None) -> torch.Tensor:
    """Draw the images of seeds at several strengths of the truncation.

    1. `w = f(z, c)`, z drawn by the seed. 2. `w' = w_avg + psi * (w - w_avg)`. 3. The image of w', with the network's own noise.

    Args:
        G: a generator with a mapping network.
        seeds: one for each row.
        psis: one for each column: 1 is the image itself, 0 the average image, below 0 its opposite.
        class_index: see `seeded_latents`.

    Returns:
        uint8 [rows, columns, C, H, W] on the CPU.

    Raises:
        ValueError: there are no seeds or psis, a psi is not finite, there is no such class, or G has no mapping network.

    Source: Karras et al. 2019 (arXiv:1812.04948), appendix B, figure 8.
    """
    if len(psis) == 0:
        raise ValueError("truncation: psis must hold at least one number (got none)")
    w_avg, ws = mean_w(G), G.mapping(*seeded_latents(G, seeds, class_index))
    return torch.stack([draw_images(G, truncate(ws, w_avg, psi)) for psi in psis], dim=1)
