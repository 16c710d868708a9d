"""The native form of modulated_conv2d: which registered operators make it, their fakes and their derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from . import _autotune
from ._checks import accumulate_dtype
from ._demodulation import LayerStyle, root_of_terms
from ._registry import native, refuses_derivative, register
from .bias_act import IDENTITY, LINEAR, NO_CLAMP, dense_format, recovers_input
from .conv_epilogue import WANTS_BIAS, WANTS_NOISE, WANTS_SCALE, WANTS_STRENGTH
from .upfirdn2d import adjoint, filter_size, upfirdn2d

# 1. The order of the steps: the filter is applied where there are fewer pixels, and the zeros are never multiplied


@dataclass
class Behind:
    """What stands behind the convolution, in the accumulation dtype: see conv_epilogue."""

    scale: torch.Tensor | None
    noise: torch.Tensor | None
    noise_strength: torch.Tensor | None
    bias: torch.Tensor | None
    activation: tuple[int, float, float, float]

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        return self.scale, self.noise, self.noise_strength, self.bias

    def is_nothing(self) -> bool:
        return self.activation == IDENTITY and all(t is None for t in self.tensors())

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        return y if self.is_nothing() else native("conv_epilogue")(y, *self.tensors(), *self.activation)


def modulated_conv2d_native(x, weight, style: LayerStyle, behind: Behind, f, up, down, padding, flip_weight) -> torch.Tensor:
    """The convolution with the style in front, resampled, and what stands behind it, the style's scale included."""
    styles, size = style.styles, style.size
    ky, kx = weight.shape[2:]
    left, right, top, bottom = padding
    is_1x1 = ky == 1 and kx == 1
    flips = not is_1x1 and flip_weight == (up > 1)  # a transposed convolution flips by itself
    # A layer in one operator keeps nothing but its output for the derivatives; what that does not tell goes through the single ones.
    needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, styles, *behind.tensors()))
    is_layer = not needs_grad or (recovers_input(*behind.activation[:2]) and not (behind.is_nothing() and up == 1))

    def layer(x, f, stride, padding):
        w, packed = _weights(x, weight, style, 2 if up > 1 else stride, up > 1, flips)
        tensors = (styles, *behind.tensors(), f)
        return native("modulated_conv2d_layer")(x, w, packed, *tensors, up, stride, padding, *behind.activation, allows_tf32(x))

    def convolution(x, stride, pad_y, pad_x, transposed):
        w = _arranged(weight, size, x.dtype, transposed, flips)
        return native("modulated_conv2d")(x, w, styles, stride, pad_y, pad_x, transposed, 0, 0, allows_tf32(x))

    if up > 1 and is_1x1:
        y = convolution(x, 1, 0, 0, False)
        return behind(upfirdn2d(y, f, up, padding=padding, gain=up * up, impl="native"))
    if up > 1:
        full = (left - kx + 1, right - kx + up, top - ky + 1, bottom - ky + up)
        if is_layer and up == 2 and min(kx, ky) > 1:
            return layer(x, torch.ones([1, 1], device=x.device) if f is None else f, 1, full)
        y = convolution(x, up, 0, 0, True)
        return behind(upfirdn2d(y, f, padding=full, gain=up * up, impl="native"))
    if down > 1 and f is not None:
        blur_down = down if is_1x1 else 1
        x = upfirdn2d(x, f, down=blur_down, padding=padding, impl="native")
        down, left, top = down // blur_down, 0, 0
    elif left != right or top != bottom or min(padding) < 0:
        x, left, top = F.pad(x, list(padding)), 0, 0
    if is_layer:
        return layer(x, None, down, (left, left, top, top))
    return behind(convolution(x, down, top, left, False))


def allows_tf32(x: torch.Tensor) -> bool:
    """Whether PyTorch's settings let a convolution of x multiply in TF32."""
    return x.is_cuda and x.dtype == torch.float32 and _uses_tf32()


@torch.compiler.assume_constant_result  # a compiled graph keeps the setting it was traced under
def _uses_tf32() -> bool:
    return torch.backends.cudnn.conv.fp32_precision == "tf32"


def _arranged(weight, size, dtype, transposed, flips):
    """The weights as the convolution takes them."""
    w = (weight if size is None else weight / size).to(dtype)
    w = w.flip([2, 3]) if flips else w
    w = w.transpose(0, 1) if transposed else w
    return w.view_as(w) if w is weight and w.requires_grad else w  # a parameter itself would hide what `_needs_weight` looks at


def _weights(x, weight, style, stride, transposed, flips):
    """The weights, and as the fused convolution reads them or None, which it then takes: made once where the style keeps them."""
    kept, dtype = style.kept, x.dtype
    if kept is None:
        return _arranged(weight, style.size, dtype, transposed, flips), None
    with torch.inference_mode(False), torch.no_grad():
        if x.is_cuda and not _autotune.is_on():
            wide = (weight.transpose(0, 1) if transposed else weight).to(accumulate_dtype(dtype))
            if native("modulated_conv2d_is_fused")(x, wide, stride, transposed, style.styles is not None):
                if ("packed", dtype) not in kept:
                    w = _arranged(weight, style.size, wide.dtype, transposed, flips)
                    kept["packed", dtype] = native("modulated_conv2d_pack")(w, dtype, transposed)
                return wide, kept["packed", dtype]
        if dtype not in kept:
            kept[dtype] = _arranged(weight, style.size, dtype, transposed, flips)
        return kept[dtype], None


