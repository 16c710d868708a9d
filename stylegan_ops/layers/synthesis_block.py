"""One resolution of a StyleGAN2 synthesis network: Karras et al. 2020 (arXiv:1912.04958), section 4.1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ..ops._demodulation import LayerStyle
from .equalized import EqualizedConv2d
from .modulated import SynthesisLayer, ToRGB
from .resampling import Resampling

# The sum of a residual block's two branches would have twice the variance (section 4.1): each is scaled by sqrt(1/2).
BRANCH_GAIN = math.sqrt(0.5)


class SynthesisBlock(Resampling):
    """All layers of the synthesis network at one resolution (figure 7, above the dashed line).

    Args:
        in_channels: feature maps of the block before; 0 for the first block, which starts from the constant.
        out_channels: feature maps of this block.
        w_dim: length of w.
        resolution: height and width of the output, in pixels.
        img_channels: number of channels of the image.
        has_torgb: the block adds to the image.
        residual: the block adds a skip connection around its convolutions.
        conv_clamp: clamp the layers' outputs to +-conv_clamp; None leaves them.
        resample_filter: taps of the upsampling filter.
        norm_eps: see `SynthesisLayer`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        has_torgb: bool,
        residual: bool,
        conv_clamp: float | None,
        resample_filter: Sequence[float],
        norm_eps: float | None = None,
    ) -> None:
        super().__init__(resample_filter)
        self.has_torgb = has_torgb
        self.residual = residual and in_channels > 0
        self.num_convs = 1 if in_channels == 0 else 2
        gain = BRANCH_GAIN if self.residual else 1
        common = {"resample_filter": resample_filter, "conv_clamp": conv_clamp, "norm_eps": norm_eps}
        if in_channels == 0:
            # The constant replaces the latent input (Karras et al. 2019, section 2).
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, w_dim, resolution, up=2, **common)
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, gain=gain, **common)
        if has_torgb:
            self.torgb = ToRGB(out_channels, img_channels, w_dim, conv_clamp)
        if self.residual:
            self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False, up=2, resample_filter=resample_filter, gain=gain)

    def modulated(self) -> list[SynthesisLayer | ToRGB | None]:
        """The layers that take a code, in the order of `ws`; None where the block does not add to the image."""
        return [*([] if self.num_convs == 1 else [self.conv0]), self.conv1, self.torgb if self.has_torgb else None]

    def forward(
        self, x: torch.Tensor | None, img: torch.Tensor | None, ws: Sequence[torch.Tensor | LayerStyle | None], noise_mode: str = "random"
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the block.

        Args:
            x: [N, in_channels, resolution / 2, resolution / 2]; None for the first block.
            img: [N, img_channels, resolution / 2, resolution / 2]; None before the first image.
            ws: num_convs + 1 codes [N, w_dim], one per convolution and one for the image, or what `network_styles` made of them.
            noise_mode: see `SynthesisLayer`.

        Returns:
            x [N, out_channels, resolution, resolution], and img of that size in the dtype of the parameters or None.
        """
        if x is None:
            n = (ws[0].styles if isinstance(ws[0], LayerStyle) else ws[0]).shape[0]
            x = self.const.expand(n, -1, -1, -1).contiguous(memory_format=torch.channels_last)
            x = self.conv1(x, ws[0], noise_mode)
        else:
            shortcut = self.skip(x) if self.residual else None
            x = self.conv0(x, ws[0], noise_mode)
            x = self.conv1(x, ws[1], noise_mode)
            if shortcut is not None:
                x = shortcut + x

        # Output skips: the image is the sum of what each resolution contributes (figure 7 b), kept in full precision.
        if img is not None:
            img = self.upsample(img)
        if self.has_torgb:
            rgb = self.torgb(x, ws[-1])
            img = rgb.to(self.torgb.bias.dtype) if img is None else img + rgb
        return x, img
