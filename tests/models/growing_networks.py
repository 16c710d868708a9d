"""Tiny networks of the families that grow."""

import torch

from stylegan_ops.models import progan, stylegan

SIZES = {"channel_base": 64, "channel_max": 16}
GROWING = {"progan": progan, "stylegan": stylegan}


def make_growing(family, img_resolution=8, img_channels=3, *, c_dim=0, alpha=0.25, **sizes):
    """G and D in the middle of a fade, no parameter with a special value."""
    torch.manual_seed(0)
    common = {"c_dim": c_dim, **SIZES, **sizes}
    of_g = {"z_dim": 5} if family == "progan" else {"z_dim": 5, "w_dim": 5, "num_layers": 2}
    g = GROWING[family].Generator(img_resolution, img_channels, **of_g, **common)
    d = GROWING[family].Discriminator(img_resolution, img_channels, **common)
    with torch.no_grad():
        for name, parameter in [*g.named_parameters(), *d.named_parameters()]:
            if name.endswith(("bias", "strength", "const")) and "affine" not in name:
                parameter.normal_(std=0.3)
    if img_resolution > 4:
        g.synthesis.grow_to(img_resolution, alpha)
        d.grow_to(img_resolution, alpha)
    return g, d
