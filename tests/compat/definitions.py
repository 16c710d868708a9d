"""Interfaces as text, and the mathematics of the ops in numpy, scipy and plain torch, sharing nothing with the package."""

import inspect
from math import sqrt

import numpy as np
import scipy.signal
import torch
import torch.nn.functional as F

BINOMIAL = [1, 3, 3, 1]

ACTIVATIONS = {  # function, alpha, gain, number, what the derivative is made of, whether there is a second one
    "linear": (lambda z, a: z, 0, 1, 1, "", False),
    "relu": (lambda z, a: np.maximum(z, 0), 0, sqrt(2), 2, "y", False),
    "lrelu": (lambda z, a: np.where(z < 0, a * z, z), 0.2, sqrt(2), 3, "y", False),
    "tanh": (lambda z, a: np.tanh(z), 0, 1, 4, "y", True),
    "sigmoid": (lambda z, a: 1 / (1 + np.exp(-z)), 0, 1, 5, "y", True),
    "elu": (lambda z, a: np.where(z < 0, np.exp(z) - 1, z), 0, 1, 6, "y", True),
    "selu": (lambda z, a: 1.0507009873554805 * np.where(z < 0, 1.6732632423543772 * (np.exp(z) - 1), z), 0, 1, 7, "y", True),
    "softplus": (lambda z, a: np.log(1 + np.exp(z)), 0, 1, 8, "y", True),
    "swish": (lambda z, a: z / (1 + np.exp(-z)), 0, sqrt(2), 9, "x", True),
}


def assert_signature(function, arguments: str) -> None:
    """Names, order, kinds and defaults, `"x, up=2"`; annotations are ours."""
    wanted = inspect.signature(eval(f"lambda {arguments}: 0", {"sqrt": sqrt, "cpu": torch.device("cpu")}))
    found = inspect.signature(function).parameters.values()
    assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in wanted.parameters.values()]


def two(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def four(padding) -> tuple[int, int, int, int]:
    """x0, x1, y0, y1 from one number, [x, y] or all of them."""
    if isinstance(padding, int):
        return (padding,) * 4
    return tuple(padding) if len(padding) == 4 else (padding[0], padding[0], padding[1], padding[1])


def upfirdn(x: np.ndarray, f, up=1, down=1, padding=0, flip_filter=False, gain=1) -> np.ndarray:
    """Zero-insert, pad or crop, convolve, keep every n-th."""
    (ux, uy), (dx, dy), (x0, x1, y0, y1) = two(up), two(down), four(padding)
    f = np.ones((1, 1)) if f is None else np.asarray(f, dtype=np.float64)
    f = np.outer(f, f) if f.ndim == 1 else f
    f = f[::-1, ::-1] if flip_filter else f
    n, c, h, w = x.shape
    y = np.zeros((n, c, h * uy, w * ux))
    y[:, :, ::uy, ::ux] = x
    y = np.pad(y, [(0, 0), (0, 0), (max(y0, 0), max(y1, 0)), (max(x0, 0), max(x1, 0))])
    y = y[:, :, max(-y0, 0) : y.shape[2] - max(-y1, 0), max(-x0, 0) : y.shape[3] - max(-x1, 0)]
    rows, columns = y.shape[2] - f.shape[0] + 1, y.shape[3] - f.shape[1] + 1
    planes = [scipy.signal.convolve2d(plane, f, mode="valid") for plane in y.reshape(-1, *y.shape[2:])]
    return np.reshape(planes, (n, c, rows, columns))[:, :, ::dy, ::dx] * gain


def torch_upfirdn(x: torch.Tensor, f, **kwargs) -> torch.Tensor:
    return torch.from_numpy(upfirdn(x.numpy(), None if f is None else f.numpy(), **kwargs))


def resampled_convolution(x, w, f, up, down, padding, groups, flip_weight, flip_filter) -> torch.Tensor:
    """Upsample, convolve, downsample, one after the other, in float64; the filter is centred, which its own share of the padding does."""
    (x0, x1, y0, y1), taps = four(padding), (1 if f is None else f.shape[-1])
    before = ((taps + up - 1) // 2 if up > 1 else 0) + ((taps - down + 1) // 2 if down > 1 else 0)
    after = ((taps - up) // 2 if up > 1 else 0) + ((taps - down) // 2 if down > 1 else 0)
    padding = [x0 + before, x1 + after, y0 + before, y1 + after]
    x = torch_upfirdn(x, f if up > 1 else None, up=up, padding=padding, flip_filter=flip_filter, gain=up**2)
    x = F.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)
    return torch_upfirdn(x, f, down=down, flip_filter=flip_filter) if down > 1 else x


def styled_convolution(x, weight, styles, demodulate=True, padding=0, input_gain=None) -> torch.Tensor:
    """Each sample with weights of its own."""
    rows = []
    for image, style in zip(x, styles, strict=True):
        w = weight * style[None, :, None, None]
        if demodulate:
            w = w / torch.sqrt(w.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if input_gain is not None:
            w = w * input_gain[len(rows)][None, :, None, None]
        rows.append(F.conv2d(image[None], w, padding=padding))
    return torch.cat(rows)
