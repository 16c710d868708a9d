"""The style-mixing matrix: some layers' codes of one image in another image."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import nn

from ..layers import truncate
from .images import draw_images, seeded_latents
from .truncation import mean_w

RANGES = ("coarse", "middle", "fine")


def layer_range(name: str, num_layers: int) -> tuple[int, int]:
    """Turn the name of a range of layers into their numbers.

    As published for 64 pixels and more, two layers to a resolution: coarse is 4 and 8 pixels (layers 0 to 3), middle 16 and 32 (4 to 7),
    fine all others (from 8). Smaller networks, of less than ten layers, are cut in three parts: at `round(num_layers / 3)` and
    `round(2 * num_layers / 3)`.

    Args:
        name: "coarse", "middle", "fine" or the first and last layer, such as "2-5" or "4".
        num_layers: how many layers take a code.

    Returns:
        The first layer, and the one behind the last.

    Raises:
        ValueError: no such range, or the network has too few layers for it.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 3.1, figure 3.
    """
    if name in RANGES:
        if num_layers < len(RANGES):
            raise ValueError(f"mix: layers {name!r} needs a network of at least {len(RANGES)} layers with codes (got {num_layers})")
        cuts = (4, 8) if num_layers >= 10 else (round(num_layers / 3), round(2 * num_layers / 3))
        edges = (0, *cuts, num_layers)
        place = RANGES.index(name)
        return edges[place], edges[place + 1]
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", name)
    if not match:
        raise ValueError(f"mix: layers must be {', '.join(RANGES)} or two numbers such as 0-3 (got {name!r})")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < num_layers:
        raise ValueError(f"mix: layers must run upwards within 0 and {num_layers - 1} (got {name!r})")
    return first, last + 1


@torch.no_grad()
def mix(
    G: nn.Module,
    row_seeds: Sequence[int],
    column_seeds: Sequence[int],
    layers: str = "coarse",
    truncation_psi: float = 0.7,
    class_index: int | None = None,
) -> torch.Tensor:
    """Draw the style-mixing matrix.

    Image (i, j) has column j's codes in the layers of the range and row i's in all others; labels go into the codes with their sources.

    Args:
        G: a generator with a mapping network.
        row_seeds: seeds of the rows' sources.
        column_seeds: seeds of the columns' sources.
        layers: which layers take the column's codes; see `layer_range`.
        truncation_psi: of all sources; 1 for none.
        class_index: see `seeded_latents`.

    Returns:
        uint8 [rows + 1, columns + 1, C, H, W] on the CPU: the sources in row 0 and column 0, white where these meet.

    Raises:
        ValueError: there are no seeds, no such range or class, psi is not finite, or G has no mapping network.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 3.1, figure 3.
    """
    w_avg = mean_w(G)
    row_ws, column_ws = (
        truncate(G.mapping(*seeded_latents(G, seeds, class_index)), w_avg, truncation_psi) for seeds in (row_seeds, column_seeds)
    )
    rows, columns = draw_images(G, row_ws), draw_images(G, column_ws)
    first, behind = layer_range(layers, G.synthesis.num_ws_in_use)
    mixed = row_ws[:, None].repeat(1, len(column_seeds), 1, 1)
    mixed[:, :, first:behind] = column_ws[:, first:behind]
    matrix = rows.new_full((len(rows) + 1, len(columns) + 1, *rows.shape[1:]), 255)
    matrix[1:, 0], matrix[0, 1:] = rows, columns
    matrix[1:, 1:] = draw_images(G, mixed.flatten(0, 1)).unflatten(0, mixed.shape[:2])
    return matrix
