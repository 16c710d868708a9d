"""conv_epilogue: everything behind a convolution in one pass: scale, noise, bias, activation, gain and clamp."""

from __future__ import annotations

import torch

from .. import _impl
from ._checks import accumulate_dtype, check_device, check_image, check_real, check_vector
from ._registry import native, register
from .bias_act import LINEAR, NO_CLAMP, activate_reference, check_activation, dense_format, inverse_slope, is_piecewise_linear, keeps_output

# 1. The public function


def conv_epilogue(
    y: torch.Tensor,
    scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    noise_strength: torch.Tensor | float | None = None,
    bias: torch.Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    *,
    impl: str | None = None,
) -> torch.Tensor:
    """Scale, noise, bias, activation, gain and clamp behind a convolution, in one pass over memory.

    `clamp(act(y * scale + noise * noise_strength + bias) * gain, -clamp, clamp)`; the edges are those of `bias_act`.

    Args:
        y: a convolution's output `[N, C, H, W]`, floating point. Contiguous and channels_last are read as they are.
        scale: `[N, C]`, the demodulation coefficients; None for 1.
        noise: `[N, 1, H, W]`, `[1, 1, H, W]` or `[H, W]`; None for no noise.
        noise_strength: a number or a tensor with one element; None for 1.
        bias: `[C]`; None for no bias.
        act, alpha, gain, clamp: as in `bias_act`.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        `[N, C, H, W]` of y's dtype and memory format. 16-bit input is computed in float32 and rounded once.

    Raises:
        ValueError, TypeError: for arguments outside these rules.
        RuntimeError: with `impl="native"` where there is no kernel.

    Differentiable to any order in y, scale, noise, noise_strength and bias.
    Source: Karras et al. 2020 (arXiv:1912.04958), section 2.2 and figure 2c.
    """
    op = "conv_epilogue"
    check_image(op, "y", y, ndim=4)
    args = check_operands(op, y, y.shape, scale, noise, noise_strength, bias)
    args += check_activation(op, act, alpha, gain, clamp)
    if _impl.is_native(op, impl, y):
        return native(op)(y, *args)
    return conv_epilogue_reference(y, *args)


def check_operands(op, y, size, scale, noise, noise_strength, bias):
    """Checks and completes `(scale [N, C], noise [N | 1, 1, H, W], noise_strength [], bias [C])` for an output of `size` [N, C, H, W],
    all in y's accumulation dtype."""
    n, c, h, w = size
    dtype = accumulate_dtype(y.dtype)
    if scale is not None:
        check_image(op, "scale", scale)
        if scale.shape != (n, c):
            raise ValueError(f"{op}: scale must have shape [N, C] = [{n}, {c}] (got shape {tuple(scale.shape)})")
        check_device(op, "scale", scale, y)
        scale = scale.to(dtype)
    if noise is not None:
        check_image(op, "noise", noise)
        if tuple(noise.shape) not in ((h, w), (n, 1, h, w), (1, 1, h, w)):
            shapes = f"[{n}, 1, {h}, {w}], [1, 1, {h}, {w}] or [{h}, {w}]"
            raise ValueError(f"{op}: noise must have shape {shapes} (got shape {tuple(noise.shape)})")
        check_device(op, "noise", noise, y)
        noise = (noise[None, None] if noise.ndim == 2 else noise).to(dtype)
    elif noise_strength is not None:
        raise ValueError(f"{op}: noise_strength needs noise (got noise=None)")
    if isinstance(noise_strength, torch.Tensor):
        if noise_strength.numel() != 1:
            raise ValueError(f"{op}: noise_strength must have 1 element (got shape {tuple(noise_strength.shape)})")
        check_device(op, "noise_strength", noise_strength, y)
        if noise_strength.is_complex():
            raise TypeError(f"{op}: noise_strength must be real (got {noise_strength.dtype})")
        noise_strength = noise_strength.reshape([]).to(dtype)
    elif noise_strength is not None:
        noise_strength = torch.full([], check_real(op, "noise_strength", noise_strength), dtype=dtype, device=y.device)
    if bias is not None:
        check_vector(op, "bias", bias, c, y, "the channels of the image")
        bias = bias.to(dtype)
    return scale, noise, noise_strength, bias


