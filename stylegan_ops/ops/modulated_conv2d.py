"""modulated_conv2d: a convolution whose input channels are scaled per sample, demodulated, resampled, with everything behind it fused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .. import _impl
from ._checks import accumulate_dtype, check_bool, check_device, check_image, check_real, check_vector, no_autocast
from ._registry import native, register
from .bias_act import IDENTITY, check_activation, dense_format
from .conv_epilogue import check_noise, conv_epilogue
from .upfirdn2d import check_arguments, check_sides, down_padding, filter_size, up_padding, upfirdn2d, upfirdn2d_reference

# 1. The public function


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor | None,
    noise: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    resample_filter: torch.Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    *,
    eps: float = 1e-8,
    bias: torch.Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """Style-modulated, demodulated convolution with resampling, noise, bias and activation.

    With the styles `s` and the weights `w`: `y = d * conv(s * x, w)`, where `d_no = (sum_ik (s_ni w_oik)^2 + eps)^-1/2` (1 without
    demodulation), the same as convolving each sample with weights of its own, but with one shared weight and so one dense convolution
    for the whole batch. Then `clamp(act(y + noise + bias) * gain)`.
    With `up` the image is zero-inserted and filtered before the convolution, with `down` the result is filtered and decimated; both are
    computed in the cheaper equivalent order.

    Args:
        x: images `[N, I, H, W]`, floating point. Contiguous and channels_last are read as they are.
        weight: `[O, I, K_h, K_w]`, any floating-point dtype; it is cast to x's.
        styles: `[N, I]`; None for a plain convolution (then there is no demodulation).
        noise: `[N, 1, H', W']`, `[1, 1, H', W']` or `[H', W']`, times its strength; None for no noise.
        up, down: resampling factors, 1 or 2 or more; not both above 1.
        padding: as for the convolution alone, one integer, `[x, y]` or `[left, right, top, bottom]`, in pixels of the upsampled image;
            `K // 2` keeps the size times up, divided by down.
        resample_filter: filter of `setup_filter` for up and down; None for the identity.
        demodulate: divide by the expected standard deviation (the equation above).
        flip_weight: True is correlation (PyTorch's convention), False convolution.
        eps: added under the root.
        bias, act, alpha, gain, clamp: as in `conv_epilogue`.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        `[N, O, H', W']` of x's dtype and memory format; under autocast of the autocast dtype, to which x and weight are cast.

    Raises:
        ValueError, TypeError: for arguments outside these rules.
        RuntimeError: with `impl="native"` where there is no kernel.

    Differentiable to any order in x, weight, styles, noise and bias. In 16 bits `d` is made of the weights as x's dtype rounds them where
    nothing asks for a gradient, else of the weights as they are.
    Source: Karras et al. 2020 (arXiv:1912.04958), section 2.2, equations 1 to 3.
    """
    op = "modulated_conv2d"
    f, (up, up_y), (down, down_y), padding, _ = check_arguments(op, x, resample_filter, up, down, padding, 1)
    if up != up_y or down != down_y or (up > 1 and down > 1):
        raise ValueError(f"{op}: up and down must be single integers, not both above 1 (got up={(up, up_y)}, down={(down, down_y)})")
    check_weight(x, weight)
    padding = resampled_padding(padding, f, up, down)
    check_bool(op, "demodulate", demodulate)
    check_bool(op, "flip_weight", flip_weight)
    eps = check_real(op, "eps", eps)
    if not eps >= 0:
        raise ValueError(f"{op}: eps must be at least 0 (got {eps})")
    activation = check_activation(op, act, alpha, gain, clamp)
    height, width = output_size(x, weight, f, up, down, padding)
    if noise is not None:
        noise = check_noise(op, noise, x, height, width)
    if bias is not None:
        check_vector(op, "bias", bias, weight.shape[0], x, "dimension 0 of weight")

    if styles is not None:
        check_image(op, "styles", styles)
        if styles.shape != x.shape[:2]:
            raise ValueError(f"{op}: styles must have shape [N, I] = [{x.shape[0]}, {x.shape[1]}] (got shape {tuple(styles.shape)})")
        check_device(op, "styles", styles, x)
        styles = styles.to(accumulate_dtype(x.dtype))
    demodulate = demodulate and styles is not None
    if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        x = x.to(torch.get_autocast_dtype(x.device.type))

    if not _impl.is_native(op, impl, x):
        y = modulated_conv2d_reference(x, weight, styles, demodulate, eps, f, up, down, padding, flip_weight)
        return conv_epilogue(y, None, noise, None, bias, act, alpha, gain, clamp, impl="reference").to(x.dtype)
    if noise is not None:
        noise = noise.to(accumulate_dtype(x.dtype))
    if bias is not None:
        bias = bias.to(accumulate_dtype(x.dtype))
    return _native(x, weight, styles, demodulate, eps, f, up, down, padding, flip_weight, (noise, bias, *activation))


def check_weight(x, weight) -> None:
    op = "modulated_conv2d"
    check_image(op, "weight", weight)
    if weight.ndim != 4 or weight.shape[1] != x.shape[1] or 0 in weight.shape:
        raise ValueError(f"{op}: weight must have shape [O, I, K_h, K_w] with I = {x.shape[1]} as in x (got shape {tuple(weight.shape)})")
    check_device(op, "weight", weight, x)


def resampled_padding(padding, f, up, down):
    """The padding in pixels of the upsampled image with the part that centres the resampling filter."""
    if up > 1:
        return up_padding(padding, f, (up, up))
    return down_padding(padding, f, (down, down)) if down > 1 else padding


def output_size(x, weight, f, up, down, padding) -> tuple[int, int]:
    taps = filter_size(f) if up > 1 or down > 1 else (1, 1)
    left, right, top, bottom = padding
    height = x.shape[2] * up + top + bottom - taps[1] - weight.shape[2] + 2
    width = x.shape[3] * up + left + right - taps[0] - weight.shape[3] + 2
    if 0 in x.shape[2:]:
        raise ValueError(f"modulated_conv2d: x must have at least 1 pixel (got shape {tuple(x.shape)})")
    check_sides("modulated_conv2d", height, width, x.shape[2] * up, x.shape[3] * up)
    if height < 1 or width < 1:
        raise ValueError(
            f"modulated_conv2d: weight of {weight.shape[2]} x {weight.shape[3]} taps must fit into the padded image "
            f"(got x of {x.shape[2]} x {x.shape[3]} pixels, padding {padding} with the filter's share)"
        )
    return (height - 1) // down + 1, (width - 1) // down + 1


def demodulation_coefficients(weight: torch.Tensor, styles: torch.Tensor, eps: float) -> torch.Tensor:
    """`d_no = (sum_ik (s_ni w_oik)^2 + eps)^-1/2` `[N, O]` in the styles' dtype, float32 under autocast too (equation 3)."""
    with no_autocast(styles.device):
        energy = weight.to(styles.dtype).square().sum([2, 3])
        return (styles.square() @ energy.t() + eps).rsqrt()


# 2. The reference: the definition, with weights of its own for each sample


def modulated_conv2d_reference(x, weight, styles, demodulate, eps, f, up, down, padding, flip_weight) -> torch.Tensor:
    dtype = accumulate_dtype(x.dtype)
    n = x.shape[0]
    y, w = x.to(dtype), weight.to(dtype)
    if not flip_weight:
        w = w.flip([2, 3])
    with no_autocast(x.device):
        y = upfirdn2d_reference(y, f if up > 1 else None, (up, up), (1, 1), padding, False, float(up * up))
        if styles is None:
            y = F.conv2d(y, w)
        elif n > 0:
            w = styles[:, None, :, None, None] * w  # [N, O, I, K, K], equation 1
            if demodulate:
                w = w * (w.square().sum([2, 3, 4], keepdim=True) + eps).rsqrt()  # equation 3
            y = F.conv2d(y.reshape(1, -1, *y.shape[2:]), w.flatten(0, 1), groups=n).unflatten(1, (n, -1))[0]
        else:
            y = F.conv2d(y, w * styles.sum())  # nothing, but it hangs on the styles
        if down > 1:
            y = upfirdn2d_reference(y, f, (1, 1), (down, down), (0, 0, 0, 0), False, 1.0)
    return y.contiguous(memory_format=dense_format(x))


# The native order of the same steps: the filter is applied where there are fewer pixels, and the zeros are never multiplied.


def _native(x, weight, styles, demodulate, eps, f, up, down, padding, flip_weight, behind) -> torch.Tensor:
    ky, kx = weight.shape[2:]
    left, right, top, bottom = padding
    is_1x1 = ky == 1 and kx == 1
    noise, bias, *activation = behind
    is_inference = not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, styles, noise, bias)))

    def epilogue(y):
        scale = demodulation_coefficients(weight, styles, eps) if demodulate else None
        if scale is None and noise is None and bias is None and tuple(activation) == IDENTITY:
            return y
        return native("conv_epilogue")(y, scale, noise, None, bias, *activation)

    w = weight.to(x.dtype)
    if not is_1x1 and flip_weight == (up > 1):  # a transposed convolution flips by itself
        w = w.flip([2, 3])
    if up > 1 and is_1x1:
        y = native("modulated_conv2d")(x, w, styles, 1, 0, 0, False, 0, 0)
        return epilogue(upfirdn2d(y, f, up, padding=padding, gain=up * up, impl="native"))
    if up > 1:
        w = w.transpose(0, 1)
        full = (left - kx + 1, right - kx + up, top - ky + 1, bottom - ky + up)
        if is_inference and up == 2 and min(kx, ky) > 1:
            f = torch.ones([1, 1], device=x.device) if f is None else f
            return native("modulated_conv2d_inference")(x, w, styles, demodulate, eps, noise, bias, f, up, 1, full, *activation)
        y = native("modulated_conv2d")(x, w, styles, up, 0, 0, True, 0, 0)
        return epilogue(upfirdn2d(y, f, padding=full, gain=up * up, impl="native"))
    if down > 1 and f is not None:
        blur_down = down if is_1x1 else 1
        x = upfirdn2d(x, f, down=blur_down, padding=padding, impl="native")
        down, left, top = down // blur_down, 0, 0
    elif left != right or top != bottom or min(padding) < 0:
        x, left, top = F.pad(x, list(padding)), 0, 0
    if is_inference:
        pads = (left, left, top, top)
        return native("modulated_conv2d_inference")(x, w, styles, demodulate, eps, noise, bias, None, 1, down, pads, *activation)
    return epilogue(native("modulated_conv2d")(x, w, styles, down, top, left, False, 0, 0))


