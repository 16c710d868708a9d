"""adain: StyleGAN's layer epilogue: noise, bias and activation, then instance norm under a style's scale and shift."""

from __future__ import annotations

import torch

from .. import _impl
from ._checks import accumulate_dtype, check_device, check_image, check_real
from ._registry import native, register
from .bias_act import LINEAR, NO_CLAMP, activate_reference, check_activation, dense_format, is_piecewise_linear, keeps_output
from .conv_epilogue import check_operands

# 1. The public function


def adain(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    noise_strength: torch.Tensor | float | None = None,
    bias: torch.Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    eps: float = 1e-8,
    *,
    impl: str | None = None,
) -> torch.Tensor:
    """Noise, bias, activation, instance norm and a style's scale and shift behind a convolution.

    `u = act(x + noise * noise_strength + bias) * gain`, then for every sample and channel over its pixels
    `y = scale * (u - mean(u)) / sqrt(var(u) + eps) + shift`, `var` being the mean squared deviation.

    Args:
        x: a convolution's output `[N, C, H, W]`, floating point. Contiguous and channels_last are read as they are.
        scale: `[N, C]`, y_s of the paper; None for 1.
        shift: `[N, C]`, y_b of the paper; None for 0.
        noise: `[N, 1, H, W]`, `[1, 1, H, W]` or `[H, W]`; None for no noise.
        noise_strength: a number, a tensor with one element, or `[C]`, a strength of each channel; None for 1.
        bias: `[C]`; None for no bias.
        act, alpha, gain: as in `bias_act`. The instance norm cancels a gain but for eps; the default is 1, not the activation's own.
        eps: added to the variance, > 0 so that a constant plane has a derivative.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        `[N, C, H, W]` of x's dtype and memory format. 16-bit input is computed in float32 and rounded once.

    Raises:
        ValueError, TypeError: for arguments outside these rules.
        RuntimeError: with `impl="native"` where there is no kernel.

    Differentiable to any order in x, scale, shift, noise, noise_strength and bias.
    Source: Huang and Belongie 2017 (arXiv:1703.06868), equation 8; Karras et al. 2019 (arXiv:1812.04948), equation 1 and figure 1b.
    """
    op = "adain"
    check_image(op, "x", x, ndim=4)
    n, c = x.shape[:2]
    dtype = accumulate_dtype(x.dtype)
    styles = []
    for name, style in (("scale", scale), ("shift", shift)):
        if style is not None:
            check_image(op, name, style)
            if style.shape != (n, c):
                raise ValueError(f"{op}: {name} must have shape [N, C] = [{n}, {c}] (got shape {tuple(style.shape)})")
            check_device(op, name, style, x)
            style = style.to(dtype)
        styles.append(style)
    per_channel = isinstance(noise_strength, torch.Tensor) and noise_strength.shape == (c,) and c > 1
    strength = None
    if per_channel:
        check_image(op, "noise_strength", noise_strength)
        check_device(op, "noise_strength", noise_strength, x)
        if noise is None:
            raise ValueError(f"{op}: noise_strength needs noise (got noise=None)")
        strength = noise_strength.to(dtype)
    _, noise, single, bias = check_operands(op, x, x.shape, None, noise, None if per_channel else noise_strength, bias)
    act, alpha, gain, _ = check_activation(op, act, alpha, 1.0 if gain is None else gain, None)
    eps = check_real(op, "eps", eps)
    if not eps > 0:
        raise ValueError(f"{op}: eps must be greater than 0 (got {eps})")
    if strength is None and single is not None:
        strength = single.expand(c)
    args = (*styles, noise, strength, bias, act, alpha, gain, eps)
    if _impl.is_native(op, impl, x):
        return native(op)(x, *args)
    return adain_reference(x, *args)


# 2. The reference


def adain_reference(x, scale, shift, noise, noise_strength, bias, act, alpha, gain, eps) -> torch.Tensor:
    z = x.to(accumulate_dtype(x.dtype))
    if noise is not None:
        z = z + (noise if noise_strength is None else noise * noise_strength[:, None, None])
    if bias is not None:
        z = z + bias[:, None, None]
    u = activate_reference(z, act, alpha, gain, NO_CLAMP)
    centred = u - u.mean([2, 3], keepdim=True)
    y = centred * (centred.square().mean([2, 3], keepdim=True) + eps).rsqrt()
    if scale is not None:
        y = y * scale[:, :, None, None]
    if shift is not None:
        y = y + shift[:, :, None, None]
    return y.to(x.dtype).contiguous(memory_format=dense_format(x))


# 3. Fakes


def _fake(x, scale, shift, noise, noise_strength, bias, act, alpha, gain, eps):
    return torch.empty_like(x, memory_format=dense_format(x))


def _backward_fake(dy, x, scale, noise, noise_strength, bias, act, alpha, gain, eps, wants):
    n, c = x.shape[:2]
    shapes = ((n, c), (n, c), () if noise is None else noise.shape, (c,), (c,))
    small = (dy.new_empty(shape if wants >> i & 1 else [0], dtype=accumulate_dtype(x.dtype)) for i, shape in enumerate(shapes))
    return torch.empty_like(x, memory_format=dense_format(x)), *small


