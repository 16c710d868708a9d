"""upfirdn2d: zero-insert up, pad or crop, FIR filter, keep every n-th pixel; and the resampling functions made of it."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .. import _impl
from ._checks import accumulate_dtype, check_bool, check_device, check_image, check_positive_int, check_real, no_autocast
from ._registry import native, register
from .bias_act import dense_format

SEPARABLE_FROM = 8  # taps from which setup_filter keeps a 1-D filter separable


# 1. The public functions


def setup_filter(
    f: torch.Tensor | Sequence | float | None,
    device: torch.device | str | None = None,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """Makes the FIR filter tensor that the resampling functions take.

    Args:
        f: taps `[K]` (separable) or `[K_h, K_w]`, a number, or None for the identity.
        device: where the tensor shall live; default where f is, the CPU for numbers.
        normalize: divide by the sum of the taps.
        flip_filter: reverse the taps along every dimension.
        gain: factor of the amplitude; a 2-D filter is scaled by `gain`, each of the two passes of a 1-D one by `sqrt(gain)`.
        separable: keep a 1-D filter 1-D; default: from 8 taps on. Otherwise it becomes its outer product with itself.

    Returns:
        float32 `[K]` or `[K_h, K_w]`.

    Raises:
        ValueError, TypeError: for an empty filter, more than 2 dimensions, taps that are not finite, or taps that sum to 0 under normalize.
    """
    check_bool("setup_filter", "normalize", normalize)
    check_bool("setup_filter", "flip_filter", flip_filter)
    try:
        device = None if device is None else torch.device(device)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"setup_filter: device must name a device of this torch (got {device!r})") from error
    try:
        f = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"setup_filter: f must be taps, a number or None (got {f!r})") from error
    gain = check_real("setup_filter", "gain", gain)
    if f.ndim > 2 or f.numel() == 0:
        raise ValueError(f"setup_filter: f must have 0, 1 or 2 dimensions and at least 1 tap (got shape {tuple(f.shape)})")
    if f.ndim == 0:
        f = f[None]
    if separable is None:
        separable = f.ndim == 1 and f.numel() >= SEPARABLE_FROM
    if separable and f.ndim == 2:
        raise ValueError(f"setup_filter: separable=True needs a filter of 1 dimension (got shape {tuple(f.shape)})")
    if f.ndim == 1 and not separable:
        f = f.outer(f)
    if normalize:
        if float(f.sum()) == 0:
            raise ValueError(f"setup_filter: normalize needs taps with a sum other than 0 (got {f.tolist()})")
        f = f / f.sum()
    if flip_filter:
        f = f.flip(list(range(f.ndim)))
    if gain < 0 and f.ndim == 1:
        raise ValueError(f"setup_filter: gain of a separable filter must be at least 0 (got {gain})")
    f = f * gain ** (f.ndim / 2)
    if not bool(torch.isfinite(f).all()):
        raise ValueError(f"setup_filter: f and gain must give finite taps (got {f.tolist()})")
    try:
        return f.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"setup_filter: device must be one that this torch can use (got '{device}': {error})") from error


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    *,
    impl: str | None = None,
) -> torch.Tensor:
    """Upsamples, pads, filters and downsamples a batch of images in one pass.

    1. Insert `up - 1` zeros after each pixel. 2. Pad with zeros, or crop where padding is negative, in pixels of the upsampled image.
    3. Convolve with f (correlate if `flip_filter`), keeping the pixels where the filter lies inside. 4. Keep every `down`-th pixel.

    Args:
        x: images `[N, C, H, W]`, floating point. Contiguous and channels_last are read as they are.
        f: filter of `setup_filter`: `[K_h, K_w]`, `[K]` (applied along both axes), or None for the identity. Takes no gradient.
        up: upsampling factor, one integer or `[x, y]`.
        down: downsampling factor, one integer or `[x, y]`.
        padding: one integer, `[x, y]` or `[left, right, top, bottom]`.
        flip_filter: False is convolution, True correlation.
        gain: factor of the result.
        impl: `auto`, `native` or `reference`; default as set by `use_impl`.

    Returns:
        `[N, C, H', W']` of x's dtype and memory format, `H' = (H * up + top + bottom - K_h) // down + 1`.

    Raises:
        ValueError, TypeError: for arguments outside these rules, and where the result would have no pixel.
        RuntimeError: with `impl="native"` where there is no kernel.

    Linear in x; differentiable to any order in x.
    Source: Karras et al. 2020 (arXiv:1912.04958), appendix B; the polyphase form: Vaidyanathan 1993, chapter 4.
    """
    f, up, down, padding, gain = check_arguments("upfirdn2d", x, f, up, down, padding, gain)
    return run("upfirdn2d", x, f, up, down, padding, flip_filter, gain, impl)


def filter2d(x, f, padding=0, flip_filter=False, gain=1, *, impl=None) -> torch.Tensor:
    """Filters images and keeps their size: `upfirdn2d` with `K // 2` pixels before and `(K - 1) // 2` after added to the padding.

    Args, returns, errors and derivatives: see `upfirdn2d`; with padding 0 the result has the size of x.
    """
    f, _, _, padding, gain = check_arguments("filter2d", x, f, 1, 1, padding, gain)
    padding = down_padding(padding, f, (1, 1))
    return run("filter2d", x, f, (1, 1), (1, 1), padding, flip_filter, gain, impl)


def upsample2d(x, f, up=2, padding=0, flip_filter=False, gain=1, *, impl=None) -> torch.Tensor:
    """Upsamples images: `upfirdn2d` with `(K + up - 1) // 2` pixels before and `(K - up) // 2` after, and gain times `up_x * up_y`.

    Args, returns, errors and derivatives: see `upfirdn2d`; with padding 0 the result is `up` times as large as x.
    """
    f, up, _, padding, gain = check_arguments("upsample2d", x, f, up, 1, padding, gain)
    padding = up_padding(padding, f, up)
    return run("upsample2d", x, f, up, (1, 1), padding, flip_filter, gain * up[0] * up[1], impl)


def downsample2d(x, f, down=2, padding=0, flip_filter=False, gain=1, *, impl=None) -> torch.Tensor:
    """Downsamples images: `upfirdn2d` with `(K - down + 1) // 2` pixels before and `(K - down) // 2` after added to the padding.

    Args, returns, errors and derivatives: see `upfirdn2d`; with padding 0 the result is x's size divided by `down`.
    """
    f, _, down, padding, gain = check_arguments("downsample2d", x, f, 1, down, padding, gain)
    padding = down_padding(padding, f, down)
    return run("downsample2d", x, f, (1, 1), down, padding, flip_filter, gain, impl)


def check_arguments(op, x, f, up, down, padding, gain):
    """Checks and completes the arguments: pairs `(x, y)`, four paddings `(left, right, top, bottom)`."""
    check_image(op, "x", x, ndim=4)
    f = check_filter(op, "f", f, x)
    return f, pair(op, "up", up), pair(op, "down", down), four_paddings(op, padding), check_real(op, "gain", gain)


def check_filter(op: str, name: str, f: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor | None:
    if f is None:
        return None
    check_image(op, name, f)
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"{op}: {name} must have shape [K] or [K_h, K_w] with at least 1 tap (got shape {tuple(f.shape)})")
    if f.requires_grad:
        raise ValueError(f"{op}: {name} must not require a gradient (got requires_grad=True)")
    check_device(op, name, f, x)
    return f if f.dtype in (torch.float32, torch.float64) else f.float()  # a network's own, cast with it


def pair(op: str, name: str, value: int | Sequence[int]) -> tuple[int, int]:
    if type(value) is not int and isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 2:
            raise ValueError(f"{op}: {name} must be one integer or [x, y] (got {value!r})")
        return check_positive_int(op, name, value[0]), check_positive_int(op, name, value[1])
    value = check_positive_int(op, name, value)
    return value, value


def four_paddings(op: str, padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    if type(padding) is int:
        return (padding,) * 4
    if type(padding) in (tuple, list) and len(padding) == 4 and {*map(type, padding)} == {int}:
        return tuple(padding)
    padding = padding.tolist() if hasattr(padding, "tolist") else padding
    values = list(padding) if isinstance(padding, Sequence) and not isinstance(padding, str) else [padding] * 2
    if any(isinstance(v, bool) or not isinstance(v, numbers.Integral) for v in values):
        raise TypeError(f"{op}: padding must consist of integers (got {padding!r})")
    if len(values) == 2:
        values = [values[0], values[0], values[1], values[1]]
    if len(values) != 4:
        raise ValueError(f"{op}: padding must be one integer, [x, y] or [left, right, top, bottom] (got {padding!r})")
    return tuple(int(v) for v in values)


def filter_size(f: torch.Tensor | None) -> tuple[int, int]:
    """Taps of a filter along x and y."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def up_padding(padding, f, up):
    (kx, ky), (ux, uy) = filter_size(f), up
    extra = ((kx + ux - 1) // 2, (kx - ux) // 2, (ky + uy - 1) // 2, (ky - uy) // 2)
    return tuple(p + e for p, e in zip(padding, extra, strict=True))


def down_padding(padding, f, down):
    (kx, ky), (dx, dy) = filter_size(f), down
    extra = ((kx - dx + 1) // 2, (kx - dx) // 2, (ky - dy + 1) // 2, (ky - dy) // 2)
    return tuple(p + e for p, e in zip(padding, extra, strict=True))


def output_size(op, x, f, up, down, padding) -> tuple[int, int]:
    """Height and width of the result; an error where it would have no pixel."""
    return filtered_size(op, "f", f, "padded image", padded_size(op, x, up, padding), down)


def filtered_size(op, name, f, image, size, down) -> tuple[int, int]:
    (kx, ky), (height, width) = filter_size(f), size
    if height < ky or width < kx:
        raise ValueError(f"{op}: {name} must fit into the {image} of {height} x {width} pixels (got {ky} x {kx} taps)")
    return (height - ky) // down[1] + 1, (width - kx) // down[0] + 1


def padded_size(op, x, up, padding) -> tuple[int, int]:
    """Height and width of the upsampled and padded image; an error where it has no pixel or too many."""
    left, right, top, bottom = padding
    h, w = x.shape[2:]
    if h == 0 or w == 0:
        raise ValueError(f"{op}: x must have at least 1 pixel (got shape {tuple(x.shape)})")
    h, w = h * up[1], w * up[0]
    height, width = h + top + bottom, w + left + right
    check_sides(op, height, width, h, w)
    if height < 1 or width < 1:
        raise ValueError(f"{op}: padding {padding} crops the whole image (height {h}, width {w})")
    return height, width


def check_sides(op: str, *sides: int) -> None:
    if max(sides) >= 2**31:
        raise ValueError(f"{op}: the upsampled and padded image must have fewer than 2^31 pixels a side (got {max(sides)})")


def run(op, x, f, up, down, padding, flip_filter, gain, impl):
    """Runs a checked call on the implementation chosen."""
    flip_filter = check_bool(op, "flip_filter", flip_filter)
    output_size(op, x, f, up, down, padding)
    if down != (1, 1):  # a longer step than the padded image has no effect
        height, width = padded_size(op, x, up, padding)
        down = (min(down[0], width), min(down[1], height))
    if _impl.is_native(op, impl, x):
        if f is None:
            f = torch.ones([1, 1], dtype=torch.float32, device=x.device)
        return native("upfirdn2d")(x, f, up, down, padding, flip_filter, gain)
    return upfirdn2d_reference(x, f, up, down, padding, flip_filter, gain)


# 2. The reference: each step as the definition has it


def upfirdn2d_reference(x, f, up, down, padding, flip_filter, gain) -> torch.Tensor:
    n, c, h, w = x.shape
    dtype = accumulate_dtype(x.dtype)
    y = x.to(dtype)
    y = F.pad(y.reshape(n, c, h, 1, w, 1), [0, up[0] - 1, 0, 0, 0, up[1] - 1]).reshape(n, c, h * up[1], w * up[0])
    y = F.pad(y, [max(p, 0) for p in padding])  # before anything is cropped: a side may crop more than the image has
    left, right, top, bottom = (max(-p, 0) for p in padding)
    y = y[..., top : y.shape[2] - bottom, left : y.shape[3] - right]
    f = torch.ones([1, 1], dtype=dtype, device=x.device) if f is None else f.to(dtype)
    kernel = f.outer(f) if f.ndim == 1 else f
    if not flip_filter:
        kernel = kernel.flip([0, 1])
    with no_autocast(x.device):
        y = F.conv2d(y.flatten(0, 1)[:, None], (kernel * gain)[None, None], stride=(down[1], down[0]))
    y = y.reshape(n, c, *y.shape[2:])
    return y.to(x.dtype).contiguous(memory_format=dense_format(x))


# 3. Fake


def _fake(x, f, up, down, padding, flip_filter, gain):
    size = output_size("upfirdn2d", x, f, up, down, padding)
    return x.new_empty([*x.shape[:2], *size]).to(memory_format=dense_format(x))


# 4. Derivative: the adjoint is an upfirdn2d with up and down swapped, the filter flipped and the padding that restores x's size.


def adjoint(dy, f, up, down, padding, flip_filter, gain, size):
    """The gradient in an image of `size` (height, width), from that in its result."""
    (kx, ky), (in_h, in_w), (out_h, out_w) = filter_size(f), size, dy.shape[2:]
    (ux, uy), (dx, dy_), (left, _, top, _) = up, down, padding
    before_x, before_y = kx - left - 1, ky - top - 1
    after_x = in_w * ux - out_w * dx + left - ux + 1
    after_y = in_h * uy - out_h * dy_ + top - uy + 1
    return native("upfirdn2d")(dy, f, down, up, (before_x, after_x, before_y, after_y), not flip_filter, gain)


def _setup(ctx, inputs, output):
    x, f, *ctx.arguments = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(f)


def _backward(ctx, dy):
    return adjoint(dy, *ctx.saved_tensors, *ctx.arguments, ctx.size), *[None] * 6


register("upfirdn2d", fake=_fake, setup_context=_setup, backward=_backward)
