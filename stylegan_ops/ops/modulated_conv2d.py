"""modulated_conv2d: a convolution whose input channels are scaled per sample, demodulated, resampled, with everything behind it fused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .. import _impl
from ._checks import accumulate_dtype, check_bool, check_device, check_image, check_real, check_vector, no_autocast
from ._demodulation import LayerStyle
from ._modulated_native import Behind, modulated_conv2d_native
from .bias_act import check_activation, dense_format
from .conv_epilogue import check_operands, conv_epilogue
from .upfirdn2d import check_arguments, check_sides, down_padding, filter_size, up_padding, upfirdn2d_reference

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
    noise_strength: torch.Tensor | float | None = None,
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
    for the whole batch. Then `clamp(act(y + noise * noise_strength + bias) * gain)`.
    With `up` the image is zero-inserted and filtered before the convolution, with `down` the result is filtered and decimated; both are
    computed in the cheaper equivalent order.

    Args:
        x: images `[N, I, H, W]`, floating point. Contiguous and channels_last are read as they are.
        weight: `[O, I, K_h, K_w]`, any floating-point dtype; it is cast to x's.
        styles: `[N, I]`; None for a plain convolution (then there is no demodulation).
        noise: `[N, 1, H', W']`, `[1, 1, H', W']` or `[H', W']`; None for no noise.
        up, down: resampling factors, 1 or 2 or more; not both above 1.
        padding: as for the convolution alone, one integer, `[x, y]` or `[left, right, top, bottom]`, in pixels of the upsampled image;
            `K // 2` keeps the size times up, divided by down.
        resample_filter: filter of `setup_filter` for up and down; None for the identity.
        demodulate: divide by the expected standard deviation (the equation above).
        flip_weight: True is correlation (PyTorch's convention), False convolution.
        eps: added under the root.
        noise_strength: factor of the noise, a number or a tensor of one element; None for 1.
        bias, act, alpha, gain, clamp: as in `conv_epilogue`.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        `[N, O, H', W']` of x's dtype and memory format; under autocast of the autocast dtype, to which x and weight are cast.

    Raises:
        ValueError, TypeError: for arguments outside these rules.
        RuntimeError: with `impl="native"` where there is no kernel.

    Differentiable to any order in x, weight, styles, noise, noise_strength and bias. `d` is made of the weights as they are, before they
    are cast. In float16 styles and weights are divided by powers of two of their size, and the result multiplied: what fits
    float16 itself stays finite on the way for inputs up to 256.
    With linear, relu or lrelu only x and the result are kept for the derivatives, which recover the convolution from the result: do not
    change it in place, and expect fewer digits in them where noise and bias are many times as large as the convolution.
    On the CPU, 3x3 convolutions of at least 32 channels and 1024 pixels go through Winograd's transforms (Lavin and Gray 2015,
    arXiv:1509.09308): in float32 the result is within 1e-5 of float64's, of its norm, and a NaN or infinity in x reaches the 4 x 4
    pixels of each tile it touches.
    Source: Karras et al. 2020 (arXiv:1912.04958), section 2.2, equations 1 to 3.
    """
    op = "modulated_conv2d"
    f, (up, up_y), (down, down_y), padding, _ = check_arguments(op, x, resample_filter, up, down, padding, 1)
    if up != up_y or down != down_y or (up > 1 and down > 1):
        raise ValueError(f"{op}: up and down must be single integers, not both above 1 (got up={(up, up_y)}, down={(down, down_y)})")
    check_weight(x, weight)
    padding = resampled_padding(padding, f, up, down)
    demodulate, flip_weight = check_bool(op, "demodulate", demodulate), check_bool(op, "flip_weight", flip_weight)
    eps = check_real(op, "eps", eps)
    if not eps >= 0:
        raise ValueError(f"{op}: eps must be at least 0 (got {eps})")
    activation = check_activation(op, act, alpha, gain, clamp)
    height, width = output_size(x, weight, f, up, down, padding)
    if bias is not None:
        check_vector(op, "bias", bias, weight.shape[0], x, "dimension 0 of weight")
    size = (x.shape[0], weight.shape[0], height, width)
    _, noise, noise_strength, bias = check_operands(op, x, size, None, noise, noise_strength, bias)

    is_made = isinstance(styles, LayerStyle)  # a network's own, for inference on the native kernels
    if styles is not None and not is_made:
        check_image(op, "styles", styles)
        if styles.shape != x.shape[:2]:
            raise ValueError(f"{op}: styles must have shape [N, I] = [{x.shape[0]}, {x.shape[1]}] (got shape {tuple(styles.shape)})")
        check_device(op, "styles", styles, x)
        styles = styles.to(accumulate_dtype(x.dtype))
    demodulate = demodulate and styles is not None
    if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        x = x.to(torch.get_autocast_dtype(x.device.type))

    if not is_made and not _impl.is_native(op, impl, x):
        y = modulated_conv2d_reference(x, weight, styles, demodulate, eps, f, up, down, padding, flip_weight)
        return conv_epilogue(y, None, noise, noise_strength, bias, act, alpha, gain, clamp, impl="reference").to(x.dtype)
    style = styles if is_made else LayerStyle.of(x, weight, styles, demodulate, eps)
    behind = Behind(style.scale, noise, noise_strength, bias, activation)
    return modulated_conv2d_native(x, weight, style, behind, f, up, down, padding, flip_weight)


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
