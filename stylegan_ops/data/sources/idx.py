"""Images in idx files, the format of MNIST and its relatives."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from stylegan_ops.data.pixels import MAX_PIXELS
from stylegan_ops.data.sources.source import Source

_MAX_BYTES = 2**31  # of one idx file, unpacked
_PADDING = {(28, 32): 2}  # (side, resolution): pixels to add at each edge; these images keep their pixels instead of being resized

FASHION_IMAGES_SHA256 = "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"  # of the unpacked training files
FASHION_LABELS_SHA256 = "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
FASHION_CLASSES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


def find_idx_files(folder: Path) -> tuple[Path, Path | None] | None:
    """The training images and labels in `folder`; None if it has no training images."""
    found: list[Path | None] = []
    for kind in ("images-idx3", "labels-idx1"):
        names = [f"train-{kind}-ubyte", f"train-{kind}-ubyte.gz", f"train-{kind.replace('-idx', '.idx')}-ubyte"]
        found.append(next((folder / name for name in names if (folder / name).is_file()), None))
    return None if found[0] is None else (found[0], found[1])


class IdxSource(Source):
    """The training images of a folder of idx files; held in memory."""

    channels = 1

    def __init__(self, folder: Path, resolution: int) -> None:
        images_file, labels_file = find_idx_files(folder)
        self._images, _ = read_idx(images_file, 3)
        count, height, width = self._images.shape
        if not count or not 0 < height * width <= MAX_PIXELS:
            raise ValueError(f"idx: images of {str(images_file)!r} must be of 1 to {MAX_PIXELS} pixels (shape {self._images.shape})")
        self._padding = _PADDING.get((height, resolution), 0) if height == width else 0
        self.name = folder.resolve().name
        self.names = [f"{images_file.name}[{i}]" for i in range(count)]
        if labels_file is not None:
            self._read_labels(labels_file)

    def _read_labels(self, file: Path) -> None:
        labels, digest = read_idx(file, 1)
        if len(labels) != len(self.names):
            raise ValueError(f"idx: {str(file)!r} must have a label for each of the {len(self.names)} images ({len(labels)})")
        self.labels = labels.tolist()
        if digest == FASHION_LABELS_SHA256:
            self.label_names = FASHION_CLASSES

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(np.pad(self._images[index], self._padding))


def read_idx(file: Path, dims: int) -> tuple[np.ndarray, str]:
    """Read an idx file of bytes, packed by gzip or not.

    Returns:
        (array, digest): uint8 with `dims` axes, and the SHA-256 of the unpacked file.

    Raises:
        ValueError: not such a file, cut off, too long or too large; the message names it.
    """
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb") as stream:
            header = stream.read(4 + 4 * dims)
            if len(header) < 4 + 4 * dims or header[:4] != bytes([0, 0, 8, dims]):
                raise ValueError(f"must begin with 00 00 08 {dims:02x} and {dims} sizes")
            shape = tuple(np.frombuffer(header, ">u4", dims, 4).tolist())
            size = int(np.prod(shape, dtype=object))  # of Python integers: they do not overflow
            if size > _MAX_BYTES:
                raise ValueError(f"shape {shape} is over the limit of {_MAX_BYTES} bytes")
            body = stream.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ValueError(f"idx: {str(file)!r} cannot be read: {error}") from None
    if len(body) != size:
        raise ValueError(
            f"idx: {str(file)!r} must have {size} bytes, as its shape {shape} says ({'more' if len(body) > size else len(body)})"
        )
    return np.frombuffer(body, np.uint8).reshape(shape), hashlib.sha256(header + body).hexdigest()
