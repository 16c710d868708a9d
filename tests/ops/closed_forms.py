"""The nine activations and their first derivatives in closed form, by numpy and scipy: independent of PyTorch and of the package."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from scipy.special import expit

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934  # Klambauer et al. 2017, arXiv:1706.02515, equation 14


@dataclass(frozen=True)
class ClosedForm:
    function: callable
    derivative: callable
    alpha: float = 0.0
    gain: float = 1.0


def _swish_derivative(z):
    s = expit(z)
    return s + z * s * expit(-z)


CLOSED_FORMS = {
    "linear": ClosedForm(lambda z, a: z, lambda z, a: np.ones_like(z)),
    "relu": ClosedForm(lambda z, a: np.maximum(z, 0), lambda z, a: np.where(z > 0, 1.0, 0.0), gain=sqrt(2)),
    "lrelu": ClosedForm(lambda z, a: np.where(z > 0, z, a * z), lambda z, a: np.where(z > 0, 1.0, a), alpha=0.2, gain=sqrt(2)),
    "tanh": ClosedForm(lambda z, a: np.tanh(z), lambda z, a: 1 / np.cosh(np.clip(z, -300, 300)) ** 2),
    "sigmoid": ClosedForm(lambda z, a: expit(z), lambda z, a: expit(z) * expit(-z)),
    "elu": ClosedForm(lambda z, a: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z, a: np.exp(np.minimum(z, 0))),
    "selu": ClosedForm(
        lambda z, a: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z, a: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    ),
    "softplus": ClosedForm(lambda z, a: np.logaddexp(0, z), lambda z, a: expit(z)),
    "swish": ClosedForm(lambda z, a: z * expit(z), lambda z, a: _swish_derivative(z), gain=sqrt(2)),
}
ACTS = tuple(CLOSED_FORMS)
SMOOTH = ("tanh", "sigmoid", "elu", "selu", "softplus", "swish")


def activate(z: torch.Tensor, act: str, alpha: float | None = None, gain: float | None = None, clamp: float | None = None):
    """`y = clamp(act(z) * gain)` and `dy/dz` in float64; the derivative is 0 at and beyond the clamp."""
    form, z = CLOSED_FORMS[act], z.double().numpy()
    alpha, gain = form.alpha if alpha is None else alpha, form.gain if gain is None else gain
    y, slope = form.function(z, alpha) * gain, form.derivative(z, alpha) * gain
    if clamp is not None:
        slope = np.where(np.abs(y) >= clamp, 0.0, slope)
        y = np.clip(y, -clamp, clamp)
    return torch.from_numpy(np.asarray(y)), torch.from_numpy(np.asarray(slope))
