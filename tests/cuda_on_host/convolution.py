"""Convolutions for the kernels of modulated_conv2d: their definition in float64, and the arithmetic that the kernels have for them."""

from __future__ import annotations

from dataclasses import dataclass

import host
import numpy as np
import torch
from support import accumulate


@dataclass(frozen=True)
class Arithmetic:
    """A dtype and how a device multiplies it; `rounding` is the largest relative error of an operand on its way to the product."""

    dtype: torch.dtype
    tf32: bool = False
    architecture: int = 80
    rounding: float = 0.0

    def terms(self, products: int) -> float:
        """The roundings of a sum of products, see support.py: of both operands, and one for each product."""
        return products + ((1 + self.rounding) ** 2 - 1) / torch.finfo(accumulate(self.dtype)).eps

    def fields(self) -> dict:
        return {"dtype": host.DTYPES[self.dtype], "tf32": self.tf32}


ARITHMETIC = {
    "float16": Arithmetic(torch.float16),
    "bfloat16": Arithmetic(torch.bfloat16),
    "tf32": Arithmetic(torch.float32, tf32=True, rounding=2.0**-11),
    "float32": Arithmetic(torch.float32),
    "float64": Arithmetic(torch.float64),
    "float16, sm_75": Arithmetic(torch.float16, architecture=75),
    "bfloat16, sm_75": Arithmetic(torch.bfloat16, architecture=75),
    "tf32, sm_75": Arithmetic(torch.float32, tf32=True, architecture=75),  # which has none: exact
}


ACTIVATIONS = [("linear", None), ("lrelu", None), ("lrelu", 0.7), ("swish", None), ("linear", 1.5), ("swish", 2.0)]
STEEPEST = {"linear": 1.0, "lrelu": 1.0, "swish": 1.1}  # slopes; all pass through 0, so that |act(z)| <= STEEPEST * |z|


@dataclass(frozen=True)
class Geometry:
    """A convolution of `samples` images of `size` (height, width), `channels` (in, out), with a square kernel; stride 0: transposed."""

    samples: int
    size: tuple[int, int]
    channels: tuple[int, int]
    kernel: int = 3
    stride: int = 1
    pad: tuple[int, int] = (1, 1)
    extra: tuple[int, int] = (0, 0)  # of a transposed one: rows and columns beyond the smallest output

    @property
    def out_size(self) -> tuple[int, ...]:
        each = zip(self.size, self.pad, self.extra, strict=True)
        if self.stride == 0:
            return tuple((size - 1) * 2 - 2 * pad + self.kernel + extra for size, pad, extra in each)
        return tuple((size + 2 * pad - self.kernel) // self.stride + 1 for size, pad, _ in each)

    def fields(self) -> dict:
        return {
            "samples": self.samples,
            "height": self.size[0],
            "width": self.size[1],
            "in_channels": self.channels[0],
            "out_height": self.out_size[0],
            "out_width": self.out_size[1],
            "out_channels": self.channels[1],
            "kernel": self.kernel,
            "stride": self.stride or 2,
            "pad_y": self.pad[0],
            "pad_x": self.pad[1],
        }

    def taps(self):
        """For each tap (row, column) which pixels of x meet which of y, as pairs of index vectors of rows and of columns."""
        for tap in np.ndindex(self.kernel, self.kernel):
            pairs = []
            for t, pad, size, out in zip(tap, self.pad, self.size, self.out_size, strict=True):
                if self.stride == 0:
                    x, y = np.arange(size), 2 * np.arange(size) + t - pad
                else:
                    x, y = self.stride * np.arange(out) + t - pad, np.arange(out)
                inside = (x >= 0) & (x < size) & (y >= 0) & (y < out)
                pairs.append((x[inside], y[inside]))
            (rows, out_rows), (columns, out_columns) = pairs
            yield tap, np.ix_(rows, columns), np.ix_(out_rows, out_columns)

    def convolve(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        """y [N, H', W', O] of x [N, H, W, I] and w [O, I, K, K]."""
        y = np.zeros((self.samples, *self.out_size, self.channels[1]))
        for (a, b), (rows, columns), (out_rows, out_columns) in self.taps():
            y[:, out_rows, out_columns] += x[:, rows, columns] @ w[:, :, a, b].T
        return y

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """dw [O, I, K, K] of x [N, H, W, I] and dy [N, H', W', O]."""
        dw = np.zeros((*self.channels[::-1], self.kernel, self.kernel))
        for (a, b), (rows, columns), (out_rows, out_columns) in self.taps():
            dw[:, :, a, b] = np.einsum("nyxi,nyxo->oi", x[:, rows, columns], dy[:, out_rows, out_columns])
        return dw


def scaled(x: torch.Tensor, factors: torch.Tensor | None) -> np.ndarray:
    """x [N, H, W, C] times factors [N, C] in float64."""
    return x.double().numpy() if factors is None else x.double().numpy() * factors.double().numpy()[:, None, None]


def rounded(x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The sizes that a rounding of x to the dtype is relative to: below the smallest normal number its error is absolute."""
    return np.maximum(np.abs(x), torch.finfo(dtype).tiny)


def packed(w: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """w [O, I, K, K] in the kernel's layout."""
    row = 64 // dtype.itemsize
    p = torch.zeros(w.shape[2] * w.shape[3], w.shape[0], -(-w.shape[1] // row) * row, dtype=dtype)
    p[:, :, : w.shape[1]] = w.permute(2, 3, 0, 1).flatten(0, 1)
    return p
