"""Why StyleGAN's images have droplets: instance normalisation loses the maps' magnitudes, and one spike can bring them back.

Karras et al. 2020 (arXiv:1912.04958), section 2.1: a network that cannot pass on how strong its feature maps are, since AdaIN divides each
by its own standard deviation, plants a spike that dominates this statistic, and so scales the rest of the map as it likes. Demodulation
(section 2.2) divides by what the weights alone make of an expected input: no spike changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..ops import adain, modulated_conv2d, setup_filter, upsample2d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAGNITUDES = (0.25, 0.5, 1.0, 2.0)


def droplet_maps(resolution: int = 32, magnitudes: Sequence[float] = MAGNITUDES, seed: int = 0) -> torch.Tensor:
    """Make smooth random feature maps of different magnitudes.

    Args:
        resolution: height and width in pixels, a multiple of 4.
        magnitudes: standard deviation of each map.
        seed: of the random numbers.

    Returns:
        float64 [1, C, resolution, resolution]. Means, 0, and standard deviations are over all pixels but the middle one, which is left
        for the spike.

    Raises:
        ValueError: resolution or a magnitude is outside these rules.
    """
    if resolution < 8 or resolution % 4:
        raise ValueError(f"droplet_maps: resolution must be a multiple of 4 of at least 8 (got {resolution})")
    if len(magnitudes) == 0 or not all(0 < magnitude < float("inf") for magnitude in magnitudes):
        raise ValueError(f"droplet_maps: magnitudes must be finite numbers above 0, at least one (got {tuple(magnitudes)})")
    coarse = torch.randn(
        1, len(magnitudes), resolution // 4, resolution // 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    taps = setup_filter([1, 3, 3, 1])
    maps = upsample2d(upsample2d(coarse, taps), taps)
    maps = maps - _off_spike(maps).mean(dim=1)[:, None, None]
    return maps / _levels(maps)[:, None, None] * torch.tensor(magnitudes, dtype=torch.float64)[:, None, None]


def normalised(maps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pass maps [1, C, H, W] through both normalisations: AdaIN and, each map through a weight of its own, demodulation.

    The styles are 1. The weight of the modulated convolution is a 1x1 identity, so that a map can be compared with itself.
    """
    channels = maps.shape[1]
    identity = torch.eye(channels, dtype=maps.dtype)[:, :, None, None]
    styles = torch.ones(1, channels, dtype=maps.dtype)
    return {"AdaIN": adain(maps, styles), "demodulation": modulated_conv2d(maps, identity, styles)}


def droplets(
    heights: Sequence[float], resolution: int = 32, magnitudes: Sequence[float] = MAGNITUDES, channel: int = 2, seed: int = 0
) -> dict[str, Any]:
    """Measure what a spike in one map does to the rest of it.

    1. Maps (`droplet_maps`), in one of which the middle pixel is set to `h sigma`, sigma being its standard deviation off that pixel.
    2. AdaIN and demodulation of them.
    3. The signal's level: the standard deviation off the spike, relative to that for h = 0. For AdaIN over P pixels it is
       `1 / sqrt(1 + h^2 / P)`: the spike adds `h^2 sigma^2 (P - 1) / P^2` to the variance `sigma^2 (P - 1) / P`. For demodulation it is 1.

    Args:
        heights: spikes h, in the map's standard deviations.
        resolution, magnitudes, seed: see `droplet_maps`.
        channel: index of the map with the spike.

    Returns:
        "heights"; "levels", for each of "AdaIN" and "demodulation" the level at each height; "closed_form" for AdaIN; "magnitudes",
        for "input", "AdaIN" and "demodulation" each map's standard deviation where h is 0. All are float64 tensors.

    Raises:
        ValueError: there are no heights, there is no such channel, or the maps cannot be made.
    """
    if len(heights) == 0:
        raise ValueError("droplets: heights must hold at least one number (got none)")
    if not 0 <= channel < len(magnitudes):
        raise ValueError(f"droplets: channel must be in 0 to {len(magnitudes) - 1} (got {channel})")
    maps = with_spike(droplet_maps(resolution, magnitudes, seed), channel, 0)
    before = {"input": _levels(maps)} | {name: _levels(out) for name, out in normalised(maps).items()}
    ratios: dict[str, list[torch.Tensor]] = {"AdaIN": [], "demodulation": []}
    for height in heights:
        for name, out in normalised(with_spike(maps, channel, height)).items():
            ratios[name].append(_levels(out)[channel] / before[name][channel])
    heights = torch.tensor(heights, dtype=torch.float64)
    return {
        "heights": heights,
        "levels": {name: torch.stack(values) for name, values in ratios.items()},
        "closed_form": (1 + heights.square() / resolution**2).rsqrt(),
        "magnitudes": before,
    }