# 3. Fakes. The registered op is the bare y = conv(styles * x, weight), strided or transposed.


def _fake(x, weight, styles, stride, pad_y, pad_x, transposed, extra_y, extra_x):
    if transposed:
        channels = weight.shape[1]
        h = (x.shape[2] - 1) * stride - 2 * pad_y + weight.shape[2] + extra_y
        w = (x.shape[3] - 1) * stride - 2 * pad_x + weight.shape[3] + extra_x
    else:
        channels = weight.shape[0]
        h = (x.shape[2] + 2 * pad_y - weight.shape[2]) // stride + 1
        w = (x.shape[3] + 2 * pad_x - weight.shape[3]) // stride + 1
    return _empty_output(x, channels, h, w)


def _empty_output(x, channels, h, w):
    """channels_last wherever x may be read so, as an image of one channel may; a single pixel lies in both and is contiguous."""
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last) and (h > 1 or w > 1)
    return x.new_empty([x.shape[0], channels, h, w]).to(memory_format=torch.channels_last if is_channels_last else torch.contiguous_format)


def _inference_fake(x, weight, styles, demodulate, eps, noise, bias, f, up, stride, padding, act, alpha, gain, clamp):
    left, right, top, bottom = padding
    if up == 1:
        return _fake(x, weight, styles, stride, top, left, False, 0, 0)
    (taps_x, taps_y), ky, kx = filter_size(f), weight.shape[2], weight.shape[3]
    h = (x.shape[2] - 1) * 2 + ky + top + bottom - taps_y + 1
    w = (x.shape[3] - 1) * 2 + kx + left + right - taps_x + 1
    return _empty_output(x, weight.shape[1], h, w)


