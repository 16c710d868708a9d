"""Adversarial losses: what the generator and the discriminator minimise.

Every loss is a pair of functions of D's logits, in float32 at least and averaged over the batch; `LOSSES` has the pairs by name. Below, x
are real images, z latents, D(.) logits (no sigmoid) of shape [N, 1], and s = softplus, so that s(-t) = -log sigmoid(t). All return a
scalar tensor, differentiable as often as its formula allows (logistic, minimax: to any order).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .precision import widen


def generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Non-saturating logistic loss of the generator.

    L_G = E_z[s(-D(G(z)))] = -E_z[log sigmoid(D(G(z)))]

    Args:
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least (mean over the batch). Differentiable to any order.

    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 3; used by Karras et al., 2020 (StyleGAN2).
    """
    return F.softplus(-widen(fake_logits)).mean()


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Logistic loss of the discriminator: the binary cross-entropy of real against generated.

    L_D = E_x[s(-D(x))] + E_z[s(D(G(z)))]

    Args:
        real_logits: D's outputs for real images, [N, 1].
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least (mean over the batch). Differentiable to any order.

    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 3, equation 1.
    """
    return F.softplus(-widen(real_logits)).mean() + F.softplus(widen(fake_logits)).mean()


def minimax_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Minimax loss of the generator, the discriminator's with the other sign; saturates where D is sure that an image is generated.

    L_G = E_z[log(1 - sigmoid(D(G(z))))] = -E_z[s(D(G(z)))]

    Args:
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least, at most 0. Its derivative -sigmoid(D) goes to 0 as D -> -inf.

    Source: Goodfellow et al., Generative Adversarial Nets, 2014, section 3, equation 1.
    """
    return -F.softplus(widen(fake_logits)).mean()


def lsgan_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Least-squares loss of the generator, which wants the label 1.

    L_G = 1/2 E_z[(D(G(z)) - 1)^2]

    Args:
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least.

    Source: Mao et al., Least Squares Generative Adversarial Networks, 2017, section 3.2, with the labels a = 0, b = c = 1.
    """
    return (widen(fake_logits) - 1).square().mean() / 2


def lsgan_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Least-squares loss of the discriminator: label 1 for real, 0 for generated.

    L_D = 1/2 E_x[(D(x) - 1)^2] + 1/2 E_z[D(G(z))^2]

    Args:
        real_logits: D's outputs for real images, [N, 1].
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least.

    Source: Mao et al., Least Squares Generative Adversarial Networks, 2017, section 3.2, with the labels a = 0, b = c = 1.
    """
    return ((widen(real_logits) - 1).square().mean() + widen(fake_logits).square().mean()) / 2


def wasserstein_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Wasserstein loss of the generator: the critic's mean score, to be raised. The hinge loss has the same.

    L_G = -E_z[D(G(z))]

    Args:
        fake_logits: the critic's scores of generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least, of either sign.

    Source: Arjovsky et al., Wasserstein GAN, 2017, algorithm 1; Lim and Ye, Geometric GAN, 2017.
    """
    return -widen(fake_logits).mean()


def wasserstein_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Wasserstein loss of the critic: minus its estimate of the earth mover's distance.

    L_D = E_z[D(G(z))] - E_x[D(x)]

    It is bounded only for a Lipschitz critic: clip its weights (`clip_weights`) or add the `gradient_penalty`.

    Args:
        real_logits: the critic's scores of real images, [N, 1].
        fake_logits: its scores of generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least, of either sign.

    Source: Arjovsky et al., Wasserstein GAN, 2017, section 3, equation 2 and algorithm 1.
    """
    return widen(fake_logits).mean() - widen(real_logits).mean()


def hinge_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Hinge loss of the discriminator: no gradient from images on the right side of the margin.

    L_D = E_x[max(0, 1 - D(x))] + E_z[max(0, 1 + D(G(z)))]

    Args:
        real_logits: D's outputs for real images, [N, 1].
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least, at least 0.

    Source: Lim and Ye, Geometric GAN, 2017; Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018, equation 16.
    """
    return F.relu(1 - widen(real_logits)).mean() + F.relu(1 + widen(fake_logits)).mean()


def rahinge_generator_loss(fake_logits: torch.Tensor, real_logits: torch.Tensor | None) -> torch.Tensor:
    """Relativistic average hinge loss of the generator: generated images are to look more real than the mean real one, and the reverse.

    L_G = E_z[max(0, 1 - (D(G(z)) - E_x[D(x)]))] + E_x[max(0, 1 + (D(x) - E_z[D(G(z))]))]

    Args:
        fake_logits: D's outputs for generated images, [N, 1].
        real_logits: D's outputs for real images, [N, 1].

    Returns:
        Scalar tensor, float32 at least, at least 0. The inner means are of the given batches.

    Raises:
        ValueError: `real_logits` is None.

    Source: Jolicoeur-Martineau, The relativistic discriminator: a key element missing from standard GAN, 2018, RaHingeGAN.
    """
    if real_logits is None:
        raise ValueError("rahinge: the generator's loss compares with the logits of real images, real_logits is None")
    # The discriminator's loss with real and generated exchanged.
    return rahinge_discriminator_loss(fake_logits, real_logits)


def rahinge_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Relativistic average hinge loss of the discriminator: each image against the mean of the other kind.

    L_D = E_x[max(0, 1 - (D(x) - E_z[D(G(z))]))] + E_z[max(0, 1 + (D(G(z)) - E_x[D(x)]))]

    Args:
        real_logits: D's outputs for real images, [N, 1].
        fake_logits: D's outputs for generated images, [N, 1].

    Returns:
        Scalar tensor, float32 at least, at least 0. The inner means are of the given batches.

    Source: Jolicoeur-Martineau, The relativistic discriminator: a key element missing from standard GAN, 2018, RaHingeGAN.
    """
    real, fake = widen(real_logits), widen(fake_logits)
    return F.relu(1 - (real - fake.mean())).mean() + F.relu(1 + (fake - real.mean())).mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """A pair of losses, both to be minimised.

    Attributes:
        name: key in `LOSSES`.
        generator: (fake_logits, real_logits or None) -> scalar.
        discriminator: (real_logits, fake_logits) -> scalar.
        uses_reals: True if the generator's loss needs the logits of real images.
    """

    name: str
    generator: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
    discriminator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    uses_reals: bool = False


def _of_fakes(loss: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]:
    """Give a generator's loss that looks at generated images alone the form that all have."""
    return lambda fake_logits, real_logits=None: loss(fake_logits)


LOSSES: dict[str, AdversarialLoss] = {
    loss.name: loss
    for loss in (
        AdversarialLoss("logistic", _of_fakes(generator_loss), discriminator_loss),
        AdversarialLoss("minimax", _of_fakes(minimax_generator_loss), discriminator_loss),
        AdversarialLoss("lsgan", _of_fakes(lsgan_generator_loss), lsgan_discriminator_loss),
        AdversarialLoss("wasserstein", _of_fakes(wasserstein_generator_loss), wasserstein_discriminator_loss),
        AdversarialLoss("hinge", _of_fakes(wasserstein_generator_loss), hinge_discriminator_loss),
        AdversarialLoss("rahinge", rahinge_generator_loss, rahinge_discriminator_loss, uses_reals=True),
    )
}
