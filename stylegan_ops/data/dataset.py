"""A prepared data set as tensors."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stylegan_ops.data.labels import read_labels, read_metadata
from stylegan_ops.data.pyramid import level_prefix, read_pyramid, split_levels
from stylegan_ops.data.store import METADATA, FolderStore, ZipStore

_IHDR_END = 26  # signature 8, chunk length and type 8, width and height 8, bit depth 1, colour type 1
_CHANNELS = {0: 1, 2: 3}  # PNG colour type: channels


class ImageDataset(torch.utils.data.Dataset):
    """The images of a zip or folder written by `prepare`, in the order of their names.

    All files are checked when it is opened: labels against the list of files, and of each PNG its signature, size and colour type. It can
    be pickled and used in forked or spawned workers. Of a set with a pyramid, one level is opened and checked: all levels have the same
    images in the same order, and the same labels.

    Args:
        path: the zip or folder.
        resolution: which level to read, pixels; None for the full size.
        xflip: also serve every image mirrored: index `i + num_images` is image `i` flipped left to right.
        use_labels: False leaves labels out, even where the set has them (`c_dim` is 0).

    Attributes:
        resolution: height and width, pixels.
        resolutions: those that the set has, ascending, pixels; the last is the full size.
        channels: 1 (grey) or 3 (RGB).
        c_dim: number of classes; 0 without labels.
        label_names: names of the classes, or None.
        num_images: number of images, mirrored ones not counted.

    Raises:
        FileNotFoundError: there is no `path`.
        ValueError: not a prepared data set, a damaged one, or one without such a level; the message names data set and file.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, resolution: int | None = None, xflip: bool = False, use_labels: bool = True
    ) -> None:
        self.path = Path(path)
        self.xflip = xflip
        if not self.path.exists():
            raise FileNotFoundError(f"ImageDataset: path must exist ({str(path)!r})")
        self._store = FolderStore(self.path) if self.path.is_dir() else ZipStore(self.path)
        text = self._store.metadata()
        where = f"{METADATA} of {str(self.path)!r}"
        metadata = {} if text is None else read_metadata(text, where)
        pyramid = read_pyramid(metadata, where)
        self._numbers = split_levels(self._store.names, pyramid)
        self._names = [self._store.names[number] for number in self._numbers[""]]
        self.num_images = len(self._names)
        if text is None or not self._names:
            raise ValueError(
                f"ImageDataset: {str(path)!r} must hold PNG files and {METADATA}; write such a set with `stylegan-ops dataset SOURCE DEST`"
            )
        labels, self.label_names = read_labels(metadata, self._names, where) if use_labels else (None, None)
        self._labels = None if labels is None else np.array(labels, dtype=np.int64)
        self.c_dim = 0 if labels is None else len(self.label_names or range(max(labels) + 1))
        self._prefix, self._stated_channels = "", metadata.get("channels")
        self.resolutions = (*pyramid, metadata.get("resolution") or self._header(0)[0])
        self._open_level(resolution)

    def at(self, resolution: int) -> ImageDataset:
        """The same images at another resolution of the pyramid, without listing the files of the set anew.

        Args:
            resolution: one of `resolutions`, pixels.

        Returns:
            ImageDataset, checked as if it had been opened at this resolution.

        Raises:
            ValueError: the set has no such level, or a damaged one.
        """
        other = copy.copy(self)
        other._open_level(resolution)
        return other

    def __len__(self) -> int:
        return self.num_images * (2 if self.xflip else 1)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode one image.

        Returns:
            (image, label): uint8 [C, H, W], and float32 [c_dim], one-hot ([0] without labels).

        Raises:
            ValueError: the file cannot be decoded; the message names data set and file.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"ImageDataset: index must be in 0 to {len(self) - 1} ({index})")
        mirrored, number = divmod(index, self.num_images)
        pixels = self._decode(number)
        if mirrored:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), self.label(number)  # a decoded image is read-only

    def label(self, number: int) -> torch.Tensor:
        """The label of image `number`, from 0 to num_images - 1, without decoding it: float32 [c_dim], one-hot ([0] without labels)."""
        label = torch.zeros(self.c_dim)
        if self._labels is not None:
            label[self._labels[number]] = 1
        return label

    def fingerprint(self) -> str:
        """Identify the images: sha256, hexadecimal, over the name, size and CRC-32 of each file. Labels play no part."""
        digest = hashlib.sha256()
        for number, name in enumerate(self._store.names):
            digest.update(repr((name, *self._store.checksum(number))).encode())
        return digest.hexdigest()

    def _decode(self, number: int) -> np.ndarray:
        try:
            image = Image.open(io.BytesIO(self._store.read(int(self._numbers[self._prefix][number]))), formats=("PNG",))
            pixels = np.asarray(image)  # decodes
        except Exception as error:  # decoders of damaged files raise whatever they please
            raise ValueError(self._about(number, f"cannot be decoded: {error or type(error).__name__}")) from None
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if pixels.shape != (self.resolution, self.resolution, self.channels):
            raise ValueError(self._about(number, f"has changed: [H, W, C] is {list(pixels.shape)}"))
        return pixels

    def _open_level(self, resolution: int | None) -> None:
        full = self.resolutions[-1]
        resolution = full if resolution is None else resolution
        if resolution not in self.resolutions:
            raise ValueError(
                f"ImageDataset: resolution of {str(self.path)!r} must be one of {', '.join(map(str, self.resolutions))} ({resolution}); "
                f"smaller ones are written by `stylegan-ops dataset SOURCE DEST --pyramid`"
            )
        self._prefix = "" if resolution == full else level_prefix(resolution)
        names = [self._store.names[number].removeprefix(self._prefix) for number in self._numbers[self._prefix]]
        if names != self._names:
            odd = min(set(names) ^ set(self._names))
            raise ValueError(f"ImageDataset: {str(self.path)!r} must hold {odd!r} at {full} and at {resolution} pixels, or at neither")
        self.resolution, self.channels = self._check_headers()
        for key, value, stated in (("resolution", self.resolution, resolution), ("channels", self.channels, self._stated_channels)):
            if stated not in (value, None):
                raise ValueError(f"{METADATA} of {str(self.path)!r}: {key} must be that of the images, {value} ({stated!r})")

    def _check_headers(self) -> tuple[int, int]:
        expected = self._header(0)
        for number in range(1, self.num_images):
            found = self._header(number)
            if found != expected:
                raise ValueError(self._about(number, f"must have the size and channels of the others, {expected} {found}"))
        return expected

    def _header(self, number: int) -> tuple[int, int]:
        """Size and channels of one image, after its PNG header."""
        head = self._store.head(int(self._numbers[self._prefix][number]), _IHDR_END)
        if len(head) < _IHDR_END or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
            raise ValueError(self._about(number, "is no PNG file"))
        width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
        if width != height or depth != 8 or colour not in _CHANNELS:
            raise ValueError(self._about(number, f"must be square, 8-bit, grey or RGB ({width}x{height}, {depth} bit, type {colour})"))
        return width, _CHANNELS[colour]

    def _about(self, number: int, what: str) -> str:
        return f"ImageDataset: {self._prefix + self._names[number]!r} of {str(self.path)!r} {what}"
