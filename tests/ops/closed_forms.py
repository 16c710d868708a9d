"""The nine activations and their derivatives in closed form, by numpy and scipy: independent of PyTorch and of the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from scipy.special import expit

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934  # Klambauer et al. 2017, arXiv:1706.02515, equation 14

Function = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class ClosedForm:
    """An activation of z and alpha with its first two derivatives in z and its defaults."""

    function: Function
    first: Function
    second: Function = lambda z, a: np.zeros_like(z)
    alpha: float = 0.0
    gain: float = 1.0


def _bump(z: np.ndarray) -> np.ndarray:
    """The sigmoid's derivative."""
    return expit(z) * expit(-z)


def _exp(z: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(z, 0))


CLOSED_FORMS = {
    "linear": ClosedForm(lambda z, a: z, lambda z, a: np.ones_like(z)),
    "relu": ClosedForm(lambda z, a: np.maximum(z, 0), lambda z, a: np.where(z > 0, 1.0, 0.0), gain=sqrt(2)),
    "lrelu": ClosedForm(lambda z, a: np.where(z > 0, z, a * z), lambda z, a: np.where(z > 0, 1.0, a), alpha=0.2, gain=sqrt(2)),
    "tanh": ClosedForm(lambda z, a: np.tanh(z), lambda z, a: 4 * _bump(2 * z), lambda z, a: -8 * np.tanh(z) * _bump(2 * z)),
    "sigmoid": ClosedForm(lambda z, a: expit(z), lambda z, a: _bump(z), lambda z, a: -np.tanh(z / 2) * _bump(z)),
    "elu": ClosedForm(
        lambda z, a: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z, a: _exp(z), lambda z, a: np.where(z > 0, 0.0, _exp(z))
    ),
    "selu": ClosedForm(
        lambda z, a: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z, a: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * _exp(z)),
        lambda z, a: SELU_SCALE * np.where(z > 0, 0.0, SELU_ALPHA * _exp(z)),
    ),
    "softplus": ClosedForm(lambda z, a: np.logaddexp(0, z), lambda z, a: expit(z), lambda z, a: _bump(z)),
    "swish": ClosedForm(
        lambda z, a: z * expit(z),
        lambda z, a: expit(z) + z * _bump(z),
        lambda z, a: _bump(z) * (2 - z * np.tanh(z / 2)),
        gain=sqrt(2),
    ),
}
ACTS = tuple(CLOSED_FORMS)
SMOOTH = ("tanh", "sigmoid", "elu", "selu", "softplus", "swish")


def activate(
    z: torch.Tensor, act: str, alpha: float | None = None, gain: float | None = None, clamp: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`y = clamp(act(z) * gain)`, `dy/dz` and `d^2y/dz^2` in float64; the derivatives are 0 at and beyond the clamp."""
    form, z = CLOSED_FORMS[act], z.detach().double().numpy()
    alpha, gain = form.alpha if alpha is None else alpha, form.gain if gain is None else gain
    y, *derivatives = (f(z, alpha) * gain for f in (form.function, form.first, form.second))
    if clamp is not None:
        derivatives = [np.where(np.abs(y) >= clamp, 0.0, d) for d in derivatives]
        y = np.clip(y, -clamp, clamp)
    return tuple(torch.from_numpy(np.asarray(t)) for t in (y, *derivatives))


class Expected:
    """An activation's result and slope for one call, and how far rounding may carry an implementation from them.

    Args:
        z: its argument in float64.
        size: the sum of the absolute values of the terms of z.
        dtype: the dtype of the call.

    The backward passes read the output (swish reads z), which was rounded to `dtype`, and so see a slope that is off by its change
    over that rounding.
    """

    def __init__(self, z, size, dtype, act, alpha=None, gain=None, clamp=None):
        self.y, self.slope, curve = activate(z, act, alpha, gain, clamp)
        self.y_size = self.y.abs() + self.slope.abs() * size  # y's magnitude, see support.py
        limits = torch.finfo(dtype)
        seen = z.abs() if act == "swish" else (self.y.abs().clamp(min=limits.tiny) / self.slope.abs()).where(self.slope != 0, 0)
        self.slope_inner = curve.abs() * seen
        self.slope_size = self.slope.abs() + self.slope_inner + curve.abs() * size
        # Elements that a rounding of the output, for swish of z, may carry across the clamp, where the slope jumps by `jump`.
        self.doubtful, self.jump = torch.zeros_like(z, dtype=torch.bool), torch.zeros_like(z)
        if clamp is not None:
            y, slope, _ = activate(z, act, alpha, gain)
            self.doubtful = (y.abs() - clamp).abs() <= limits.eps * (clamp + (slope * size).abs())
            self.jump = self.doubtful * slope.abs()
