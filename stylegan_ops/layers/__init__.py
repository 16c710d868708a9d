"""Modules made of the operators: what the networks of the StyleGAN papers are built from."""

from ..ops._demodulation import LayerStyle
from .adain import AdaIN, StyleEpilogue
from .blur import Blur
from .conv_block import BlurDownBlock, ConvBlock
from .discriminator_block import DiscriminatorBlock, DiscriminatorEpilogue
from .equalized import EqualizedConv2d, EqualizedLinear
from .growth import Growing
from .mapping import MappingLayers, MappingNetwork
from .minibatch_stddev import MinibatchStddev
from .modulated import SynthesisLayer, ToRGB
from .network_styles import network_styles
from .noise import NoiseInjection
from .pixel_norm import PixelNorm
from .resampling import Resampling
from .synthesis_block import SynthesisBlock
from .truncation import estimate_w_avg, truncate

__all__ = [
    "AdaIN",
    "Blur",
    "BlurDownBlock",
    "ConvBlock",
    "DiscriminatorBlock",
    "DiscriminatorEpilogue",
    "EqualizedConv2d",
    "EqualizedLinear",
    "Growing",
    "LayerStyle",
    "MappingLayers",
    "MappingNetwork",
    "MinibatchStddev",
    "NoiseInjection",
    "PixelNorm",
    "Resampling",
    "StyleEpilogue",
    "SynthesisBlock",
    "SynthesisLayer",
    "ToRGB",
    "estimate_w_avg",
    "network_styles",
    "truncate",
]