def with_spike(maps: torch.Tensor, channel: int, height: float) -> torch.Tensor:
    """Set the middle pixel of one map to `height` standard deviations of the rest."""
    spiked = maps.clone()
    middle = maps.shape[2] // 2
    spiked[0, channel, middle, middle] = height * _levels(maps)[channel]
    return spiked


def _levels(maps: torch.Tensor) -> torch.Tensor:
    """Standard deviation of every map off the spike: [C]."""
    return _off_spike(maps).std(dim=1, correction=0)


def _off_spike(maps: torch.Tensor) -> torch.Tensor:
    """The pixels of maps [1, C, H, W] but the middle one: [C, H * W - 1]."""
    flat, middle = maps[0].flatten(1), maps.shape[2] // 2 * (maps.shape[3] + 1)
    return torch.cat([flat[:, :middle], flat[:, middle + 1 :]], dim=1)


def droplets_plot(resolution: int = 32, height: float = 300, channel: int = 2) -> Figure:
    """Draw the demonstration: the maps with a spike through both normalisations, levels against the spike's height, and magnitudes.

    Args:
        resolution: of the maps, pixels.
        height: of the pictures' spike, in its map's standard deviations.
        channel: index of the map with the spike.

    Returns:
        Figure of three panels.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    measured = droplets(torch.logspace(0, 4, 33).tolist(), resolution, channel=channel)
    maps = with_spike(droplet_maps(resolution), channel, height)
    figure = Figure(figsize=(14, 6.6), layout="constrained")
    pictures, numbers = figure.subfigures(1, 2, width_ratios=[1.6, 1])
    _draw_maps(pictures, {"input": maps} | normalised(maps), height, channel)
    levels, magnitudes = numbers.subplots(2, 1)
    _draw_levels(levels, measured, resolution)
    _draw_magnitudes(magnitudes, measured["magnitudes"])
    figure.suptitle("A spike in a feature map: AdaIN's statistics follow it, demodulation's do not")
    return figure


def _draw_maps(figure, rows: dict[str, torch.Tensor], height: float, channel: int) -> None:
    axes = figure.subplots(len(rows), len(MAGNITUDES))
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        for cell, picture in zip(line, maps[0], strict=True):
            image = cell.imshow(picture.numpy(), vmin=-4, vmax=4, cmap="RdBu_r")
            cell.set_xticks([])
            cell.set_yticks([])
        line[0].set_ylabel(name, fontsize="large")
    for c, cell in enumerate(axes[0]):
        cell.set_title(f"magnitude {MAGNITUDES[c]:g}" + (f",\nspike of {height:g} σ" if c == channel else ""))
    figure.colorbar(image, ax=axes, extend="both", label="value", location="bottom", shrink=0.6, aspect=40)


def _draw_levels(axes, measured: dict[str, Any], resolution: int) -> None:
    heights = measured["heights"].numpy()
    axes.plot(heights, measured["closed_form"].numpy(), color="0.6", linewidth=4, label=r"$1 / \sqrt{1 + h^2 / P}$")
    for (name, levels), marker in zip(measured["levels"].items(), "os", strict=True):
        axes.plot(heights, levels.numpy(), marker, markersize=4, label=f"{name}, measured")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("height h of the spike, in the map's standard deviations σ")
    axes.set_ylabel("level off the spike / without it")
    axes.set_title(f"The spike's map, P = {resolution} × {resolution} pixels")
    axes.legend()


def _draw_magnitudes(axes, magnitudes: dict[str, torch.Tensor]) -> None:
    places = torch.arange(len(MAGNITUDES)).numpy()
    for i, (name, levels) in enumerate(magnitudes.items()):
        axes.bar(places + 0.27 * (i - 1), levels.numpy(), 0.25, label=name, color=["0.6", "C0", "C1"][i])
    axes.set_xticks(places, [f"{magnitude:g}" for magnitude in MAGNITUDES])
    axes.set_xlabel("magnitude of the map")
    axes.set_ylabel("standard deviation")
    axes.set_title("All maps, no spike")
    axes.legend()
