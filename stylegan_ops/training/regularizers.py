"""What keeps the discriminator smooth: penalties on its gradients, and WGAN's clipping of its weights.

A penalty is a loss made of first derivatives, so that training differentiates the discriminator twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from .precision import widen


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
    return _gradients(real_logits, reals, grad_scale).square().sum(1).mean() * (gamma / 2)


def r2_penalty(fake_logits: torch.Tensor, fakes: torch.Tensor, gamma: float, *, grad_scale: float = 1.0) -> torch.Tensor:
    """R2: the squared length of D's gradient on generated images.

    R2 = gamma / 2 * E_z[ || grad_x D(x) ||^2 at x = G(z) ]

    Args:
        fake_logits: D(fakes), [N, 1], computed with a graph back to `fakes`.
        fakes: generated images, [N, C, H, W], requiring grad; detached from the generator, which the penalty would reach otherwise.
        gamma, grad_scale: as in `r1_penalty`.

    Returns:
        Scalar tensor, float32 at least (mean over the batch), differentiable with respect to D's parameters.

    Source: Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, section 4, equation 10.
    """
    return r1_penalty(fake_logits, fakes, gamma, grad_scale=grad_scale)


def gradient_penalty(
    discriminator: Callable[[torch.Tensor], torch.Tensor],
    reals: torch.Tensor,
    fakes: torch.Tensor,
    weight: float,
    epsilon: torch.Tensor,
    *,
    target: float = 1.0,
    grad_scale: float = 1.0,
) -> torch.Tensor:
    """WGAN-GP's two-sided penalty: D's gradient has a given length between real and generated images.

    penalty = weight * E[ (|| grad_x^ D(x^) || - target)^2 ] / target^2,   x^ = epsilon * x + (1 - epsilon) * G(z)

    Args:
        discriminator: images -> logits [N, 1]; enters autocast on its own, where it is wanted.
        reals: real images x, [N, C, H, W].
        fakes: generated images G(z), shape of `reals`. No gradient reaches the generator.
        weight: lambda, 10 in the paper; the expectation is over the batch.
        epsilon: uniform in [0, 1], one for each pair, [N, 1, 1, 1].
        target: length of the gradient, over 0; 1 in WGAN-GP, another one in ProGAN's appendix, which divides by its square.
        grad_scale: as in `r1_penalty`.

    Returns:
        Scalar tensor, float32 at least, differentiable with respect to D's parameters; at a gradient of zero its derivative is 0.

    Raises:
        ValueError: a shape or `target` is outside these rules.

    Source: Gulrajani et al., Improved Training of Wasserstein GANs, 2017, section 4, equation 3; Karras et al., Progressive Growing of
        GANs, 2018, appendix D, for the target.
    """
    if fakes.shape != reals.shape:
        raise ValueError(f"gradient_penalty: fakes must have the shape of reals {tuple(reals.shape)}, got {tuple(fakes.shape)}")
    pairs = (len(reals), *[1] * (reals.dim() - 1))
    if epsilon.shape != pairs:
        raise ValueError(f"gradient_penalty: epsilon must have one value for each pair, shape {pairs}, got {tuple(epsilon.shape)}")
    if not target > 0:
        raise ValueError(f"gradient_penalty: target must be positive, got {target}")
    between = (epsilon * reals + (1 - epsilon) * fakes).detach().requires_grad_()
    # vector_norm, not sqrt(sum): its derivative at a zero gradient is 0 instead of NaN.
    lengths = torch.linalg.vector_norm(_gradients(discriminator(between), between, grad_scale), dim=1)
    return (lengths / target - 1).square().mean() * weight


@torch.no_grad()
def clip_weights(parameters: Iterable[torch.Tensor], bound: float) -> None:
    """WGAN's clipping: w <- clip(w, -bound, bound), in place, which keeps the critic Lipschitz.

    WGAN's algorithm, once for each step of the generator:

    1. n times (5 in the paper): a step of RMSprop (learning rate 5e-5) on the critic with `wasserstein_discriminator_loss`, then
       clip its weights to 0.01.
    2. A step of RMSprop on the generator with `wasserstein_generator_loss`.

    Args:
        parameters: the critic's. Of layers with an equalised learning rate these are the stored values: see `clip_equalized`.
        bound: c, over 0.

    Raises:
        ValueError: `bound` is not positive.

    Source: Arjovsky et al., Wasserstein GAN, 2017, algorithm 1.
    """
    if not bound > 0:
        raise ValueError(f"clip_weights: bound must be positive, got {bound}")
    for parameter in parameters:
        parameter.clamp_(-bound, bound)


def clip_equalized(network: nn.Module, bound: float) -> None:
    """`clip_weights` for a network with an equalised learning rate: the weights are clipped as they act, behind their run-time scale.

    Their stored values are 1 / scale times as large: clipped themselves, each layer of L would shrink its input by bound * scale, and a
    deep critic's output would vanish.

    Args:
        network: the critic, of `stylegan_ops.layers` and others.
        bound: c, over 0.

    Raises:
        ValueError: `bound` is not positive.
    """
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            clip_weights([parameter], bound / getattr(module, f"{name}_gain", 1.0))


def _gradients(logits: torch.Tensor, images: torch.Tensor, grad_scale: float) -> torch.Tensor:
    """Each image's gradient of its logit, [N, C * H * W], part of the graph."""
    (gradients,) = torch.autograd.grad(widen(logits).sum() * grad_scale, images, create_graph=True)
    return (widen(gradients) / grad_scale).flatten(1)
