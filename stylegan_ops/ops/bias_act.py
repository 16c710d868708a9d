"""bias_act: bias, activation, gain and clamp in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F

from .. import _impl
from ._checks import accumulate_dtype, check_image, check_int, check_real, check_vector, to_accumulate
from ._registry import native, register

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@dataclass(frozen=True)
class Activation:
    """One activation: its number in csrc/ops/bias_act.h, its defaults, its plain PyTorch form, and what its derivatives need."""

    index: int
    alpha: float
    gain: float
    function: Callable[[torch.Tensor, float], torch.Tensor]
    piecewise_linear: bool  # its second derivative is zero


ACTIVATIONS = {
    "linear": Activation(0, 0.0, 1.0, lambda z, alpha: z, True),
    "relu": Activation(1, 0.0, sqrt(2), lambda z, alpha: F.relu(z), True),
    "lrelu": Activation(2, 0.2, sqrt(2), lambda z, alpha: torch.where(z > 0, z, z * alpha), True),
    "tanh": Activation(3, 0.0, 1.0, lambda z, alpha: torch.tanh(z), False),
    "sigmoid": Activation(4, 0.0, 1.0, lambda z, alpha: torch.sigmoid(z), False),
    "elu": Activation(5, 0.0, 1.0, lambda z, alpha: F.elu(z), False),
    "selu": Activation(6, 0.0, 1.0, lambda z, alpha: F.selu(z), False),
    "softplus": Activation(7, 0.0, 1.0, lambda z, alpha: F.softplus(z, threshold=40), False),
    "swish": Activation(8, 0.0, sqrt(2), lambda z, alpha: z * torch.sigmoid(z), False),
}
_BY_INDEX = tuple(ACTIVATIONS.values())
LINEAR = ACTIVATIONS["linear"].index
NO_CLAMP = -1.0
IDENTITY = (LINEAR, 0.0, 1.0, NO_CLAMP)  # act, alpha, gain, clamp


# 1. The public function


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    *,
    impl: str | None = None,
) -> torch.Tensor:
    """Bias, activation, gain and clamp in one pass over memory.

    `y = clamp(act(x + b) * gain, -clamp, clamp)`. NaN passes through the clamp as NaN, and the gradient at and beyond the clamp
    (`|y| >= clamp`) is 0. At 0 the gradient of `relu` is 0 and that of `lrelu` is alpha. This holds in every implementation.

    Args:
        x: tensor of any shape, floating point. Contiguous and channels_last are read as they are.
        b: bias `[x.shape[dim]]` of any floating-point dtype, added along `dim`; None for no bias.
        dim: the dimension of the bias; negative counts from the end. Without a bias it is of no meaning.
        act: `linear`, `relu`, `lrelu`, `tanh`, `sigmoid`, `elu`, `selu`, `softplus` or `swish`.
        alpha: negative slope of `lrelu`, default 0.2; the others ignore it.
        gain: factor behind the activation; default 1, and sqrt(2) for `relu`, `lrelu` and `swish`.
        clamp: bound of the absolute value of the result, >= 0; None for no bound.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        A tensor of x's shape, dtype and memory format. 16-bit input is computed in float32 and rounded once.

    Raises:
        ValueError, TypeError: for arguments outside these rules.
        RuntimeError: with `impl="native"` where there is no kernel.

    Differentiable in x and b to order 11. The derivatives are functions of the result as it was rounded: in 16 bits that of a saturated
    tanh or sigmoid is 0, and a result that rounds to the clamp counts as clamped.
    Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv:1912.04958), appendix B.
    """
    check_image("bias_act", "x", x)
    check_int("bias_act", "dim", dim)
    if b is None:
        dim = 0  # of no meaning
    else:
        if not -x.ndim <= dim < x.ndim:
            raise ValueError(f"bias_act: dim must be within the {x.ndim} dimensions of x (got {dim})")
        dim %= x.ndim
        check_vector("bias_act", "b", b, x.shape[dim], x, f"dimension {dim} of x")
        b = to_accumulate(b, x)
    index, alpha, gain, clamp = check_activation("bias_act", act, alpha, gain, clamp)
    if _impl.is_native("bias_act", impl, x):
        return native("bias_act")(x, b, dim, index, alpha, gain, clamp)
    return bias_act_reference(x, b, dim, index, alpha, gain, clamp)


def check_activation(op: str, act: str, alpha: float | None, gain: float | None, clamp: float | None) -> tuple[int, float, float, float]:
    """Checks and completes the arguments `(act, alpha, gain, clamp)` of an op that ends in an activation."""
    if not isinstance(act, str) or act not in ACTIVATIONS:
        raise ValueError(f"{op}: act must be one of {', '.join(ACTIVATIONS)} (got {act!r})")
    spec = ACTIVATIONS[act]
    alpha = spec.alpha if alpha is None else check_real(op, "alpha", alpha)
    gain = spec.gain if gain is None else check_real(op, "gain", gain)
    if clamp is None:
        return spec.index, alpha, gain, NO_CLAMP
    if not check_real(op, "clamp", clamp) >= 0:
        raise ValueError(f"{op}: clamp must be None or at least 0 (got {clamp})")
    return spec.index, alpha, gain, float(clamp)


# 2. The reference


def bias_act_reference(
    x: torch.Tensor, b: torch.Tensor | None, dim: int, act: int, alpha: float, gain: float, clamp: float
) -> torch.Tensor:
    z = x.to(accumulate_dtype(x.dtype))
    if b is not None:
        z = z + b.reshape([-1 if i == dim else 1 for i in range(x.ndim)])
    return activate_reference(z, act, alpha, gain, clamp).to(x.dtype).contiguous(memory_format=dense_format(x))


def activate_reference(z: torch.Tensor, act: int, alpha: float, gain: float, clamp: float) -> torch.Tensor:
    y = _BY_INDEX[act].function(z, alpha) * gain
    if clamp == NO_CLAMP:
        return y
    # where() instead of torch.clamp: the gradient at |y| == clamp is 0, and NaN passes.
    return torch.where(y >= clamp, clamp, torch.where(y <= -clamp, -clamp, y))


# 3. Fakes: the shapes, dtypes and layouts of the native ops


def _fake(x, b, dim, act, alpha, gain, clamp):
    return torch.empty_like(x, memory_format=dense_format(x))


def _backward_fake(dy, ref, dim, act, alpha, gain, clamp, order, reduce):
    db = dy.new_empty([dy.shape[dim] if reduce else 0], dtype=accumulate_dtype(dy.dtype))
    return torch.empty_like(dy, memory_format=dense_format(dy if ref is None else ref)), db


def dense_format(x: torch.Tensor) -> torch.memory_format:
    """The memory format in which the native ops return: x's own if it is channels_last, else contiguous."""
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