# 4. Derivatives. With z = x + noise strength + bias, u = a(z), r = (var(u) + eps)^-1/2, u' = (u - mean(u)) r over a plane's pixels, and
#        P v = r (v - mean(v) - u' mean(v u')),
#    symmetric, the Jacobian of u': du = scale P dy and dz = du a'(z), then
#        dx = dz,  dscale = sum_hw dy u',  dshift = sum_hw dy,
#        dnoise = sum_c dz strength,  dstrength = sum_nhw dz noise,  dbias = sum_nhw dz,
#    all by one op that makes mean and variance of x again in the pass that adds up dy. Its derivative is written out below in
#    differentiable functions.


def _setup(ctx, inputs, output):
    x, scale, shift, noise, strength, bias, *ctx.args = inputs
    ctx.has = [t is not None for t in (scale, shift, noise, strength, bias)]
    ctx.save_for_backward(x, scale, noise, strength, bias)


def _backward(ctx, dy):
    wants = sum(1 << i for i, has in enumerate(ctx.has) if has and ctx.needs_input_grad[i + 1])
    dx, *small = native("adain_backward")(dy, *ctx.saved_tensors, *ctx.args, wants)
    return dx, *(s if wants >> i & 1 else None for i, s in enumerate(small)), None, None, None, None


def _setup_backward(ctx, inputs, output):
    *tensors, act, alpha, gain, ctx.eps, ctx.wants = inputs
    ctx.activation = (act, alpha, gain, NO_CLAMP)
    ctx.save_for_backward(*tensors)


def _mean(v):
    return v.mean([2, 3], keepdim=True)


def _of_planes(v):
    return v[:, :, None, None]


def _double_backward(ctx, g_dx, g_scale, g_shift, g_noise, g_strength, g_bias):
    dy_, x_, scale, noise, strength, bias = ctx.saved_tensors
    needs, act = ctx.needs_input_grad, ctx.activation[0]
    wanted = [g if ctx.wants >> i & 1 else None for i, g in enumerate((g_scale, g_shift, g_noise, g_strength, g_bias))]
    g_scale, g_shift, g_noise, g_strength, g_bias = wanted
    dtype = accumulate_dtype(x_.dtype)
    dy, x = dy_.to(dtype), x_.to(dtype)
    factor = 1.0 if scale is None else _of_planes(scale)
    strengths = 1.0 if strength is None else strength[:, None, None]

    z = x if noise is None else x + noise * strengths
    z = z if bias is None else z + bias[:, None, None]
    u = native("bias_act")(z, None, 0, *ctx.activation)
    of_output = keeps_output(*ctx.activation[:2])
    ref = None if act == LINEAR else u if of_output else z

    def slope(v, order=0):
        """v times the derivative of that order, in ref, of da/dz."""
        return native("bias_act_backward")(v.contiguous(memory_format=dense_format(z)), ref, 0, *ctx.activation, order, False)[0]

    centred = u - _mean(u)
    r = (_mean(centred.square()) + ctx.eps).rsqrt()
    unit = centred * r

    def project(v):
        return r * (v - _mean(v) - unit * _mean(v * unit))

    # The cotangent of dz, in which all but dscale and dshift are linear, and that of du / scale.
    h = g_dx.to(dtype)
    if g_noise is not None:
        h = h + g_noise * strengths
    if g_strength is not None:
        h = h + g_strength[:, None, None] * noise
    if g_bias is not None:
        h = h + g_bias[:, None, None]
    w = slope(h)
    projected_w, projected_dy = project(w), project(dy)
    du = factor * projected_dy
    dz = slope(du)

    g = [None] * 6
    if needs[0]:
        g[0] = factor * projected_w
        if g_scale is not None:
            g[0] = g[0] + _of_planes(g_scale) * unit
        if g_shift is not None:
            g[0] = g[0] + _of_planes(g_shift)
        g[0] = g[0].to(dy_.dtype)
    if needs[2] and scale is not None:
        g[2] = (w * projected_dy).sum([2, 3])
    if any(needs[i] for i in (1, 3, 4, 5)):
        # <w, P dy> = n r (A - B D) with A = cov(w, dy), B = mean(w u'), D = mean(dy u'), whose derivatives in u are P w / n and P dy / n
        b, d = _mean(w * unit), _mean(dy * unit)
        a = _mean(w * dy) - _mean(w) * _mean(dy)
        g_u = -factor * r * (unit * r * (a - b * d) + d * projected_w + b * projected_dy)
        if g_scale is not None:
            g_u = g_u + _of_planes(g_scale) * projected_dy
        curved = None if is_piecewise_linear(act) else slope(h * du, 1)
        if curved is not None and of_output:
            g_u = g_u + curved
        g_z = slope(g_u)
        if curved is not None and not of_output:
            g_z = g_z + curved
        if needs[1]:
            g[1] = g_z.to(x_.dtype)
        if needs[3]:
            of_noise = g_z * strengths if g_strength is None else g_z * strengths + dz * g_strength[:, None, None]
            g[3] = of_noise.sum_to_size(noise.shape)
        if needs[4]:
            of_strength = g_z * noise if g_noise is None else g_z * noise + dz * g_noise
            g[4] = of_strength.sum([0, 2, 3])
        if needs[5]:
            g[5] = g_z.sum([0, 2, 3])
    return *g, None, None, None, None, None


register("adain", fake=_fake, setup_context=_setup, backward=_backward)
register("adain_backward", fake=_backward_fake, setup_context=_setup_backward, backward=_double_backward)
