"""Measures of a trained generator. Each carries the name of its network, since figures over different networks do not compare."""

from .kid import kid, kid_vgg16, polynomial_mmd2
from .lpips import LPIPS
from .ppl import PathLength, perceptual_path_length
from .vgg16 import VGG16, VGG16Weights, load_vgg16

__all__ = [
    "LPIPS",
    "VGG16",
    "PathLength",
    "VGG16Weights",
    "kid",
    "kid_vgg16",
    "load_vgg16",
    "perceptual_path_length",
    "polynomial_mmd2",
]
