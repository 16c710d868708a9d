"""Progressive growing: which resolution, how far it is faded in, and which batch size at each point of a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from stylegan_ops.layers.growth import double, halve

LARGE_GPU_BATCH_SIZES = {4: 256, 8: 256, 16: 128, 32: 128, 64: 48, 128: 22, 256: 10, 512: 4}


@dataclass(frozen=True)
class Stage:
    """What one training step runs with.

    Args:
        resolution: of the images, pixels.
        alpha: weight of the newest layers, in (0, 1]; 1 when they are faded in.
        batch_size: images of the step, over all processes.
        lr_factor: what the learning rates are multiplied by.
    """

    resolution: int
    alpha: float
    batch_size: int
    lr_factor: float


@dataclass(frozen=True)
class GrowthSchedule:
    """When a network grows, as a pure function of the images seen: a resumed training needs no other state of it.

    1. The first resolution is trained for S = 1000 * stabilize_kimg images.
    2. Each further one is faded in over F = 1000 * fade_kimg images, the n-th of them (n = 1, ..., F) with alpha = n / F, and then
       trained at alpha = 1 for S images; the last one for as long as the training goes on.

    Positions count images, since batch sizes differ. A step runs at the stage of its first image, also when a phase ends within it.

    Args:
        batch_sizes: images of a step at each resolution; its keys are the resolutions, powers of two from 4 on, each twice the one before.
        lr_factors: factor on the learning rates at a resolution; 1 where none is given.
        stabilize_kimg: S in thousands of images, above 0.
        fade_kimg: F in thousands of images; 0 grows without fading.

    Raises:
        TypeError: a batch size that is no integer.
        ValueError: a number out of range, a resolution left out, or a factor for a resolution that the schedule has not.

    Source: Karras et al., Progressive Growing of GANs for Improved Quality, Stability, and Variation, 2018, section 2 and appendix A.1.
    """

    batch_sizes: Mapping[int, int]
    lr_factors: Mapping[int, float] = field(default_factory=dict)
    stabilize_kimg: float = 800.0
    fade_kimg: float = 800.0

    def __post_init__(self) -> None:
        batch_sizes = dict(sorted(self.batch_sizes.items()))
        resolutions = list(batch_sizes)
        if not resolutions or any(not _is_resolution(r) or r != resolutions[0] << i for i, r in enumerate(resolutions)):
            given = ", ".join(map(str, resolutions)) or "none"
            raise ValueError(f"GrowthSchedule: batch_sizes must be of powers of two from 4 on, without gaps ({given})")
        if any(type(size) is not int for size in batch_sizes.values()):
            raise TypeError(f"GrowthSchedule: batch_sizes must be whole numbers ({batch_sizes})")
        self._check_known("lr_factors", self.lr_factors)
        for name, values in (("batch_sizes", batch_sizes), ("lr_factors", self.lr_factors)):
            for resolution, value in values.items():
                if not value > 0:
                    raise ValueError(f"GrowthSchedule: {name} must be above 0 (at {resolution} pixels: {value})")
        if self._images(self.stabilize_kimg) < 1:
            raise ValueError(f"GrowthSchedule: stabilize_kimg must be at least 0.001, one image ({self.stabilize_kimg})")
        if self.fade_kimg < 0:
            raise ValueError(f"GrowthSchedule: fade_kimg must be at least 0 ({self.fade_kimg})")
        object.__setattr__(self, "batch_sizes", batch_sizes)
        object.__setattr__(self, "lr_factors", dict(self.lr_factors))

    @classmethod
    def scaled_to(cls, resolution: int, batch_size: int, *, stabilize_kimg: float = 800.0, fade_kimg: float = 800.0) -> GrowthSchedule:
        """The schedule from 4 pixels on, for a machine that takes `batch_size` images at the last resolution: twice as many at each half of
        it, but no more than 256, or `batch_size` if that is more.

        Args:
            resolution: the last one, pixels, a power of two from 4 on.
            batch_size: images of a step there.
            stabilize_kimg, fade_kimg: as for the class.

        Returns:
            GrowthSchedule.

        Raises:
            ValueError: as for the class.
        """
        largest = max(batch_size, max(LARGE_GPU_BATCH_SIZES.values()))
        batch_sizes = {r: min(batch_size * (resolution // r), largest) for r in _resolutions(resolution)}
        return cls(batch_sizes, stabilize_kimg=stabilize_kimg, fade_kimg=fade_kimg)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """All resolutions, ascending, pixels."""
        return tuple(self.batch_sizes)

    def with_batch_sizes(self, given: Mapping[int, int]) -> GrowthSchedule:
        """The same schedule with other batch sizes at some resolutions.

        Raises:
            ValueError: a resolution that the schedule has not, or a size below 1.
        """
        self._check_known("batch_sizes", given)
        return dataclasses.replace(self, batch_sizes={**self.batch_sizes, **given})

    def stage_at(self, images: int) -> Stage:
        """The stage of the step that begins after so many images.

        Args:
            images: real images seen before the step, 0 or more.

        Returns:
            Stage.

        Raises:
            ValueError: `images` is negative.
        """
        level, seen = self._locate(images)
        resolution, fade = self.resolutions[level], self._images(self.fade_kimg)
        alpha = 1.0 if level == 0 or seen >= fade else (seen + 1) / fade
        return Stage(resolution, alpha, self.batch_sizes[resolution], self.lr_factors.get(resolution, 1.0))

    def _locate(self, images: int) -> tuple[int, int]:
        """The number of the resolution and the images seen at it."""
        if images < 0:
            raise ValueError(f"GrowthSchedule: images must be at least 0 ({images})")
        stabilize, fade = self._images(self.stabilize_kimg), self._images(self.fade_kimg)
        level = min((images + fade) // (stabilize + fade), len(self.batch_sizes) - 1)
        return level, images if level == 0 else images + fade - level * (stabilize + fade)

    def _check_known(self, name: str, given: Mapping[int, float]) -> None:
        unknown = [r for r in given if r not in self.batch_sizes]
        if unknown:
            rule = f"must be of {', '.join(map(str, self.batch_sizes))} pixels"
            raise ValueError(f"GrowthSchedule: {name} {rule} ({', '.join(map(str, unknown))})")

    @staticmethod
    def _images(kimg: float) -> int:
        return round(kimg * 1000)


def large_gpu_batch_sizes(resolution: int, processes: int) -> dict[int, int]:
    """Images of a step, over all processes, that a large GPU takes: 256, 256, 128, 128, 48, 22, 10, 4 from 4 to 512 pixels, 4 above.

    Args:
        resolution: the last one, pixels, a power of two from 4 on.
        processes: their number, of which each size is made a multiple.

    Returns:
        {resolution: images}, ascending.

    Raises:
        ValueError: `resolution` is no power of two from 4 on.
    """
    smallest = min(LARGE_GPU_BATCH_SIZES.values())
    sizes = {r: LARGE_GPU_BATCH_SIZES.get(r, smallest) for r in _resolutions(resolution)}
    return {r: -(-size // processes) * processes for r, size in sizes.items()}


def parse_per_resolution(text: str, kind: type[int] | type[float], option: str) -> dict[int, int] | dict[int, float]:
    """Read numbers by resolution as typed on a command line, such as "4:64,8:64,16:32".

    Args:
        text: `RESOLUTION:NUMBER`, separated by commas, in any order.
        kind: int or float, of the numbers.
        option: where it was typed, for errors.

    Returns:
        {resolution: number}, ascending.

    Raises:
        ValueError: an entry is malformed, doubled or out of range; the message names it.
    """
    numbers: dict[int, int | float] = {}
    for entry in text.split(","):
        left, _, right = entry.partition(":")
        try:
            resolution, number = int(left), kind(right)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{option}: must be RESOLUTION:NUMBER,..., NUMBER {what} ({entry!r} of {text!r})") from None
        if not _is_resolution(resolution):
            raise ValueError(f"{option}: resolutions must be powers of two from 4 on ({resolution})")
        if not 0 < number < float("inf"):
            raise ValueError(f"{option}: numbers must be above 0 and finite ({entry.strip()!r})")
        if resolution in numbers:
            raise ValueError(f"{option}: each resolution must be given once ({resolution})")
        numbers[resolution] = number
    return dict(sorted(numbers.items()))


def fade_reals(images: torch.Tensor, alpha: float) -> torch.Tensor:
    """Blend real images with their version of half the resolution, as generated ones are while a layer is faded in.

    x' = alpha * x + (1 - alpha) * up(down(x)), with down the average over 2x2 pixels and up the nearest neighbour.

    Args:
        images: x, [N, C, H, W], any floating dtype, H and W even.
        alpha: in [0, 1]; at 1 the images themselves are returned.

    Returns:
        x', as `images`. Differentiable to any order.

    Raises:
        TypeError: `images` is not floating.
        ValueError: odd H or W, or alpha out of range.

    Source: Karras et al., Progressive Growing of GANs for Improved Quality, Stability, and Variation, 2018, section 2, figure 2.
    """
    if not images.is_floating_point():
        raise TypeError(f"fade_reals: images must be floating ({images.dtype})")
    if images.ndim != 4 or images.shape[2] % 2 or images.shape[3] % 2:
        raise ValueError(f"fade_reals: images must be [N, C, H, W] with even H and W ({list(images.shape)})")
    if not 0 <= alpha <= 1:
        raise ValueError(f"fade_reals: alpha must be between 0 and 1 ({alpha})")
    if alpha == 1:
        return images
    return torch.lerp(double(halve(images)), images, alpha)


def _is_resolution(value: int) -> bool:
    return value >= 4 and value & (value - 1) == 0


def _resolutions(last: int) -> list[int]:
    if not _is_resolution(last):
        raise ValueError(f"GrowthSchedule: resolution must be a power of two from 4 on ({last})")
    return [2**i for i in range(2, last.bit_length())]
