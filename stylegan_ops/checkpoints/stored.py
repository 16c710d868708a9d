"""Tensors of a file: what they are is known at once, their numbers are read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from stylegan_ops._pickle_machine import Fault, is_size

_MAX_DIMS = 8


@dataclass(frozen=True)
class Stored:
    """A tensor that is still in its file."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor] = field(repr=False)  # a new tensor; damaged bytes raise Fault
    source: object = None  # what its bytes are part of, where several tensors may share them
    source_bytes: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.numel() * self.dtype.itemsize

    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @staticmethod
    def of(x: torch.Tensor) -> Stored:
        """One that is in memory already."""
        return Stored(tuple(x.shape), x.dtype, x.detach().clone)

    @staticmethod
    def of_array(x: np.ndarray) -> Stored:
        """One that is an array; it may be read-only and have any byte order."""
        dtype = torch.from_numpy(np.empty(0, x.dtype.newbyteorder("="))).dtype
        return Stored(x.shape, dtype, lambda: torch.from_numpy(x.astype(x.dtype.newbyteorder("="), order="C")), x, x.nbytes)


@dataclass(frozen=True)
class Storage:
    """The elements of one or several tensors, in one row."""

    dtype: torch.dtype
    numel: int
    read: Callable[[], torch.Tensor] = field(repr=False)  # [numel]

    def tensor(self, offset: Any, size: Any, stride: Any) -> Stored:
        """The tensor of this size and stride; it may not be larger than what it is made of, which an absurd size would be."""
        size, stride = tuple(size), tuple(stride)
        if len(size) != len(stride) or len(size) > _MAX_DIMS or not all(map(is_size, (offset, *size, *stride))):
            raise Fault("the shape of a tensor in it is wrong")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count > self.numel or (count > 0 and last >= self.numel):
            raise Fault(f"a tensor in it has size {list(size)}, but {self.numel} elements")

        def read() -> torch.Tensor:
            return self.read().as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format)

        return Stored(size, self.dtype, read, self, self.numel * self.dtype.itemsize)
