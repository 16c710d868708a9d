"""Perceptual path length of a generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ..training.random import generator, normal_images
from .batches import batches

if TYPE_CHECKING:
    from torch import nn

SPACES = ("z", "w")
SAMPLINGS = ("full", "end")
_LARGEST = 256  # pixels; larger images are made smaller before they are compared
_REJECTED = 0.01  # share of paths at either end that does not count


@dataclass(frozen=True)
class PathLength:
    """A measured path length.

    Attributes:
        mean: the perceptual path length.
        distances: [samples] float64, of every path, d / epsilon^2.
        kept: [samples] bool, those that count in the mean.
    """

    mean: float
    distances: np.ndarray
    kept: np.ndarray


def slerp(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Go the share t of the great circle from the direction of a to that of b, on the sphere of radius sqrt(d) where latents are.

    Args:
        a, b: [N, d].
        t: [N, 1].

    Returns:
        [N, d].

    Source: Shoemake 1985; in z by Karras et al. 2019 (arXiv:1812.04948), section 4.1.
    """
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    cosine = (a * b).sum(dim=1, keepdim=True).clamp(-1, 1)
    across = F.normalize(b - cosine * a, dim=1)
    angle = t * cosine.acos()
    return (a * angle.cos() + across * angle.sin()) * a.shape[1] ** 0.5


def reject_outliers(distances: np.ndarray) -> np.ndarray:
    """Mark what counts: False below the 1st and above the 99th percentile, each taken as the next value outwards.

    Args:
        distances: [N].

    Returns:
        [N] bool.
    """
    low = np.quantile(distances, _REJECTED, method="lower")
    high = np.quantile(distances, 1 - _REJECTED, method="higher")
    return (low <= distances) & (distances <= high)


@torch.inference_mode()
def perceptual_path_length(
    G: nn.Module,
    distance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    space: str = "w",
    sampling: str = "full",
    samples: int = 10_000,
    epsilon: float = 1e-4,
    crop: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> PathLength:
    """How much an image changes over a small step in latent space, relative to the step.

    l_z = E[d(G(slerp(z1, z2, t)), G(slerp(z1, z2, t + epsilon))) / epsilon^2]
    l_w = E[d(g(lerp(f(z1), f(z2), t)), g(lerp(f(z1), f(z2), t + epsilon))) / epsilon^2]

    1. z1, z2 ~ N(0, I), t ~ U(0, 1) for "full", t = 0 for "end". f is the mapping, g the synthesis; no truncation, and both images have
       the layers' own noise, so that the path alone makes them differ. Both have one label, drawn uniformly.
    2. Keep the middle half of height and width, if `crop`.
    3. Average pixels down to 256x256 where images are larger.
    4. Mean over the paths, those below the 1st and above the 99th percentile left out.

    Args:
        G: a generator with `mapping` and `synthesis`, in eval mode.
        distance: takes two batches of images [N, C, H, W] and returns [N]: LPIPS in the papers.
        space: "z" or "w".
        sampling: "full" or "end".
        samples: number of paths; 100,000 in the papers.
        epsilon: the step.
        crop: compare the middle of the image alone, where the face is.
        seed: path i is the same for every batch size.
        progress: show a progress bar.

    Returns:
        PathLength.

    Raises:
        ValueError: an argument is outside these rules.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 4.1 (cropped for faces); 2020 (arXiv:1912.04958), section 2 (not cropped). The
    papers do not say where faces are cropped: the middle half is this package's choice.
    """
    for name, value, choices in (("space", space, SPACES), ("sampling", sampling, SAMPLINGS)):
        if value not in choices:
            raise ValueError(f"perceptual_path_length: {name} must be one of {', '.join(choices)} ({value!r})")
    if samples < 1 or not epsilon > 0:
        raise ValueError(f"perceptual_path_length: samples must be at least 1 and epsilon positive ({samples} and {epsilon})")
    parameter = next(G.parameters())
    ts = torch.rand(samples, 1, generator=generator(seed, "ppl t"), dtype=torch.float64) * (sampling == "full")
    classes = torch.randint(max(G.c_dim, 1), [samples], generator=generator(seed, "ppl labels"))
    found = []
    for batch in batches(samples, G.img_resolution, f"paths in {space}", progress=progress):
        # float64 until the network: a step of 1e-4 leaves float32 three digits.
        z1, z2 = normal_images([2, G.z_dim], batch, seed, "ppl latents").double().unbind(1)
        c = F.one_hot(classes[batch.start : batch.stop], G.c_dim).to(parameter) if G.c_dim else None

        def to_w(z: torch.Tensor, c: torch.Tensor | None = c) -> torch.Tensor:
            return G.mapping(z.to(parameter), c)

        t = ts[batch.start : batch.stop]
        if space == "z":
            ends = [to_w(slerp(z1, z2, t + step)) for step in (0, epsilon)]
        else:
            w1, w2 = to_w(z1), to_w(z2)
            ends = [torch.lerp(w1.double(), w2.double(), (t + step).to(w1.device)[:, :, None]).to(w1) for step in (0, epsilon)]
        # One batch: the two images of a path go through the same arithmetic.
        images = _prepare(G.synthesis(torch.cat(ends), noise_mode="const"), crop)
        found.append((distance(*images.chunk(2)).double() / epsilon**2).cpu())
    distances = torch.cat(found).numpy()
    kept = reject_outliers(distances)
    return PathLength(float(distances[kept].mean()), distances, kept)


def _prepare(images: torch.Tensor, crop: bool) -> torch.Tensor:
    if crop:
        height, width = images.shape[2:]
        images = images[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4]
    if max(images.shape[2:]) > _LARGEST:
        images = F.adaptive_avg_pool2d(images, _LARGEST)
    return images
