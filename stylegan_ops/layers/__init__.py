"""Modules made of the operators: what the networks of the StyleGAN papers are built from."""

from ..ops._demodulation import LayerStyle
from .discriminator_block import DiscriminatorBlock, DiscriminatorEpilogue
from .equalized import EqualizedConv2d, EqualizedLinear
from .mapping import MappingLayers, MappingNetwork
from .minibatch_stddev import MinibatchStddev
from .modulated import SynthesisLayer, ToRGB
from .network_styles import network_styles
from .pixel_norm import PixelNorm
from .resampling import Resampling
from .synthesis_block import SynthesisBlock
from .truncation import estimate_w_avg, truncate

__all__ = [
    "DiscriminatorBlock",
    "DiscriminatorEpilogue",
    "EqualizedConv2d",
    "EqualizedLinear",
    "LayerStyle",
    "MappingLayers",
    "MappingNetwork",
    "MinibatchStddev",
    "PixelNorm",
    "Resampling",
    "SynthesisBlock",
    "SynthesisLayer",
    "ToRGB",
    "estimate_w_avg",
    "network_styles",
    "truncate",
]
