"""Path-length regularisation of the generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from .precision import widen


def default_path_weight(resolution: int) -> float:
    """Weight of the penalty for one resolution.

    gamma_pl = ln 2 / (r^2 (ln r - ln 2)) in the paper, for noise of unit variance; here times r^2, since `PathLengthRegularizer`
    divides the noise by r = sqrt(H W).

    Args:
        resolution: width of the images r in pixels, at least 4.

    Returns:
        float.

    Source: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, appendix B.
    """
    return math.log(2) / (math.log(resolution) - math.log(2))


class PathLengthRegularizer(nn.Module):
    """Asks that a step of fixed length in W changes the image by a fixed amount.

    penalty = E_{w, y}[ (|| J_w^T y ||_2 - a)^2 ],  J_w = dg(w) / dw,  y ~ N(0, I) / sqrt(H W)

    1. J_w^T y is the gradient of sum(g(w) * y) with respect to w, so the Jacobian is never formed.
    2. w enters every layer on its own, as ws[:, l]; the squared length is the mean over the layers l.
    3. a is the running mean of the lengths: a <- a + decay * (mean length - a). It is a constant to the gradient.

    Args:
        decay: share of a new batch in the running mean, in (0, 1]. Default 0.01.

    Attributes:
        mean: buffer, scalar, the running mean a.

    Source: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, section 3.2, equation 4.
    """

    mean: torch.Tensor

    def __init__(self, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros([]))

    def forward(
        self,
        images: torch.Tensor,
        ws: torch.Tensor,
        noise: torch.Tensor,
        layers: int | None = None,
        *,
        grad_scale: float = 1.0,
        average: Callable[[torch.Tensor], object] | None = None,
    ) -> torch.Tensor:
        """Compute the penalty and move the running mean.

        Args:
            images: g(ws), [N, C, H, W], computed with a graph back to `ws`.
            ws: [N, num_ws, w_dim], part of the graph.
            noise: standard normal, shape of `images`; divided by sqrt(H W) here.
            layers: how many of the codes the images were made of, the first ones; None for all. A network that grows reads not all yet.
            grad_scale: as in `r1_penalty`.
            average: averages a tensor in place over the processes of a distributed run; None for a single one.

        Returns:
            Scalar tensor, float32 at least, not yet weighted; differentiable with respect to the generator's parameters.
        """
        _, _, height, width = images.shape
        projection = (widen(images) * noise).sum() * (grad_scale / math.sqrt(height * width))
        (gradients,) = torch.autograd.grad(projection, ws, create_graph=True)
        gradients = widen(gradients) / grad_scale
        # vector_norm, not sqrt(sum): its derivative at a zero gradient is 0 instead of NaN.
        lengths = torch.linalg.vector_norm(gradients, dim=(1, 2)) / math.sqrt(layers or ws.shape[1])
        batch_mean = lengths.detach().mean()
        if average is not None:
            average(batch_mean)
        moved = self.mean.lerp(batch_mean, self.decay)
        # A float16 step that overflows is skipped by its scaler and must leave the mean alone too.
        self.mean.copy_(torch.where(moved.isfinite(), moved, self.mean))
        return (lengths - self.mean).square().mean()


def simple_path_length_penalty(
    images: torch.Tensor, w: torch.Tensor, noise: torch.Tensor, a: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A simplified path-length penalty, as tutorials show it: every component of the gradient is drawn to a, and there is one norm.

    v = sum(g(w) * y),   penalty = || grad_w v - a ||_2,   a' = a + decay * (v - a)

    It is not the paper's, `PathLengthRegularizer`:

    1. a is taken from every component of the gradient, not from its length, so that a sign and a direction of W are preferred.
    2. The norm is over the whole batch and is not squared: the penalty grows with sqrt(N), and its derivative does not fade near a.
    3. The noise is not divided by sqrt(H W): a depends on the resolution.
    4. a, where it moves, follows v, which has mean 0 over the noise, and not the length of the gradient. A constant a avoids that.

    Args:
        images: g(w), [N, C, H, W], computed with a graph back to `w`.
        w: [N, w_dim], or [N, num_ws, w_dim]; part of the graph.
        noise: y, standard normal, shape of `images`.
        a: the value compared with, a number or a scalar tensor; a constant to the gradient.

    Returns:
        penalty: scalar tensor, float32 at least, not yet weighted; differentiable with respect to the generator's parameters. Where the
            gradient is a, its derivative is 0.
        v: scalar tensor, detached: `a = torch.lerp(a, v, decay)`, for one that decays (0.001 in tutorials).
    """
    variation = (widen(images) * noise).sum()
    (gradients,) = torch.autograd.grad(variation, w, create_graph=True)
    # vector_norm, not sqrt(sum): its derivative at zero is 0 instead of NaN.
    return torch.linalg.vector_norm(widen(gradients) - a), variation.detach()
