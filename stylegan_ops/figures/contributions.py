"""What each resolution of a skip generator contributes to the picture: Karras et al. 2020 (arXiv:1912.04958), section 4.2, figure 8."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..training.checkpoint import checkpoint_images, load_generator
from ..training.grids import to_uint8
from .images import seeded_latents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BATCH = 16


@torch.no_grad()
def contributions(G: nn.Module, ws: torch.Tensor, noise_mode: str = "const") -> torch.Tensor:
    """Split images into what the toRGB layer of each resolution adds.

    A skip generator's image is a sum, `y = sum_r up_r(toRGB_r(x_r))`, where `up_r` upsamples through all resolutions above r.

    Args:
        G: a generator whose architecture is "skip".
        ws: codes [N, num_ws, w_dim].
        noise_mode: "const", "random" or "none".

    Returns:
        [R, N, C, H, W], one part for each of `G.synthesis.resolutions`, on the device of ws; the sum over R is the image.

    Raises:
        ValueError: G is no skip generator.
    """
    architecture = G.init_kwargs.get("architecture")
    if architecture != "skip":
        raise ValueError(f"contributions: G must have the architecture skip, whose image is a sum over resolutions (got {architecture})")
    blocks = [getattr(G.synthesis, f"b{r}") for r in G.synthesis.resolutions]
    rgbs: list[torch.Tensor] = []
    hooks = [block.torgb.register_forward_hook(lambda layer, inputs, rgb: rgbs.append(rgb)) for block in blocks]
    try:
        G.synthesis(ws, noise_mode=noise_mode)
    finally:
        for hook in hooks:
            hook.remove()
    parts: list[torch.Tensor] = []
    for block, rgb in zip(blocks, rgbs, strict=True):
        parts = [block.upsample(part) for part in parts] + [rgb.to(block.torgb.bias.dtype)]
    return torch.stack(parts)


def contribution_images(G: nn.Module, seeds: Sequence[int], class_index: int | None = None) -> torch.Tensor:
    """Draw each resolution's contribution beside the image.

    Args:
        G: a generator whose architecture is "skip".
        seeds: one for each row.
        class_index: see `seeded_latents`.

    Returns:
        uint8 [rows, R + 1, C, H, W] on the CPU: the contributions from 4 pixels up, mid-grey being 0, and their sum, the image.

    Raises:
        ValueError: G is no skip generator, there are no seeds, or there is no such class.
    """
    ws = G.mapping(*seeded_latents(G, seeds, class_index))
    parts = torch.cat([contributions(G, part) for part in ws.split(_BATCH)], dim=1)
    return to_uint8(torch.cat([parts, parts.sum(dim=0, keepdim=True)])).transpose(0, 1).cpu()


def contribution_stds(G: nn.Module, count: int = 1024, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure the standard deviation of each resolution's contribution, and that of the image.

    Over all pixels and channels of `count` images, about one mean; summed up in float64.

    Args:
        G: a generator whose architecture is "skip".
        count: how many images, at least 1.
        seed: the images are those of the seeds from this one on.

    Returns:
        float64 [R] and [], on the CPU, in the units of the image, whose range is [-1, 1].

    Raises:
        ValueError: G is no skip generator, or count is too small.
    """
    if count < 1:
        raise ValueError(f"contribution_stds: count must be at least 1 (got {count})")
    sums: Any = 0
    for start in range(seed, seed + count, _BATCH):
        ws = G.mapping(*seeded_latents(G, range(start, min(start + _BATCH, seed + count))))
        parts = contributions(G, ws).double()
        values = torch.cat([parts, parts.sum(dim=0, keepdim=True)]).flatten(1)
        sums = sums + torch.stack([values.sum(dim=1), values.square().sum(dim=1), values.new_full((len(values),), values.shape[1])])
    total, squares, number = sums.cpu()
    stds = (squares / number - (total / number).square()).clamp(min=0).sqrt()
    return stds[:-1], stds[-1]


def contributions_of_run(
    checkpoints: Iterable[str | os.PathLike[str]],
    count: int = 1024,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Any]:
    """Measure the contributions over the checkpoints of a run.

    Args:
        checkpoints: files of `stylegan-ops train`, oldest first, of a run whose generator has the architecture "skip".
        count: images to measure each on; the paper takes 1024.
        seed: of the first of these images.
        device: where the generators run.
        progress: wraps the checkpoints, such as tqdm.

    Returns:
        Lists for JSON: "resolutions" [R] in pixels, "count", and for each checkpoint "checkpoints" (names), "kimg" (thousand real
        images seen), "image_std", "stds" [R], "relative" [R] = stds / image_std, and "shares" [R] = stds / sum(stds), the paper's measure.

    Raises:
        ValueError: a generator is no skip generator. CheckpointError: a file is damaged or not named by the number of images.
    """
    measured: dict[str, Any] = {"resolutions": [], "count": count, "checkpoints": [], "kimg": [], "image_std": [], "stds": []}
    measured |= {"relative": [], "shares": []}
    for path in progress([Path(path) for path in checkpoints]):
        G = load_generator(path, device)
        stds, image_std = contribution_stds(G, count, seed)
        measured["resolutions"] = list(G.synthesis.resolutions)
        measured["checkpoints"].append(path.name)
        measured["kimg"].append(checkpoint_images(path) / 1000)
        measured["image_std"].append(image_std.item())
        measured["stds"].append(stds.tolist())
        measured["relative"].append((stds / image_std).tolist())
        measured["shares"].append((stds / stds.sum()).tolist())
    return measured


def contributions_plot(measured: dict[str, Any]) -> Figure:
    """Plot what `contributions_of_run` gave against the training's length.

    Returns:
        Figure of two panels: each resolution's standard deviation relative to the image's as a line, and its share of all, stacked
        (figure 8 of the paper).

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    lines, stack = figure.subplots(1, 2)
    names = [f"{r} × {r}" for r in measured["resolutions"]]
    colours = colormaps["viridis"](torch.linspace(0, 0.93, len(names)).numpy())
    relative, shares = (torch.tensor(measured[key]).T.numpy() for key in ("relative", "shares"))
    kimg = measured["kimg"]
    for name, values, colour in zip(names, relative, colours, strict=True):
        lines.plot(kimg, values, marker="o", markersize=4, color=colour, label=name)
    lines.set_ylim(bottom=0)
    lines.set_ylabel("standard deviation / the picture's")
    lines.set_title("Relative to the picture")
    # One checkpoint alone is a bar, not a line without width.
    wide, shares = (kimg, shares) if len(kimg) > 1 else ([kimg[0] - 0.5, kimg[0] + 0.5], shares.repeat(2, axis=1))
    stack.stackplot(wide, 100 * shares, labels=names, colors=colours)
    stack.set_xlim(wide[0], wide[-1])
    stack.set_ylim(0, 100)
    stack.set_ylabel("share of all standard deviations, %")
    stack.set_title("Breakdown")
    handles, labels = stack.get_legend_handles_labels()
    stack.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), title="resolution")
    for axes in (lines, stack):
        axes.set_xlabel("real images seen, thousand")
    figure.suptitle("Contribution of each resolution to the generator's picture")
    return figure
