"""The operators. One room per op: public function, reference, fakes and derivatives in `ops/<op>.py`."""

from ._autotune import autotune
from ._registry import cpu_variant
from .adain import adain
from .bias_act import bias_act
from .conv_epilogue import conv_epilogue
from .filtered_lrelu import filtered_lrelu
from .modulated_conv2d import modulated_conv2d
from .pixel_norm import pixel_norm
from .upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

NAMES = ("adain", "bias_act", "conv_epilogue", "filtered_lrelu", "modulated_conv2d", "pixel_norm", "upfirdn2d")

__all__ = [
    "NAMES",
    "adain",
    "autotune",
    "bias_act",
    "conv_epilogue",
    "cpu_variant",
    "downsample2d",
    "filter2d",
    "filtered_lrelu",
    "modulated_conv2d",
    "pixel_norm",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
]
