"""The blocks of two convolutions that networks repeat which are grown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from ..ops import bias_act
from .blur import Blur
from .equalized import EqualizedConv2d
from .growth import halve
from .pixel_norm import PixelNorm

HE_GAIN = 2**0.5  # of a leaky ReLU, on the weights


class ConvBlock(nn.Module):
    """Two equalised convolutions, each with a leaky ReLU, and optionally pixel norm or spectral norm.

    1. Convolution, leaky ReLU (0.2), pixel norm. 2. The same again.

    Args:
        in_channels: feature maps read.
        out_channels: feature maps of the second convolution.
        hidden_channels: those of the first; None for out_channels.
        kernel_size: K of the first convolution.
        kernel_size2: K of the second; None for that of the first.
        padding: zeros on each side of what the first convolution reads; None for K // 2.
        padding2: of what the second reads; None for `padding`, and K // 2 where that is None, too.
        up: 1, or 2 to double the resolution before the first convolution (nearest neighbour, fused into it).
        down: 1, or 2 to halve it at the end by 2x2 averages.
        pixel_norm: normalise every pixel behind each activation.
        spectral_norm: divide each weight by its largest singular value (one power iteration per training step) instead of scaling it.

    Parameters:
        conv0, conv1: `EqualizedConv2d` with He's gain on the weights.

    Raises:
        ValueError: `up` or `down` is neither 1 nor 2.

    Source: Karras et al. 2018 (arXiv:1710.10196), appendix A, table 2; spectral norm: Miyato et al. 2018 (arXiv:1802.05957).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        kernel_size: int = 3,
        kernel_size2: int | None = None,
        padding: int | None = None,
        padding2: int | None = None,
        up: int = 1,
        down: int = 1,
        pixel_norm: bool = True,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("up", up), ("down", down)):
            if value not in (1, 2):
                raise ValueError(f"ConvBlock: {name} must be 1 or 2 (got {value})")
        common = {"activation": "lrelu", "he_gain": HE_GAIN}
        hidden_channels = hidden_channels or out_channels
        padding2 = padding if padding2 is None else padding2
        self.down = down
        self.conv0 = EqualizedConv2d(in_channels, hidden_channels, kernel_size, up=up, resample_filter=(1, 1), padding=padding, **common)
        self.conv1 = EqualizedConv2d(hidden_channels, out_channels, kernel_size2 or kernel_size, padding=padding2, **common)
        self.norm = PixelNorm() if pixel_norm else nn.Identity()
        for conv in (self.conv0, self.conv1) if spectral_norm else ():
            conv.weight_gain = 1.0
            with_spectral_norm(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [N, in_channels, H, W] -> [N, out_channels, H * up / down, W * up / down]."""
        x = self.norm(self.conv1(self.norm(self.conv0(x))))
        return halve(x) if self.down == 2 else x


class BlurDownBlock(nn.Module):
    """StyleGAN's block of a discriminator: convolution; blur, convolution, 2x2 averages; a leaky ReLU behind each convolution.

    Args:
        in_channels: feature maps read, and of the first convolution.
        out_channels: of the second.
        blur_filter: taps of the blur.
        is_fused: average inside the second convolution, which then has stride 2 and a quarter of the arithmetic; the same result.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 2 (blur before each downsampling) and appendix C.
    """

    def __init__(self, in_channels: int, out_channels: int, blur_filter: Sequence[float], is_fused: bool) -> None:
        super().__init__()
        self.is_fused = is_fused
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3, activation="lrelu", he_gain=HE_GAIN)
        self.blur = Blur(blur_filter)
        self.conv1 = EqualizedConv2d(
            in_channels, out_channels, 3, bias=False, down=2 if is_fused else 1, resample_filter=(1, 1), he_gain=HE_GAIN
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [N, in_channels, H, W] -> [N, out_channels, H / 2, W / 2]."""
        x = self.conv1(self.blur(self.conv0(x)))
        x = x if self.is_fused else halve(x)
        return bias_act(x, self.bias.to(x.dtype), act="lrelu", gain=1)