# 2. Fakes


def _fake(x, weight, styles, stride, pad_y, pad_x, transposed, extra_y, extra_x, tf32):
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


def _layer_fake(x, weight, packed, styles, scale, noise, strength, bias, f, up, stride, padding, act, alpha, gain, clamp, tf32):
    left, right, top, bottom = padding
    if up == 1:
        return _fake(x, weight, styles, stride, top, left, False, 0, 0, tf32)
    (taps_x, taps_y), ky, kx = filter_size(f), weight.shape[2], weight.shape[3]
    h = (x.shape[2] - 1) * 2 + ky + top + bottom - taps_y + 1
    w = (x.shape[3] - 1) * 2 + kx + left + right - taps_x + 1
    return _empty_output(x, weight.shape[1], h, w)


def _weight_fake(x, dy, styles, ky, kx, stride, pad_y, pad_x, transposed, tf32):
    return x.new_empty([x.shape[1], dy.shape[1], ky, kx] if transposed else [dy.shape[1], x.shape[1], ky, kx])


def _input_fake(dy, weight, x, styles, stride, pad_y, pad_x, transposed, needs_x, needs_styles, tf32):
    dx = torch.empty_like(x, memory_format=dense_format(x)) if needs_x else x.new_empty([0])
    return dx, x.new_empty(x.shape[:2] if needs_styles else [0], dtype=accumulate_dtype(x.dtype))


def _pack_fake(weight, dtype, transposed):
    raise RuntimeError("modulated_conv2d_pack: is for weights that are kept, outside of torch.compile")


# 3. Derivatives. {strided, transposed} convolutions and their gradients are closed under differentiation: with u = conv^T(dy, w),
#        dx = s u,  ds = sum_hw x u,  dw = conv_weight(s x, dy),
#    where one op makes dx and ds, and neither u nor s x is kept. u is linear in dy and in w; the cotangents g of dx and h of ds give u the
#    cotangent s g + h x, and x and s those h u and sum_hw g u: the same op again.


def _convolve(x, weight, styles, geometry, y):
    """conv(styles * x, weight) in y's size, which the sizes of x and weight leave open where the convolution is transposed."""
    stride, pad_y, pad_x, transposed = geometry
    extra = (0, 0)
    if transposed:
        extra = tuple(y.shape[i] - ((x.shape[i] - 1) * stride - 2 * p + weight.shape[i]) for i, p in ((2, pad_y), (3, pad_x)))
    return native("modulated_conv2d")(x, weight, styles, *geometry, *extra, allows_tf32(x))


def _input_gradients(dy, weight, x, styles, geometry, needs_x, needs_styles):
    """dx and ds, None where not needed."""
    if not (needs_x or needs_styles):
        return None, None
    dx, ds = native("modulated_conv2d_input")(dy, weight, x, styles, *geometry, needs_x, needs_styles, allows_tf32(x))
    return (dx if needs_x else None), (ds if needs_styles else None)


def _weight_gradient(x, dy, styles, kernel, geometry):
    return native("modulated_conv2d_weight")(x, dy, styles, *kernel, *geometry, allows_tf32(x))


def _gradients(x, weight, styles, dy, geometry, needs_x, needs_weight, needs_styles):
    """dx, dw, ds of conv(styles * x, weight)."""
    dx, ds = _input_gradients(dy, weight, x, styles, geometry, needs_x, needs_styles)
    return dx, _weight_gradient(x, dy, styles, weight.shape[2:], geometry) if needs_weight else None, ds


def _needs_weight(ctx) -> bool:
    """Whether the running pass asks for the gradient of the weight, an operator's second tensor. R1 differentiates by the image alone, path
    length by the codes: what they do not ask for would be a third of their first pass. `needs_input_grad` tells only what requires grad."""
    if not ctx.needs_input_grad[1]:
        return False
    node = ctx.next_functions[1][0]
    if not hasattr(torch._C, "_will_engine_execute_node") or node.name() == "torch::autograd::AccumulateGrad":
        return True  # of a leaf the engine does not tell
    return torch._C._will_engine_execute_node(node)


def _setup(ctx, inputs, output):
    x, weight, styles, *geometry, _, _, _ = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(x, weight, styles)


def _backward(ctx, dy):
    needs_x, _, needs_styles = ctx.needs_input_grad[:3]
    return *_gradients(*ctx.saved_tensors, dy, ctx.geometry, needs_x, _needs_weight(ctx), needs_styles), *[None] * 7


def _setup_input(ctx, inputs, output):
    dy, weight, x, styles, *geometry, ctx.made_x, ctx.made_styles, _ = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(dy, weight, x, styles)
    ctx.set_materialize_grads(False)