def _input_fake(dy, weight, x, styles, stride, pad_y, pad_x, transposed, needs_x, needs_styles):
    dx = torch.empty_like(x, memory_format=dense_format(x)) if needs_x else x.new_empty([0])
    return dx, x.new_empty(x.shape[:2] if needs_styles else [0], dtype=accumulate_dtype(x.dtype))


def _weight_fake(x, dy, styles, ky, kx, stride, pad_y, pad_x, transposed):
    return x.new_empty([x.shape[1], dy.shape[1], ky, kx] if transposed else [dy.shape[1], x.shape[1], ky, kx])


# 4. Derivatives. {strided, transposed} convolutions and their gradients are closed under differentiation: with u = conv^T(dy, w),
#        dx = s u,  ds = sum_hw x u,  dw = conv_weight(s x, dy),
#    where one op makes dx and ds, and neither u nor s x is kept. u is linear in dy and in w; the cotangents g of dx and h of ds give u the
#    cotangent s g + h x, and x and s those h u and sum_hw g u: the same op again.


def _convolve(x, weight, styles, geometry, y):
    """conv(styles * x, weight) in y's size, which the sizes of x and weight leave open where the convolution is transposed."""
    stride, pad_y, pad_x, transposed = geometry
    extra = (0, 0)
    if transposed:
        extra = tuple(y.shape[i] - ((x.shape[i] - 1) * stride - 2 * p + weight.shape[i]) for i, p in ((2, pad_y), (3, pad_x)))
    return native("modulated_conv2d")(x, weight, styles, *geometry, *extra)


