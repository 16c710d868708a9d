"""Images as PNG files and as grids of the same latents over a run."""

from __future__ import annotations

import math
import os

import torch
from torch import nn

from .files import atomic_write
from .precision import autocast
from .random import generator

_MODES = {1: "L", 3: "RGB"}


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Turn images in [-1, 1] into pixels: round((x + 1) * 127.5), clamped to [0, 255].

    Args:
        images: float tensor of any shape.

    Returns:
        uint8 tensor of the same shape.
    """
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def tile(images: torch.Tensor, columns: int) -> torch.Tensor:
    """Lay images out in rows; the last row is filled up with black.

    Args:
        images: [N, C, H, W].
        columns: images in a row.

    Returns:
        Tensor [C, rows * H, columns * W].
    """
    count, channels, height, width = images.shape
    rows = math.ceil(count / columns)
    filled = images.new_zeros(rows * columns, channels, height, width)
    filled[:count] = images
    return filled.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def save_png(path: str | os.PathLike[str], image: torch.Tensor) -> None:
    """Write a PNG atomically.

    Args:
        path: the file.
        image: uint8 [C, H, W]; C is 1 (grey) or 3 (RGB).

    Raises:
        ValueError: another number of channels.
    """
    from PIL import Image

    if image.shape[0] not in _MODES:
        raise ValueError(f"save_png: image must have 1 or 3 channels ({image.shape[0]})")
    pixels = image.permute(1, 2, 0).contiguous().cpu().numpy()
    with atomic_write(path) as file:
        Image.fromarray(pixels[:, :, 0] if image.shape[0] == 1 else pixels).save(file, format="PNG")


def grid_shape(resolution: int) -> tuple[int, int]:
    """Choose (columns, rows) so that a grid is about 1024 by 512 pixels and holds 8 to 128 images."""
    columns = min(max(1024 // resolution, 4), 16)
    return columns, columns // 2


class SnapshotGrid:
    """The same latents drawn again at every snapshot, so that pictures of one run can be compared.

    Args:
        resolution: width of the images, pixels.
        z_dim: size of the latents.
        c_dim: number of classes; row i of the grid shows class i mod c_dim, and up to 16 classes have a row each. 0 without classes.
        seed: the run's seed.
    """

    def __init__(self, resolution: int, z_dim: int, c_dim: int, seed: int) -> None:
        self.columns, rows = grid_shape(resolution)
        rows = max(rows, min(c_dim, 16))
        self.z = torch.randn(self.columns * rows, z_dim, generator=generator(seed, "grid"))
        classes = torch.arange(rows).repeat_interleave(self.columns)
        self.c = torch.nn.functional.one_hot(classes % c_dim, c_dim).float() if c_dim > 0 else None

    @torch.inference_mode()
    def draw(self, G: nn.Module, *, precision: str, batch_size: int) -> torch.Tensor:
        """Generate the grid.

        Args:
            G: the averaged generator; the pictures of one that is still growing are enlarged, pixel by pixel.
            precision: of its layers, resolved.
            batch_size: images at once.

        Returns:
            uint8 [C, rows * H, columns * W] on the CPU.
        """
        device = next(G.parameters()).device
        drawn = []
        for start in range(0, len(self.z), batch_size):
            z = self.z[start : start + batch_size].to(device)
            c = None if self.c is None else self.c[start : start + batch_size].to(device)
            with autocast(precision, device):
                images = G(z, c, noise_mode="const")
            drawn.append(to_uint8(nn.functional.interpolate(images, G.img_resolution, mode="nearest")).cpu())
        return tile(torch.cat(drawn), self.columns)