# 4. Derivatives. All of them are one family,
#        bias_act_backward(dy, ref, order=k) = dy * d^k/dref^k (dy/dz),
#    where ref is the op's own output y if dy/dz is a function of y (so that nothing else is kept), else z = x + b.
#    The family is closed under differentiation, hence any order.


def is_piecewise_linear(act: int) -> bool:
    return _BY_INDEX[act].piecewise_linear


def keeps_output(act: int, alpha: float) -> bool:
    """Whether dy/dz is a function of the output: not for swish, nor for a leaky ReLU whose negative slope folds the axis."""
    return act != ACTIVATIONS["swish"].index and not (act == ACTIVATIONS["lrelu"].index and alpha < 0)


def recovers_input(act: int, alpha: float) -> bool:
    """Whether z is told by the output wherever dy/dz is not 0, without loss: mirrors csrc/ops/bias_act.h."""
    return is_piecewise_linear(act) and keeps_output(act, alpha)


def inverse_slope(act: int, alpha: float) -> float:
    """The factor from a negative output of such an activation to its input; 0 where that is lost."""
    if act == LINEAR:
        return 1.0
    return 0.0 if act == ACTIVATIONS["relu"].index or alpha == 0 else 1 / alpha


def _setup(ctx, inputs, output):
    x, b, *ctx.args = inputs
    dim, act, alpha, gain, clamp = ctx.args
    ctx.has_bias = b is not None
    if act == LINEAR and clamp == NO_CLAMP:
        ctx.save_for_backward()
    elif keeps_output(act, alpha):
        ctx.save_for_backward(output)
    else:
        ctx.save_for_backward(x, b)


def _backward(ctx, dy):
    dim, act, alpha, gain, clamp = ctx.args
    saved = ctx.saved_tensors
    if len(saved) == 2:
        x, b = saved
        # A piecewise linear activation gives ref no gradient, and x itself would then count as unused in the graph.
        is_x = b is None and not is_piecewise_linear(act)
        ref = x if is_x else native("bias_act")(x, b, dim, LINEAR, 0.0, 1.0, NO_CLAMP)
    else:
        ref = saved[0] if saved else None
    needs_b = ctx.has_bias and ctx.needs_input_grad[1]
    dx, db = native("bias_act_backward")(dy, ref, *ctx.args, 0, needs_b)
    return dx, db if needs_b else None, None, None, None, None, None


def _setup_backward(ctx, inputs, output):
    dy, ref, *ctx.args = inputs
    ctx.save_for_backward(dy if ref is not None and not is_piecewise_linear(ctx.args[1]) else None, ref)


def _double_backward(ctx, g_dx, g_db):
    dim, act, alpha, gain, clamp, order, reduce = ctx.args
    dy, ref = ctx.saved_tensors
    if reduce:
        g_db = g_db.reshape([-1 if i == dim else 1 for i in range(g_dx.ndim)])
        g_dx = (g_dx + g_db).to(g_dx.dtype)
    family = native("bias_act_backward")
    g_dy = g_ref = None
    if ctx.needs_input_grad[0]:
        g_dy = family(g_dx, ref, dim, act, alpha, gain, clamp, order, False)[0]
    if dy is not None and ctx.needs_input_grad[1]:
        g_ref = family(g_dx * dy, ref, dim, act, alpha, gain, clamp, order + 1, False)[0]
    return g_dy, g_ref, None, None, None, None, None, None, None


register("bias_act", fake=_fake, setup_context=_setup, backward=_backward)
register("bias_act_backward", fake=_backward_fake, setup_context=_setup_backward, backward=_double_backward)
