"""One resolution of a StyleGAN2 discriminator, and its last layers: Karras et al. 2020 (arXiv:1912.04958), section 4.1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .equalized import EqualizedConv2d, EqualizedLinear
from .minibatch_stddev import MinibatchStddev
from .resampling import Resampling

# The sum of a residual block's two branches would have twice the variance (section 4.1): each is scaled by sqrt(1/2).
BRANCH_GAIN = math.sqrt(0.5)


class DiscriminatorBlock(Resampling):
    """All layers of the discriminator at one resolution (figure 7, below the dashed line).

    Args:
        in_channels: feature maps of this block's resolution.
        out_channels: feature maps of the next one's.
        img_channels: number of channels of the image.
        has_fromrgb: the block reads the image.
        architecture: "orig", "skip", "resnet" or "msg".
        conv_clamp: clamp the layers' outputs to +-conv_clamp; None leaves them.
        resample_filter: taps of the downsampling filter.
        extra_channels: of an image that comes beside the features (MSG-GAN).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_channels: int,
        has_fromrgb: bool,
        architecture: str,
        conv_clamp: float | None,
        resample_filter: Sequence[float],
        extra_channels: int = 0,
    ) -> None:
        super().__init__(resample_filter)
        self.architecture = architecture
        self.has_fromrgb = has_fromrgb
        gain = BRANCH_GAIN if architecture == "resnet" else 1
        common = {"activation": "lrelu", "resample_filter": resample_filter, "conv_clamp": conv_clamp}
        if has_fromrgb:
            self.fromrgb = EqualizedConv2d(img_channels, in_channels, 1, **common)
        self.conv0 = EqualizedConv2d(in_channels + extra_channels, in_channels, 3, **common)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, down=2, gain=gain, **common)
        if architecture == "resnet":
            self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False, down=2, resample_filter=resample_filter, gain=gain)

    def forward(self, x: torch.Tensor | None, img: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`x` [N, in_channels + extra_channels, H, W] or None for the first block, and `img` -> x [N, out_channels, H / 2, W / 2] and the
        next `img`."""
        if self.has_fromrgb:
            y = self.fromrgb(img)
            x = y if x is None else x + y
        if self.architecture == "skip":
            # Input skips: every resolution sees the image, downsampled (figure 7 b).
            img = self.downsample(img)
        shortcut = self.skip(x) if self.architecture == "resnet" else None
        x = self.conv1(self.conv0(x))
        return x if shortcut is None else shortcut + x, img


class DiscriminatorEpilogue(nn.Module):
    """The discriminator's layers at 4x4: minibatch standard deviation, one convolution, two fully connected layers.

    Args:
        in_channels: feature maps.
        out_features: length of the result.
        img_channels: number of channels of the image.
        has_fromrgb: the image is read here, too.
        mbstd_group_size: see `MinibatchStddev`.
        mbstd_num_channels: see `MinibatchStddev`.
        conv_clamp: clamp the convolutions' outputs to +-conv_clamp; None leaves them.
        resample_filter: kept beside the convolutions' weights, as in published checkpoints; nothing is resampled here.
        extra_channels: of an image that comes beside the features (MSG-GAN).
        he_gain: None, or the gain on the weights in front of a leaky ReLU: see `EqualizedLinear`.
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        img_channels: int,
        has_fromrgb: bool,
        mbstd_group_size: int,
        mbstd_num_channels: int,
        conv_clamp: float | None,
        resample_filter: Sequence[float],
        extra_channels: int = 0,
        he_gain: float | None = None,
    ) -> None:
        super().__init__()
        self.has_fromrgb = has_fromrgb
        common = {"activation": "lrelu", "resample_filter": resample_filter, "conv_clamp": conv_clamp, "he_gain": he_gain}
        if has_fromrgb:
            self.fromrgb = EqualizedConv2d(img_channels, in_channels, 1, **common)
        self.mbstd = MinibatchStddev(mbstd_group_size, mbstd_num_channels)
        self.conv = EqualizedConv2d(in_channels + extra_channels + mbstd_num_channels, in_channels, 3, **common)
        self.fc = EqualizedLinear(in_channels * 4 * 4, in_channels, activation="lrelu", he_gain=he_gain)
        self.out = EqualizedLinear(in_channels, out_features)

    def forward(self, x: torch.Tensor | None, img: torch.Tensor) -> torch.Tensor:
        """`x` [N, in_channels + extra_channels, 4, 4] or None, and `img` -> [N, out_features] in the dtype of the parameters."""
        if self.has_fromrgb:
            y = self.fromrgb(img)
            x = y if x is None else x + y
        x = self.conv(self.mbstd(x))
        return self.out(self.fc(x.flatten(1)))