def _input_backward(ctx, g_dx, g_ds):
    dy, weight, x, styles = ctx.saved_tensors
    needs_dy, _, needs_x, needs_styles = ctx.needs_input_grad[:4]
    needs_weight = _needs_weight(ctx)
    g_dx, g_ds = g_dx if ctx.made_x else None, g_ds if ctx.made_styles else None
    terms = [(image, scale) for image, scale, g in ((g_dx, styles, g_dx), (x, g_ds, g_ds)) if g is not None]
    if not terms:
        return (None,) * 11
    if len(terms) == 1:
        ((image, scale),) = terms
    else:
        scaled = [t if s is None else native("conv_epilogue")(t, s, None, None, None, *IDENTITY) for t, s in terms]
        image, scale = scaled[0] + scaled[1], None
    g_dy = _convolve(image, weight, scale, ctx.geometry, dy) if needs_dy else None
    g_weight = _weight_gradient(image, dy, scale, weight.shape[2:], ctx.geometry) if needs_weight else None
    needs_x, needs_styles = needs_x and g_ds is not None, needs_styles and g_dx is not None
    g_x, g_styles = _input_gradients(dy, weight, x if g_dx is None else g_dx, g_ds, ctx.geometry, needs_x, needs_styles)
    return g_dy, g_weight, g_x, g_styles, *[None] * 7


def _setup_weight(ctx, inputs, output):
    x, dy, styles, _, _, *geometry, _ = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(x, dy, styles)


def _weight_backward(ctx, g):
    x, dy, styles = ctx.saved_tensors
    needs_x, needs_dy, needs_styles = ctx.needs_input_grad[:3]
    g_x, g_styles = _input_gradients(dy, g, x, styles, ctx.geometry, needs_x, needs_styles)
    g_dy = _convolve(x, g, styles, ctx.geometry, dy) if needs_dy else None
    return g_x, g_dy, g_styles, *[None] * 7


# The layer: its own output tells all that the epilogue's derivatives need, and the blur is linear.


def _setup_layer(ctx, inputs, output):
    x, weight, _, styles, scale, noise, strength, bias, f, ctx.up, stride, ctx.padding, *ctx.activation, _ = inputs
    left, _, top, _ = ctx.padding
    ctx.geometry = (2, 0, 0, True) if ctx.up == 2 else (stride, top, left, False)
    # Without an activation only the gradient of the scale reads the output; else it may be added to in place.
    is_linear = tuple(ctx.activation[::3]) == (LINEAR, NO_CLAMP)
    ctx.save_for_backward(x, weight, styles, scale, noise, strength, bias, f, None if is_linear and scale is None else output)


def _layer_backward(ctx, dout):
    x, weight, styles, scale, noise, strength, bias, f, y = ctx.saved_tensors
    needs_x, _, _, needs_styles, *needs_small = ctx.needs_input_grad[:8]
    needs_weight = _needs_weight(ctx)
    wants = sum(w for w, need in zip((WANTS_SCALE, WANTS_NOISE, WANTS_STRENGTH, WANTS_BIAS), needs_small, strict=True) if need)
    # float16: the factor that kept the sums small on the way stands in front of the convolutions again, not behind.
    factor = 1.0
    if x.dtype == torch.float16 and scale is not None and styles is not None:
        factor = root_of_terms(x.shape[1] * weight.shape[2] * weight.shape[3])
        scale, styles = scale / factor, styles * factor
    dy, *small = native("conv_epilogue_backward")(dout, y, None, scale, noise, strength, bias, *ctx.activation, wants)
    dx = dw = ds = None
    if needs_x or needs_weight or needs_styles:
        if ctx.up == 2:
            height, width = ((x.shape[i] - 1) * 2 + weight.shape[i] for i in (2, 3))
            dy = adjoint(dy, f, (1, 1), (1, 1), ctx.padding, False, 4.0, (height, width))
        dx, dw, ds = _gradients(x, weight, styles, dy, ctx.geometry, needs_x, needs_weight, needs_styles)
    if factor != 1:
        ds = ds * factor if needs_styles else None
        small[0] = small[0] / factor
    return dx, dw, None, ds, *(s if need else None for s, need in zip(small, needs_small, strict=True)), *[None] * 9


register("modulated_conv2d", fake=_fake, setup_context=_setup, backward=_backward)
register("modulated_conv2d_input", fake=_input_fake, setup_context=_setup_input, backward=_input_backward)
register("modulated_conv2d_layer", fake=_layer_fake, setup_context=_setup_layer, backward=_layer_backward)
register("modulated_conv2d_weight", fake=_weight_fake, setup_context=_setup_weight, backward=_weight_backward)
register("modulated_conv2d_pack", fake=_pack_fake, backward=refuses_derivative("modulated_conv2d_pack"))
register("modulated_conv2d_is_fused", fake=lambda *_: False, backward=refuses_derivative("modulated_conv2d_is_fused"))
