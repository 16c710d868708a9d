"""Adaptive instance normalisation, and StyleGAN's layer epilogue, which ends in it."""

from __future__ import annotations

import torch
from torch import nn

from ..ops import adain, bias_act
from .equalized import EqualizedLinear
from .noise import NoiseInjection
from .pixel_norm import PixelNorm


class AdaIN(nn.Module):
    """Give every feature map the mean and deviation that a style asks for.

    `y_c = y_{s,c} (x_c - mean(x_c)) / sqrt(var(x_c) + eps) + y_{b,c}` with the style `(y_s - 1, y_b) = A(w)`, A affine.

    Args:
        channels: C.
        w_dim: length of w.
        instance_norm: normalise first; False leaves the scale and the shift.
        eps: added to the variance.

    Parameters:
        affine: EqualizedLinear(w_dim, 2 C), the scales' half first.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 2, equation 1; Huang and Belongie 2017 (arXiv:1703.06868).
    """

    def __init__(self, channels: int, w_dim: int, instance_norm: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        self.instance_norm = instance_norm
        self.eps = eps
        self.affine = EqualizedLinear(w_dim, 2 * channels)

    def styles(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`w` [N, w_dim] -> scale and shift, [N, C] each."""
        scale, shift = self.affine(w).chunk(2, dim=1)
        return scale + 1, shift

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """`x` [N, C, H, W], `w` [N, w_dim] -> the shape, dtype and layout of `x`."""
        scale, shift = self.styles(w)
        if self.instance_norm:
            return adain(x, scale, shift, eps=self.eps)
        return (x * scale[:, :, None, None] + shift[:, :, None, None]).to(x.dtype)


class StyleEpilogue(nn.Module):
    """Everything behind a convolution of StyleGAN's synthesis network: one fused call in the default form.

    1. Noise, see `NoiseInjection`. 2. Bias. 3. Activation, without gain. 4. Pixel norm. 5. Instance norm and style, see `AdaIN`.

    Args:
        channels: C.
        w_dim: length of w.
        resolution: height and width, pixels.
        noise: add noise.
        activation: "lrelu" or "relu".
        pixel_norm: normalise every pixel behind the activation.
        instance_norm: normalise every feature map behind that.
        styles: scale and shift every feature map by w.
        eps: of the instance norm: 1e-8 in the paper's networks, 1e-5 in PyTorch's `InstanceNorm2d`.

    Parameters:
        bias: [C]. noise.strength: [C]. adain.affine: see `AdaIN`.

    Source: Karras et al. 2019 (arXiv:1812.04948), figure 1b.
    """

    def __init__(
        self,
        channels: int,
        w_dim: int,
        resolution: int,
        noise: bool = True,
        activation: str = "lrelu",
        pixel_norm: bool = False,
        instance_norm: bool = True,
        styles: bool = True,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.instance_norm = instance_norm
        self.eps = eps
        self.bias = nn.Parameter(torch.zeros(channels))
        self.noise = NoiseInjection(channels, resolution) if noise else None
        self.pixel_norm = PixelNorm() if pixel_norm else None
        self.adain = AdaIN(channels, w_dim, instance_norm, eps) if styles else None

    def forward(self, x: torch.Tensor, w: torch.Tensor, noise_mode: str = "random") -> torch.Tensor:
        """`x` [N, C, resolution, resolution], `w` [N, w_dim], `noise_mode` as in `NoiseInjection` -> the shape, dtype and layout of `x`."""
        if self.instance_norm and self.pixel_norm is None:
            noise = None if self.noise is None else self.noise.draw(x.shape[0], noise_mode)
            strength = None if noise is None else self.noise.strength
            scale, shift = (None, None) if self.adain is None else self.adain.styles(w)
            return adain(x, scale, shift, noise, strength, self.bias, act=self.activation, eps=self.eps)
        if self.noise is not None:
            x = self.noise(x, noise_mode)
        x = bias_act(x, self.bias.to(x.dtype), act=self.activation, gain=1)
        if self.pixel_norm is not None:
            x = self.pixel_norm(x)
        if self.adain is not None:
            return self.adain(x, w)
        return adain(x, eps=self.eps) if self.instance_norm else x
