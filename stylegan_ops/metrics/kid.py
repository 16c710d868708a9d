"""Kernel inception distance, over the features of VGG16."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..training.random import generator
from .features import dataset_features, generated_features, input_size
from .vgg16 import VGG16, VGG16Weights

if TYPE_CHECKING:
    from torch import nn

    from stylegan_ops.data import ImageDataset

_SUBSETS, _SUBSET_SIZE = 100, 1000


# torchmetrics' KID takes images only, none of the features kept here, and draws its subsets from the global random numbers in float32.
def polynomial_mmd2(x: torch.Tensor, y: torch.Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of two samples, with the cubic polynomial kernel.

    MMD^2 = sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 / (m n) sum_ij k(x_i, y_j),
    k(x, y) = (x . y / d + 1)^3

    Args:
        x, y: features [m, d] and [n, d], m and n at least 2. Computed in float64.

    Returns:
        float; negative values are possible, since its mean is 0 for equal distributions.

    Raises:
        ValueError: an argument has another shape.

    Source: Binkowski et al. 2018 (arXiv:1801.01401), section 3 and equation 4.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"polynomial_mmd2: x and y must be [m, d] and [n, d], m and n at least 2 ({list(x.shape)} and {list(y.shape)})")
    x, y = x.double(), y.double()
    m, n, d = len(x), len(y), x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    same = (xx.sum() - xx.trace()) / (m * (m - 1)) + (yy.sum() - yy.trace()) / (n * (n - 1))
    return (same - 2 * xy.mean()).item()


def kid(real: torch.Tensor, generated: torch.Tensor, *, subset_size: int | None = None, seed: int = 0) -> np.ndarray:
    """Kernel inception distance of two sets of features, on 100 random subsets.

    Args:
        real, generated: features [m, d] and [n, d].
        subset_size: features of each set in a subset, drawn without replacement. Default 1000, or half of the smaller set if that is
            less. The mean does not depend on it, since each value is unbiased.
        seed: of the subsets.

    Returns:
        [100] float64, `polynomial_mmd2` of each subset. KID is their mean; their standard deviation says how far a value can be trusted.

    Raises:
        ValueError: `subset_size` is not from 2 to the size of the smaller set.

    Source: Binkowski et al. 2018 (arXiv:1801.01401), section 4.
    """
    smaller = min(len(real), len(generated))
    size = _subset_size(smaller) if subset_size is None else subset_size
    if not 2 <= size <= smaller:
        raise ValueError(f"kid: subset_size must be from 2 to the number of features, {smaller} ({size})")
    draws = generator(seed, "kid subsets")

    def subset(features: torch.Tensor) -> torch.Tensor:
        return features[torch.randperm(len(features), generator=draws)[:size]]

    return np.array([polynomial_mmd2(subset(real), subset(generated)) for _ in range(_SUBSETS)])


def _subset_size(smaller: int) -> int:
    # Half of a small set, since subsets that are the whole set have no deviation.
    return min(_SUBSET_SIZE, smaller // 2)


def kid_vgg16(
    G: nn.Module,
    dataset: ImageDataset,
    weights: VGG16Weights,
    *,
    samples: int = 5000,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """KID between a generator and a data set, over VGG16: not to be compared with a KID over another network.

    1. Features of real images (`dataset_features`) and of generated ones (`generated_features`): relu5_3, averaged over the pixels, of
       images resized to the data set's resolution, but from 64 to 224 pixels.
    2. `kid` of the two.

    Args:
        G: the generator, in eval mode.
        dataset: the real images.
        weights: of `load_vgg16`.
        samples: images of either kind, at least 4; fewer real ones where the set has fewer.
        seed: of latents, labels and subsets.
        cache: see `dataset_features`.
        progress: show progress bars.

    Returns:
        dict of JSON values: metric ("kid_vgg16"), mean, std (over subsets), samples, real_samples, subset_size, subsets, input_size,
        seed, vgg16_sha256.

    Raises:
        ValueError: too few images, or classes that do not agree.

    Source: Binkowski et al. 2018 (arXiv:1801.01401), with VGG16 in the place of Inception.
    """
    count = min(samples, dataset.num_images)
    if count < 4:
        raise ValueError(f"kid_vgg16: samples and the images of the data set must be at least 4 ({samples} and {dataset.num_images})")
    vgg16 = VGG16(weights).to(next(G.parameters()).device)
    real = dataset_features(vgg16, weights.sha256, dataset, samples, cache=cache, progress=progress)
    generated = generated_features(vgg16, G, dataset, samples, seed=seed, progress=progress)
    values = kid(real, generated, seed=seed)
    return {
        **{"metric": "kid_vgg16", "mean": values.mean(), "std": values.std(), "samples": samples, "real_samples": count},
        **{"subset_size": _subset_size(count), "subsets": len(values), "input_size": input_size(dataset.resolution), "seed": seed},
        "vgg16_sha256": weights.sha256,
    }
