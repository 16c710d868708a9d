"""Adversarial losses and the R1 gradient penalty."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .precision import widen


def generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Non-saturating logistic loss of the generator.

    L_G = E_z[softplus(-D(G(z)))] = -E_z[log sigmoid(D(G(z)))]

    Args:
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least (mean over the batch). Differentiable to any order.

    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 3; used by Karras et al., 2020 (StyleGAN2).
    """
    return F.softplus(-widen(fake_logits)).mean()


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Logistic loss of the discriminator.

    L_D = E_x[softplus(-D(x))] + E_z[softplus(D(G(z)))]

    Args:
        real_logits: D's outputs for real images, [N, 1].
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least (mean over the batch). Differentiable to any order.

    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 3, equation 1.
    """
    return F.softplus(-widen(real_logits)).mean() + F.softplus(widen(fake_logits)).mean()


def r1_penalty(real_logits: torch.Tensor, reals: torch.Tensor, gamma: float, *, grad_scale: float = 1.0) -> torch.Tensor:
    """R1: the squared length of D's gradient on real images.

    R1 = gamma / 2 * E_x[ || grad_x D(x) ||^2 ]

    Args:
        real_logits: D(reals), [N, 1], computed with a graph back to `reals`.
        reals: the real images, [N, C, H, W], requiring grad.
        gamma: weight of the penalty; 0 turns it off.
        grad_scale: factor on the logits while the inner gradient is taken and divided out of it again, so that a float16 gradient does
            not underflow; 1 in other precisions.

    Returns:
        Scalar tensor, float32 at least (mean over the batch), differentiable with respect to D's parameters.

    Source: Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, section 4, equation 9.
    """
    (gradients,) = torch.autograd.grad(widen(real_logits).sum() * grad_scale, reals, create_graph=True)
    gradients = widen(gradients) / grad_scale
    return gradients.square().flatten(1).sum(1).mean() * (gamma / 2)
