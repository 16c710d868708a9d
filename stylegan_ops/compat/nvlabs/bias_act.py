"""`torch_utils.ops.bias_act`: bias, activation, gain and clamp."""

from __future__ import annotations

import torch

from ... import ops
from ...ops.bias_act import ACTIVATIONS
from ._impl import implementation

_inited = True  # the kernels are compiled on installation; code that looks here finds nothing left to do
_plugin = None


class EasyDict(dict):
    """A dict whose items are attributes, too."""

    def __getattr__(self, name: str) -> object:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


def _row(name: str, cuda_idx: int) -> EasyDict:
    spec = ACTIVATIONS[name]
    return EasyDict(
        func=lambda x, alpha=spec.alpha, **_: spec.function(x, alpha),
        def_alpha=spec.alpha,
        def_gain=spec.gain,
        cuda_idx=cuda_idx,
        ref={"linear": "", "swish": "x"}.get(name, "y"),
        has_2nd_grad=not spec.piecewise_linear,
    )


activation_funcs = {name: _row(name, index) for index, name in enumerate(ACTIVATIONS, 1)}


def _init() -> bool:
    return True


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "cuda",
) -> torch.Tensor:
    """`clamp(act(x + b) * gain, -clamp, clamp)`; defaults of alpha and gain from `activation_funcs`.

    Arguments as in `stylegan_ops.bias_act`. impl: `"cuda"` is the fastest here on every device, `"ref"` plain PyTorch.

    Other than theirs: the gradient at `|y| == clamp` is 0 in both implementations (their reference passes it on, their kernel does not);
    NaN passes the clamp in both (their kernel makes it a number); the result has x's dtype whatever b's is (their reference promotes);
    bfloat16, layouts of any kind and derivatives beyond the second are there; mistakes are ValueError and TypeError, not AssertionError.
    """
    if act in activation_funcs:  # theirs to change: its defaults count
        spec = activation_funcs[act]
        alpha = spec["def_alpha"] if alpha is None else alpha
        gain = spec["def_gain"] if gain is None else gain
    return ops.bias_act(x, b, dim, act, alpha, gain, clamp, impl=implementation("bias_act", impl))
