"""A prepared data set as tensors."""

import hashlib
import io
import os
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stylegan_ops.data.labels import read_labels, read_metadata
from stylegan_ops.data.store import METADATA, FolderStore, ZipStore

_IHDR_END = 26  # signature 8, chunk length and type 8, width and height 8, bit depth 1, colour type 1
_CHANNELS = {0: 1, 2: 3}  # PNG colour type: channels


class ImageDataset(torch.utils.data.Dataset):
    """The images of a zip or folder written by `prepare`, in the order of their names.

    All files are checked when it is opened: labels against the list of files, and of each PNG its signature, size and colour type. It can
    be pickled and used in forked or spawned workers.

    Args:
        path: the zip or folder.
        xflip: also serve every image mirrored: index `i + num_images` is image `i` flipped left to right.
        use_labels: False leaves labels out, even where the set has them (`c_dim` is 0).

    Attributes:
        resolution: height and width, pixels.
        channels: 1 (grey) or 3 (RGB).
        c_dim: number of classes; 0 without labels.
        label_names: names of the classes, or None.
        num_images: number of images, mirrored ones not counted.

    Raises:
        FileNotFoundError: there is no `path`.
        ValueError: not a prepared data set, or a damaged one; the message names data set and file.
    """

    def __init__(self, path: str | os.PathLike[str], *, xflip: bool = False, use_labels: bool = True) -> None:
        self.path = Path(path)
        self.xflip = xflip
        if not self.path.exists():
            raise FileNotFoundError(f"ImageDataset: path must exist ({str(path)!r})")
        self._store = FolderStore(self.path) if self.path.is_dir() else ZipStore(self.path)
        self.num_images = len(self._store.names)
        text = self._store.metadata()
        if text is None or not self.num_images:
            raise ValueError(
                f"ImageDataset: {str(path)!r} must hold PNG files and {METADATA}; write such a set with `stylegan-ops dataset SOURCE DEST`"
            )
        where = f"{METADATA} of {str(path)!r}"
        metadata = read_metadata(text, where)
        self.resolution, self.channels = self._check_headers()
        for key, value in (("resolution", self.resolution), ("channels", self.channels)):
            if metadata.get(key, value) != value:
                raise ValueError(f"{where}: {key} must be that of the images, {value} ({metadata[key]!r})")
        labels, self.label_names = read_labels(metadata, self._store.names, where) if use_labels else (None, None)
        self._labels = None if labels is None else np.array(labels, dtype=np.int64)
        self.c_dim = 0 if labels is None else len(self.label_names or range(max(labels) + 1))

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
            image = Image.open(io.BytesIO(self._store.read(number)), formats=("PNG",))
            pixels = np.asarray(image)  # decodes
        except Exception as error:  # decoders of damaged files raise whatever they please
            raise ValueError(self._about(number, f"cannot be decoded: {error or type(error).__name__}")) from None
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if pixels.shape != (self.resolution, self.resolution, self.channels):
            raise ValueError(self._about(number, f"has changed: [H, W, C] is {list(pixels.shape)}"))
        return pixels

    def _check_headers(self) -> tuple[int, int]:
        expected = None
        for number in range(self.num_images):
            head = self._store.head(number, _IHDR_END)
            if len(head) < _IHDR_END or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
                raise ValueError(self._about(number, "is no PNG file"))
            width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
            if width != height or depth != 8 or colour not in _CHANNELS:
                raise ValueError(self._about(number, f"must be square, 8-bit, grey or RGB ({width}x{height}, {depth} bit, type {colour})"))
            expected = expected or (width, _CHANNELS[colour])
            if (width, _CHANNELS[colour]) != expected:
                raise ValueError(
                    self._about(number, f"must have the size and channels of the others, {expected} ({width}, {_CHANNELS[colour]})")
                )
        return expected

    def _about(self, number: int, what: str) -> str:
        return f"ImageDataset: {self._store.names[number]!r} of {str(self.path)!r} {what}"
