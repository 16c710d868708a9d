"""Images by their seeds, and sheets of them with captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from stylegan_ops.training.grids import tile, to_uint8

_BATCH = 16
_CELL = 96  # pixels: smaller images are enlarged, so that a sheet of them can be looked at


def seeded_latents(G: nn.Module, seeds: Sequence[int], class_index: int | None = None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Draw the latent codes of seeds: a seed has the same code alone and among others, on every device.

    Args:
        G: any generator of `stylegan_ops.models`.
        seeds: one for each code.
        class_index: class of them all, from 0; None takes the seed modulo the number of classes.

    Returns:
        z [N, z_dim], and the labels c [N, c_dim], one-hot, or None for an unconditional network.

    Raises:
        ValueError: there are no seeds, or there is no such class.
    """
    if len(seeds) == 0:
        raise ValueError("seeded_latents: seeds must hold at least one number (got none)")
    if class_index is not None and not 0 <= class_index < G.c_dim:
        rule = f"must be in 0 to {G.c_dim - 1}" if G.c_dim else "needs a conditional network"
        raise ValueError(f"seeded_latents: class_index {rule} (got {class_index})")
    device = next(G.parameters()).device
    z = torch.cat([torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).to(device)
    if not G.c_dim:
        return z, None
    classes = torch.tensor([seed % G.c_dim if class_index is None else class_index for seed in seeds])
    return z, nn.functional.one_hot(classes, G.c_dim).float().to(device)


@torch.no_grad()
def draw_images(G: nn.Module, ws: torch.Tensor, noise_mode: str = "const") -> torch.Tensor:
    """Generate the images of codes, some at a time.

    Args:
        G: any generator of `stylegan_ops.models`.
        ws: [N, num_ws, w_dim].
        noise_mode: "const", "random" or "none".

    Returns:
        uint8 [N, C, H, W] on the CPU.
    """
    return torch.cat([to_uint8(G.synthesis(part, noise_mode=noise_mode)).cpu() for part in ws.split(_BATCH)])


def captioned(images: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
    """Lay a table of images out as one picture, with captions in a white strip above.

    Images of less than 96 pixels are enlarged by a whole number, each pixel becoming a square.

    Args:
        images: uint8 [rows, columns, C, H, W].
        captions: written at equal distances: one for each column, or a single one for all.

    Returns:
        uint8 [C, strip + rows * H * scale, columns * W * scale].
    """
    from PIL import Image, ImageDraw, ImageFont

    scale = max(1, -(-_CELL // images.shape[-1]))
    picture = sheet(images).repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    width = picture.shape[2]
    size = min(max(images.shape[-1] * scale // 8, 12), 64)
    strip = Image.new("L", (width, 2 * size), 255)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(size)
    longest, room = max(font.getlength(caption) for caption in captions), width / len(captions)
    if longest > room:
        font = ImageFont.load_default(size * room / longest)
    for i, caption in enumerate(captions):
        pen.text(((i + 0.5) * width / len(captions), size), caption, fill=0, font=font, anchor="mm")
    text = torch.frombuffer(bytearray(strip.tobytes()), dtype=torch.uint8).view(1, 2 * size, width)
    return torch.cat([text.expand(picture.shape[0], -1, -1), picture], dim=1)


def sheet(images: torch.Tensor) -> torch.Tensor:
    """Lay a table of images [rows, columns, C, H, W] out as one picture [C, rows * H, columns * W]."""
    return tile(images.flatten(0, 1), images.shape[1])
