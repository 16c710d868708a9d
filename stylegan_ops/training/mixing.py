"""Style mixing."""

from __future__ import annotations

import torch


def draw_crossovers(count: int, num_ws: int, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Draw the layer at which each image changes from its first style to its second.

    Args:
        count: number of images N.
        num_ws: number of layers that take a style.
        probability: share of images with mixed styles, in [0, 1].
        generator: CPU generator.

    Returns:
        int64 tensor [N] on the CPU: uniform in [1, num_ws) for a mixed image, num_ws for an unmixed one.
    """
    mixed = torch.rand(count, generator=generator) < probability
    crossover = torch.randint(1, max(num_ws, 2), (count,), generator=generator)
    return torch.where(mixed, crossover, num_ws)


def mix_styles(ws: torch.Tensor, other: torch.Tensor, crossovers: torch.Tensor) -> torch.Tensor:
    """Take the first layers' styles from one code and the rest from another, so that neighbouring layers do not rely on each other.

    mixed[n, l] = ws[n, l] for l < crossovers[n], else other[n, l]

    Args:
        ws: [N, num_ws, w_dim].
        other: a second set of the same shape.
        crossovers: int64 [N], see `draw_crossovers`.

    Returns:
        Tensor [N, num_ws, w_dim] of ws' dtype. Differentiable to any order.

    Source: Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks, 2019, section 3.1.
    """
    layers = torch.arange(ws.shape[1], device=ws.device)
    return torch.where((layers < crossovers[:, None])[:, :, None], ws, other)