# 2. The reference


def conv_epilogue_reference(y, scale, noise, noise_strength, bias, act, alpha, gain, clamp) -> torch.Tensor:
    z = y.to(accumulate_dtype(y.dtype))
    if scale is not None:
        z = z * scale[:, :, None, None]
    if noise is not None:
        z = z + (noise if noise_strength is None else noise * noise_strength)
    if bias is not None:
        z = z + bias[None, :, None, None]
    return activate_reference(z, act, alpha, gain, clamp).to(y.dtype).contiguous(memory_format=dense_format(y))


# 3. Fakes


def _fake(y, scale, noise, noise_strength, bias, act, alpha, gain, clamp):
    return torch.empty_like(y, memory_format=dense_format(y))


def _backward_fake(dout, ref, y, scale, noise, noise_strength, bias, act, alpha, gain, clamp, wants):
    dtype = accumulate_dtype(dout.dtype)
    like = y if y is not None else ref if ref is not None else dout
    n, c = dout.shape[:2]

    def small(wanted, *shape):
        return dout.new_empty(shape if wanted else [0], dtype=dtype)

    dy = torch.empty_like(dout, memory_format=dense_format(like))
    noise_shape = noise.shape if noise is not None else ()
    return (
        dy,
        small(wants & WANTS_SCALE, n, c),
        small(wants & WANTS_NOISE, *noise_shape),
        small(wants & WANTS_STRENGTH),
        small(wants & WANTS_BIAS, c),
    )


# 4. Derivatives. With z = y scale + noise strength + bias, out = a(z) and dz = dout a'(z):
#        dy = dz scale,  dscale = sum_hw dz y,  dnoise = sum_c dz strength,  dstrength = sum dz noise,  dbias = sum_nhw dz,
#    all in one pass. `ref` is what a' is a function of (see bias_act): the output, or for swish z, computed again.
#    Without y it is recovered from the output, y = (z - noise strength - bias) / scale: a layer then keeps no tensor in between.

WANTS_SCALE, WANTS_NOISE, WANTS_STRENGTH, WANTS_BIAS = 1, 2, 4, 8


def _setup(ctx, inputs, output):
    y, scale, noise, strength, bias, *ctx.activation = inputs
    act, alpha, gain, clamp = ctx.activation
    ctx.shapes = [None if t is None else t.shape for t in (scale, noise, strength, bias)]
    ctx.keeps_output = keeps_output(act, alpha)
    is_linear = act == LINEAR and clamp == NO_CLAMP
    needs_z = not is_linear and not ctx.keeps_output
    ctx.save_for_backward(
        y if scale is not None or needs_z else None,
        scale,
        noise,
        strength,
        bias if needs_z else None,
        output if ctx.keeps_output and not is_linear else None,
    )


def _backward(ctx, dout):
    y, scale, noise, strength, bias, ref = ctx.saved_tensors
    if not ctx.keeps_output:
        ref = native("conv_epilogue")(y, scale, noise, strength, bias, LINEAR, 0.0, 1.0, NO_CLAMP)
    wants = sum(1 << i for i, shape in enumerate(ctx.shapes) if shape is not None and ctx.needs_input_grad[i + 1])
    dy, *small = native("conv_epilogue_backward")(dout, ref, y, scale, noise, strength, None, *ctx.activation, wants)
    return dy, *(s if wants >> i & 1 else None for i, s in enumerate(small)), None, None, None, None


def _setup_backward(ctx, inputs, output):
    dout, ref, y, scale, noise, strength, bias, *ctx.activation, ctx.wants = inputs
    ctx.save_for_backward(dout, ref, y, scale, noise, strength, bias)


