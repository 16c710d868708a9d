"""pixel_norm: every pixel's channels scaled to unit mean square."""

from __future__ import annotations

import torch

from .. import _impl
from ._checks import accumulate_dtype, check_image, check_int, check_real
from ._registry import native, register
from .bias_act import dense_format

# 1. The public function


def pixel_norm(x: torch.Tensor, dim: int = 1, eps: float = 1e-8, *, impl: str | None = None) -> torch.Tensor:
    """Divides each pixel's channel vector by its root mean square.

    `y = x / sqrt(mean_c(x^2) + eps)`.

    Args:
        x: tensor of any shape with at least one dimension, floating point.
        dim: the channel dimension; negative counts from the end.
        eps: added to the mean square, > 0 so that a zero vector has a derivative.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        A tensor of x's shape, dtype and memory format. 16-bit input is computed in float32 and rounded once.

    Raises:
        ValueError, TypeError: for arguments outside these rules.
        RuntimeError: with `impl="native"` where there is no kernel.

    Differentiable to any order in x.
    Source: Karras et al. 2018, "Progressive Growing of GANs" (arXiv:1710.10196), section 4.2.
    """
    check_image("pixel_norm", "x", x)
    check_int("pixel_norm", "dim", dim)
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"pixel_norm: dim must be within the {x.ndim} dimensions of x (got {dim})")
    eps = check_real("pixel_norm", "eps", eps)
    if not eps > 0:
        raise ValueError(f"pixel_norm: eps must be greater than 0 (got {eps})")
    if _impl.is_native("pixel_norm", impl, x):
        return native("pixel_norm")(x, dim % x.ndim, eps)
    return pixel_norm_reference(x, dim, eps)


# 2. The reference


def pixel_norm_reference(x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    z = x.to(accumulate_dtype(x.dtype))
    y = z * (z.square().mean(dim, keepdim=True) + eps).rsqrt()
    return y.to(x.dtype).contiguous(memory_format=dense_format(x))


# 3. Fakes


def _fake(x, dim, eps):
    return torch.empty_like(x, memory_format=dense_format(x))


def _backward_fake(dy, x, dim, eps):
    return torch.empty_like(x, memory_format=dense_format(x))


# 4. Derivatives: with r = (mean_c(x^2) + eps)^-1/2 the Jacobian J = r I - r^3 x x^T / C is symmetric, so that
#        pixel_norm_backward(dy, x) = J dy = r dy - r^3 x mean_c(x dy)
#    is its own derivative in dy; the derivative in x is written out below in PyTorch's differentiable functions.


def _setup(ctx, inputs, output):
    x, ctx.dim, ctx.eps = inputs
    ctx.save_for_backward(x)


def _backward(ctx, dy):
    (x,) = ctx.saved_tensors
    return native("pixel_norm_backward")(dy, x, ctx.dim, ctx.eps), None, None


def _setup_backward(ctx, inputs, output):
    dy, x, ctx.dim, ctx.eps = inputs
    ctx.save_for_backward(dy, x)


def _double_backward(ctx, g):
    dy, x = ctx.saved_tensors
    g_dy = g_x = None
    if ctx.needs_input_grad[0]:
        g_dy = native("pixel_norm_backward")(g, x, ctx.dim, ctx.eps)
    if ctx.needs_input_grad[1]:
        # d/dx of <g, J dy> = C (r p - r^3 m q), where p = mean(dy g), m = mean(x dy), q = mean(x g).
        dtype = accumulate_dtype(x.dtype)
        g_, dy_, x_ = g.to(dtype), dy.to(dtype), x.to(dtype)
        r = (x_.square().mean(ctx.dim, keepdim=True) + ctx.eps).rsqrt()
        p, m, q = ((a * b).mean(ctx.dim, keepdim=True) for a, b in ((dy_, g_), (x_, dy_), (x_, g_)))
        r3 = r**3
        g_x = (x_ * (3 * r3 * r.square() * m * q - r3 * p) - r3 * (dy_ * q + g_ * m)).to(x.dtype)
    return g_dy, g_x, None, None


register("pixel_norm", fake=_fake, setup_context=_setup, backward=_backward)
register("pixel_norm_backward", fake=_backward_fake, setup_context=_setup_backward, backward=_double_backward)
