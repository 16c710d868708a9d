"""Tiny networks for the tests of the models."""

import pytest
import torch
from growing_networks import GROWING, SIZES, make_growing

from stylegan_ops.models.stylegan2 import ARCHITECTURES, Discriminator, Generator

FAMILIES = [*GROWING, *(f"stylegan2-{architecture}" for architecture in ARCHITECTURES)]


@pytest.fixture
def make_networks():
    """Returns a function `(img_resolution, img_channels, c_dim, architecture, **sizes) -> G, D`, its noise and biases not zero."""

    def make(img_resolution=8, img_channels=3, *, c_dim=0, architecture="skip", d_architecture=None, conv_clamp=None, **sizes):
        torch.manual_seed(0)
        common = {"c_dim": c_dim, "conv_clamp": conv_clamp, **SIZES, **sizes}
        g = Generator(img_resolution, img_channels, z_dim=6, w_dim=5, num_layers=2, architecture=architecture, **common)
        d = Discriminator(img_resolution, img_channels, architecture=d_architecture or architecture, **common)
        with torch.no_grad():
            for name, parameter in [*g.named_parameters(), *d.named_parameters()]:
                if name.endswith(("noise_strength", "bias")) and "affine" not in name:
                    parameter.normal_(std=0.1)
        return g, d

    return make


@pytest.fixture(params=FAMILIES)
def make_family(request, make_networks):
    """Returns a function `(img_resolution, img_channels, c_dim, **sizes) -> G, D` of one family; no parameter has a special value, and the
    networks that grow are in the middle of a fade. Only StyleGAN2's can clamp."""

    def make(img_resolution=8, img_channels=3, *, c_dim=0, conv_clamp=None, **sizes):
        family, _, architecture = request.param.partition("-")
        if family == "stylegan2":
            more = {"architecture": architecture, "conv_clamp": conv_clamp}
            return make_networks(img_resolution, img_channels, c_dim=c_dim, **more, **sizes)
        return make_growing(family, img_resolution, img_channels, c_dim=c_dim, **sizes)

    return make