def _input_gradients(dy, weight, x, styles, geometry, needs_x, needs_styles):
    """dx and ds, None where not needed."""
    if not (needs_x or needs_styles):
        return None, None
    dx, ds = native("modulated_conv2d_input")(dy, weight, x, styles, *geometry, needs_x, needs_styles)
    return (dx if needs_x else None), (ds if needs_styles else None)


def _setup(ctx, inputs, output):
    x, weight, styles, *geometry, ctx.extra_y, ctx.extra_x = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(x, weight, styles)


def _backward(ctx, dy):
    x, weight, styles = ctx.saved_tensors
    needs_x, needs_weight, needs_styles = ctx.needs_input_grad[:3]
    dx, ds = _input_gradients(dy, weight, x, styles, ctx.geometry, needs_x, needs_styles)
    dw = native("modulated_conv2d_weight")(x, dy, styles, *weight.shape[2:], *ctx.geometry) if needs_weight else None
    return dx, dw, ds, *[None] * 6


def _setup_input(ctx, inputs, output):
    dy, weight, x, styles, *geometry, ctx.made_x, ctx.made_styles = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(dy, weight, x, styles)
    ctx.set_materialize_grads(False)


def _input_backward(ctx, g_dx, g_ds):
    dy, weight, x, styles = ctx.saved_tensors
    needs_dy, needs_weight, needs_x, needs_styles = ctx.needs_input_grad[:4]
    g_dx, g_ds = g_dx if ctx.made_x else None, g_ds if ctx.made_styles else None
    terms = [(image, scale) for image, scale, g in ((g_dx, styles, g_dx), (x, g_ds, g_ds)) if g is not None]
    if not terms:
        return (None,) * 10
    if len(terms) == 1:
        ((image, scale),) = terms
    else:
        scaled = [t if s is None else native("conv_epilogue")(t, s, None, None, None, *IDENTITY) for t, s in terms]
        image, scale = scaled[0] + scaled[1], None
    g_dy = _convolve(image, weight, scale, ctx.geometry, dy) if needs_dy else None
    g_weight = native("modulated_conv2d_weight")(image, dy, scale, *weight.shape[2:], *ctx.geometry) if needs_weight else None
    needs_x, needs_styles = needs_x and g_ds is not None, needs_styles and g_dx is not None
    g_x, g_styles = _input_gradients(dy, weight, x if g_dx is None else g_dx, g_ds, ctx.geometry, needs_x, needs_styles)
    return g_dy, g_weight, g_x, g_styles, *[None] * 6


def _setup_weight(ctx, inputs, output):
    x, dy, styles, _, _, *geometry = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(x, dy, styles)


def _weight_backward(ctx, g):
    x, dy, styles = ctx.saved_tensors
    needs_x, needs_dy, needs_styles = ctx.needs_input_grad[:3]
    g_x, g_styles = _input_gradients(dy, g, x, styles, ctx.geometry, needs_x, needs_styles)
    g_dy = _convolve(x, g, styles, ctx.geometry, dy) if needs_dy else None
    return g_x, g_dy, g_styles, *[None] * 6


register("modulated_conv2d", fake=_fake, setup_context=_setup, backward=_backward)


def _inference_backward(ctx, dy):
    raise RuntimeError("modulated_conv2d_inference: has no derivative; call modulated_conv2d, which chooses it only where none is needed")


register("modulated_conv2d_inference", fake=_inference_fake, backward=_inference_backward)
register("modulated_conv2d_input", fake=_input_fake, setup_context=_setup_input, backward=_input_backward)
register("modulated_conv2d_weight", fake=_weight_fake, setup_context=_setup_weight, backward=_weight_backward)
