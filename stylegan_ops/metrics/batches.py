"""Batches of a count of images, with a progress bar."""

from __future__ import annotations

from collections.abc import Iterator

_PIXELS = 2**19  # of the images of one batch: 32 at 128 px, 8 at 256 px
_IMAGES = 32


def batches(count: int, resolution: int, name: str, *, progress: bool) -> Iterator[range]:
    """Divide images 0 to count - 1 into batches that fit into memory.

    Args:
        count: of images.
        resolution: their width, pixels.
        name: of the progress bar.
        progress: show it (needs tqdm).

    Yields:
        range of the batch's images.
    """
    size = min(max(_PIXELS // resolution**2, 1), _IMAGES)
    ranges = [range(start, min(start + size, count)) for start in range(0, count, size)]
    if not progress:
        yield from ranges
        return
    from tqdm import tqdm

    with tqdm(total=count, desc=name, unit="img") as bar:
        for batch in ranges:
            yield batch
            bar.update(len(batch))
