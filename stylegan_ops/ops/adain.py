"""adain: StyleGAN's layer epilogue: noise, bias and activation, then instance norm under a style's scale and shift."""

from __future__ import annotations

import torch

from ._checks import accumulate_dtype, check_device, check_image, check_real
from .bias_act import NO_CLAMP, activate_reference, check_activation, dense_format
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
