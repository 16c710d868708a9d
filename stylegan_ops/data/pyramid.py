"""A pyramid: every image of a set once more at each smaller power of two, image `NAME` at R pixels as `pyramid/R/NAME`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

FOLDER = "pyramid"
SMALLEST = 4  # pixels


def smaller_resolutions(resolution: int) -> list[int]:
    """The powers of two from 4 to `resolution` / 2, ascending."""
    return [2**k for k in range(SMALLEST.bit_length() - 1, resolution.bit_length() - 1)]


def level_prefix(resolution: int) -> str:
    """What the names of one level begin with."""
    return f"{FOLDER}/{resolution}/"


def box_averages(pixels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Average a picture over ever larger boxes, down to 4 pixels.

    Level r is round(mean of each box of (R / r) x (R / r) full-size pixels): the sums are exact, each level is rounded once, half to even.

    Args:
        pixels: uint8 [R, R, C], R a power of two.

    Yields:
        (r, level): r = R / 2, R / 4, ..., 4, and uint8 [r, r, C].
    """
    sums, full = pixels.astype(np.uint32), len(pixels)  # 255 times the pixels of a box: far below 2^32 up to 4096 pixels
    for resolution in reversed(smaller_resolutions(full)):
        sums = sums[0::2, 0::2] + sums[0::2, 1::2] + sums[1::2, 0::2] + sums[1::2, 1::2]
        yield resolution, np.rint(sums / (full // resolution) ** 2).astype(np.uint8)


def split_levels(names: list[str], levels: list[int]) -> dict[str, np.ndarray]:
    """The positions in `names` of the images of each level, by the prefix of their names; that of the full size is ""."""
    numbers: dict[str, list[int]] = {prefix: [] for prefix in ["", *map(level_prefix, levels)]}
    for number, name in enumerate(names):
        prefix = name[: name.find("/", len(FOLDER) + 1) + 1]
        numbers[prefix if prefix in numbers else ""].append(number)
    return {prefix: np.array(found, dtype=np.int64) for prefix, found in numbers.items()}


def read_pyramid(metadata: dict[str, Any], where: str) -> list[int]:
    """The levels that `dataset.json` lists under `pyramid`, ascending, without the full size; [] where it lists none.

    Raises:
        ValueError: no ascending list of powers of two from 4 to half the `resolution`.
    """
    levels, full = metadata.get("pyramid"), metadata.get("resolution")
    if levels is None:
        return []
    allowed = smaller_resolutions(full) if type(full) is int and full > 0 else []
    if not isinstance(levels, list) or levels != [level for level in allowed if level in levels]:
        raise ValueError(f"{where}: pyramid must list powers of two from {SMALLEST} to half the resolution, {full!r} ({str(levels)[:100]})")
    return levels