def _double_backward(ctx, g_dy, g_scale, g_noise, g_strength, g_bias):
    dout, ref, y, scale, noise, strength, bias = ctx.saved_tensors
    dtype = accumulate_dtype(dout.dtype)
    recovers = bool(ctx.wants & WANTS_SCALE) and y is None
    if recovers:
        y, slope = _recover(ref, scale, noise, strength, bias, *ctx.activation[:3])
    family = native("bias_act_backward")
    act = [1, *ctx.activation]

    # The cotangent of dz: every output is linear in dz.
    g_z = g_dy.to(dtype)
    if scale is not None:
        g_z = g_z * scale[:, :, None, None]
    if ctx.wants & WANTS_SCALE:
        g_z = g_z + g_scale[:, :, None, None] * y
    if ctx.wants & WANTS_NOISE:
        g_z = g_z + (g_noise if strength is None else g_noise * strength)
    if ctx.wants & WANTS_STRENGTH:
        g_z = g_z + g_strength * noise
    if ctx.wants & WANTS_BIAS:
        g_z = g_z + g_bias[:, None, None]
    g_z = g_z.to(dout.dtype)

    g = [None] * 7
    if ctx.needs_input_grad[0]:
        g[0] = family(g_z, ref, *act, 0, False)[0]
    if ref is not None and ctx.needs_input_grad[1] and not is_piecewise_linear(ctx.activation[0]):
        g[1] = family(g_z * dout, ref, *act, 1, False)[0]
    needs = ctx.needs_input_grad
    if any(needs[2:6]) or (recovers and any(needs)):
        dz = family(dout, ref, *act, 0, False)[0].to(dtype)
        if ctx.wants & WANTS_SCALE and needs[2]:
            g[2] = (dz * g_scale[:, :, None, None]).to(dout.dtype)
        if scale is not None and needs[3]:
            g[3] = (dz * g_dy).sum([2, 3])
        if ctx.wants & WANTS_STRENGTH and needs[4]:
            g[4] = (dz.sum(1, keepdim=True) * g_strength).sum_to_size(noise.shape)
        if ctx.wants & WANTS_NOISE and strength is not None and needs[5]:
            g[5] = (dz.sum(1, keepdim=True) * g_noise).sum()
        if recovers:  # dscale = sum dz y as a function of what y is recovered from
            g_z0 = dz * (g_scale / scale)[:, :, None, None]
            own = (
                None,
                (g_z0 * slope).to(ref.dtype) if needs[1] else None,
                None,
                -(g_z0 * y).sum([2, 3]) if needs[3] else None,
                -(g_z0.sum(1, keepdim=True) * (1 if strength is None else strength)).sum_to_size(noise.shape) if needs[4] else None,
                -(g_z0.sum(1, keepdim=True) * noise).sum() if needs[5] else None,
                -g_z0.sum([0, 2, 3]) if needs[6] else None,
            )
            g = [a if b is None else b if a is None else a + b for a, b in zip(g, own, strict=True)]
    return *g, None, None, None, None, None


def _recover(ref, scale, noise, strength, bias, act, alpha, gain):
    """The y of the output, and dz/dref."""
    inverse_gain = 0.0 if gain == 0 else 1 / gain
    u = ref.to(scale.dtype) * inverse_gain
    slope = torch.where(u > 0, u.new_ones([]), inverse_slope(act, alpha))  # two numbers would meet in float32
    z = u * slope
    if noise is not None:
        z = z - (noise if strength is None else noise * strength)
    if bias is not None:
        z = z - bias[:, None, None]
    return z / scale[:, :, None, None], slope * inverse_gain


register("conv_epilogue", fake=_fake, setup_context=_setup, backward=_backward)
register("conv_epilogue_backward", fake=_backward_fake, setup_context=_setup_backward, backward=_double_backward)
