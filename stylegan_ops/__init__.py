"""Fused, any-order differentiable operators of the StyleGAN family for PyTorch, and the models on top of them."""

from ._impl import explain, use_impl
from ._library import build_info
from ._memory import keep_freed_memory
from .ops import (
    adain,
    autotune,
    bias_act,
    conv_epilogue,
    downsample2d,
    filter2d,
    filtered_lrelu,
    modulated_conv2d,
    pixel_norm,
    setup_filter,
    upfirdn2d,
    upsample2d,
)

__version__ = "0.1.0"

__all__ = [
    "adain",
    "autotune",
    "bias_act",
    "build_info",
    "conv_epilogue",
    "downsample2d",
    "explain",
    "filter2d",
    "filtered_lrelu",
    "keep_freed_memory",
    "modulated_conv2d",
    "pixel_norm",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
    "use_impl",
]
