"""filtered_lrelu: bias, upsampling filter, leaky ReLU, downsampling filter: the alias-free nonlinearity of StyleGAN3."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch

from .. import _impl
from ._checks import accumulate_dtype, check_bool, check_image, check_positive_int, check_real, check_vector, to_accumulate
from ._registry import native, register
from .bias_act import ACTIVATIONS, LINEAR, NO_CLAMP, activate_reference, check_activation, dense_format
from .upfirdn2d import check_filter, filter_size, filtered_size, four_paddings, padded_size, upfirdn2d_reference

LRELU = ACTIVATIONS["lrelu"].index
MOST_TAPS, MOST_FACTOR = 24, 4  # of the kernels: the fine tile of one thread block fits into the shared memory of every GPU

# 1. The public function


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    gain: float = sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    *,
    impl: str | None = None,
) -> torch.Tensor:
    """A leaky ReLU at a higher sampling rate, so that the edges it makes do not alias; the upsampled image is never in memory.

    1. Add b. 2. Upsample by `up` with fu, times `up^2` so that amplitudes stay; pad or crop. 3. `clamp(lrelu(z) * gain, -clamp, clamp)`.
    4. Filter with fd and keep every `down`-th pixel.

    Args:
        x: images `[N, C, H, W]`, floating point. Contiguous and channels_last are read as they are.
        fu, fd: filters of `setup_filter`: `[K_h, K_w]`, `[K]` (applied along both axes), or None for the identity. They take no gradient.
        b: bias `[C]`, or None.
        up, down: factors, integers.
        padding: of the upsampled image, one integer, `[x, y]` or `[left, right, top, bottom]`; negative crops.
        gain: factor behind the leaky ReLU. slope: of its negative part.
        clamp: bound of the result of step 3, at least 0, or None. The gradient at the bound is 0.
        flip_filter: False is convolution, True correlation, for both filters.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        `[N, C, H', W']` of x's dtype and memory format, `H' = (H * up + top + bottom - K_up - K_down + 1) // down + 1`. 16-bit input is
        computed in float32 and rounded once.

    Raises:
        ValueError, TypeError: for arguments outside these rules, and where the result would have no pixel.
        RuntimeError: with `impl="native"` where there is no kernel.

    Differentiable to any order in x and b. The backward pass keeps x, and makes the upsampled image anew, tile by tile. A filter of more
    than 24 taps along an axis or a factor above 4 runs as `bias_act` and `upfirdn2d` one after the other, with that image in memory.
    Source: Karras et al. 2021 (arXiv:2106.12423), section 3.2 and appendix D.
    """
    op = "filtered_lrelu"
    check_image(op, "x", x, ndim=4)
    fu, fd = check_filter(op, "fu", fu, x), check_filter(op, "fd", fd, x)
    up, down = check_positive_int(op, "up", up), check_positive_int(op, "down", down)
    padding, gain = four_paddings(op, padding), check_real(op, "gain", gain)
    slope = check_real(op, "slope", slope)
    *_, clamp = check_activation(op, "lrelu", slope, gain, clamp)
    flip_filter = check_bool(op, "flip_filter", flip_filter)
    if b is not None:
        check_vector(op, "b", b, x.shape[1], x, "the channels of the image")
        b = to_accumulate(b, x)
    fine, _ = sizes(op, x, fu, fd, up, down, padding)
    down = min(down, max(fine))  # a longer step than the fine image has no effect
    args = (x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter)
    if not _impl.is_native(op, impl, x):
        return filtered_lrelu_reference(*args)
    if max(*filter_size(fu), *filter_size(fd)) > MOST_TAPS or max(up, down) > MOST_FACTOR:
        return _composed(*args)
    one = torch.ones([1, 1], dtype=torch.float32, device=x.device) if fu is None or fd is None else None
    return native(op)(x, one if fu is None else fu, one if fd is None else fd, *args[3:])


def sizes(op, x, fu, fd, up, down, padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the fine image between the filters, and of the result."""
    fine = filtered_size(op, "fu", fu, "padded image", padded_size(op, x, (up, up), padding), (1, 1))
    return fine, filtered_size(op, "fd", fd, "fine image", fine, (down, down))


# 2. The reference, and the same steps on the kernels of other ops


def filtered_lrelu_reference(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter) -> torch.Tensor:
    z = x.to(accumulate_dtype(x.dtype))
    if b is not None:
        z = z + b[:, None, None]
    z = upfirdn2d_reference(z, fu, (up, up), (1, 1), padding, flip_filter, up**2)
    z = activate_reference(z, LRELU, slope, gain, clamp)
    y = upfirdn2d_reference(z, fd, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1.0)
    return y.to(x.dtype).contiguous(memory_format=dense_format(x))


def _composed(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter) -> torch.Tensor:
    one = torch.ones([1, 1], dtype=torch.float32, device=x.device)
    z = x.to(accumulate_dtype(x.dtype))
    z = z if b is None else native("bias_act")(z, b, 1, LINEAR, 0.0, 1.0, NO_CLAMP)
    z = native("upfirdn2d")(z, one if fu is None else fu, (up, up), (1, 1), padding, flip_filter, float(up**2))
    z = native("bias_act")(z, None, 1, LRELU, slope, gain, clamp)
    return native("upfirdn2d")(z, one if fd is None else fd, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1.0).to(x.dtype)


# 3. Fakes


def _fake(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter):
    _, size = sizes("filtered_lrelu", x, fu, fd, up, down, padding)
    return x.new_empty([*x.shape[:2], *size]).to(memory_format=dense_format(x))


def _gradient_fake(v, x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter, adjoint):
    if adjoint:
        return torch.empty_like(x, memory_format=dense_format(x))
    return _fake(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter)


# 4. Derivatives. With the filters U and D as matrices and the fine image z = U (x + b):
#        y = D a(z),  its derivative in the direction v: D (a'(z) U v),  the adjoint of that: U^T (a'(z) D^T v).
#    a' is constant between the kinks, so the last two, which are linear in v, are each other's derivative and have none in x and b.


def _setup(ctx, inputs, output):
    x, fu, fd, b, *ctx.args = inputs
    ctx.save_for_backward(x, fu, fd, b)


def _backward(ctx, dy):
    x, fu, fd, b = ctx.saved_tensors
    dx = native("filtered_lrelu_gradient")(dy, x, fu, fd, b, *ctx.args, True)
    db = dx.sum([0, 2, 3], dtype=b.dtype) if ctx.needs_input_grad[3] else None
    return dx if ctx.needs_input_grad[0] else None, None, None, db, *[None] * 7


def _setup_gradient(ctx, inputs, output):
    _, x, fu, fd, b, *ctx.args, ctx.adjoint = inputs
    ctx.save_for_backward(x, fu, fd, b)


def _gradient_backward(ctx, g):
    dv = native("filtered_lrelu_gradient")(g, *ctx.saved_tensors, *ctx.args, not ctx.adjoint) if ctx.needs_input_grad[0] else None
    return dv, *[None] * 12


register("filtered_lrelu", fake=_fake, setup_context=_setup, backward=_backward)
register("filtered_lrelu_gradient", fake=_gradient_fake, setup_context=_setup_gradient, backward=_gradient_backward)
