"""The features of KID: VGG16's, of real and of generated images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ..training.grids import to_uint8
from ..training.random import generator, normal_images
from .batches import batches
from .cache import cached, default_cache
from .vgg16 import VGG16

if TYPE_CHECKING:
    from torch import nn

    from stylegan_ops.data import ImageDataset

# Part of the key of kept features: a change of what they are changes this text.
_FEATURES = "vgg16 relu5_3, mean over pixels; images of 8 bits, resized with a triangle filter to input_size; choice 1"
_SMALLEST, _LARGEST = 64, 224  # of the network's input, pixels: 4x4 features at relu5_3, and the size it was trained on


def input_size(resolution: int) -> int:
    """Height and width that images of a data set are resized to for VGG16: its resolution, but from 64 to 224 pixels."""
    return min(max(resolution, _SMALLEST), _LARGEST)


@torch.inference_mode()
def vgg16_features(vgg16: VGG16, images: torch.Tensor, size: int) -> torch.Tensor:
    """Compute the features of KID: relu5_3 of VGG16, averaged over the pixels.

    Args:
        vgg16: the network.
        images: uint8 [N, 1 or 3, H, W]; a grey image becomes three equal channels.
        size: height and width that they are resized to (bilinear, with a wider triangle when it makes them smaller).

    Returns:
        [N, 512], float32.
    """
    x = images.to(vgg16.shift.device).float() / 127.5 - 1
    if x.shape[2:] != (size, size):
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return vgg16(x)[-1].mean(dim=(2, 3))


def dataset_features(
    vgg16: VGG16,
    sha256: str,
    dataset: ImageDataset,
    samples: int,
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> torch.Tensor:
    """Features of images of a data set, kept in a file for the next time.

    Args:
        vgg16: the network.
        sha256: of its weights' file.
        dataset: its images, mirrored ones left out.
        samples: how many; a fixed random choice if the set has more, all of them if it has fewer.
        cache: folder of the kept features. Default ~/.cache/stylegan_ops. They are found again for the same images, network, number and
            preparation alone.
        progress: show a progress bar.

    Returns:
        [n, 512] float32 on the CPU, n the smaller one of `samples` and the number of images.
    """
    count, size = min(samples, dataset.num_images), input_size(dataset.resolution)

    def compute() -> np.ndarray:
        chosen = torch.randperm(dataset.num_images, generator=generator(0, "kid data"))[:count].tolist()
        found = []
        for batch in batches(count, size, "real images", progress=progress):
            images = torch.stack([dataset[chosen[i]][0] for i in batch])
            found.append(vgg16_features(vgg16, images, size).cpu())
        return torch.cat(found).numpy()

    key = {
        **{"features": _FEATURES, "network": sha256, "data": dataset.fingerprint(), "resolution": dataset.resolution},
        **{"input_size": size, "count": count},
    }
    return torch.from_numpy(cached(key, compute, default_cache() if cache is None else cache))


@torch.inference_mode()
def generated_features(
    vgg16: VGG16, G: nn.Module, dataset: ImageDataset, samples: int, *, seed: int = 0, progress: bool = False
) -> torch.Tensor:
    """Features of generated images, without truncation and with the layers' own noise.

    Args:
        vgg16: the network, on G's device.
        G: a generator; its images are rounded to 8 bits as those of a data set are.
        dataset: gives the size for VGG16 and, for a conditional generator, labels as frequent as its own.
        samples: how many.
        seed: image i has the same latent for every batch size and number of samples.
        progress: show a progress bar.

    Returns:
        [samples, 512] float32 on the CPU.

    Raises:
        ValueError: G is conditional and the data set has another number of classes.
    """
    if G.c_dim and G.c_dim != dataset.c_dim:
        raise ValueError(f"kid_vgg16: dataset must have the generator's {G.c_dim} classes ({dataset.c_dim})")
    size, found = input_size(dataset.resolution), []
    device = vgg16.shift.device
    classes = torch.randint(dataset.num_images, [samples], generator=generator(seed, "kid labels")).tolist()
    for batch in batches(samples, max(size, G.img_resolution), "generated images", progress=progress):
        z = normal_images([G.z_dim], batch, seed, "kid latents").to(device)
        c = torch.stack([dataset.label(classes[i]) for i in batch]).to(device) if G.c_dim else None
        found.append(vgg16_features(vgg16, to_uint8(G(z, c, noise_mode="const")), size).cpu())
    return torch.cat(found)
