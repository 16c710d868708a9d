"""The two layers of a StyleGAN2 synthesis network: both are convolutions that a style modulates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ..ops import modulated_conv2d
from ..ops._demodulation import LayerStyle
from ..ops.bias_act import ACTIVATIONS
from ._checks import check_choice, check_clamp
from .equalized import EqualizedLinear
from .resampling import Resampling

NOISE_MODES = ("random", "const", "none")
DEMODULATION_EPS = 1e-8


class SynthesisLayer(Resampling):
    """Style-modulated convolution, noise, bias, leaky ReLU.

    1. `s = A(w)`: one style per input channel, an affine map of w whose bias starts at 1.
    2. `w'_ijk = s_i w_ijk` (equation 1), `w''_ijk = w'_ijk / sqrt(sum_ik(w'_ijk^2) + eps)` (equation 3).
    3. `y = w'' * x`, upsampled through the filter if `up` is 2.
    4. `clamp(lrelu(y + noise_strength * noise + b) * sqrt(2) * gain)`.

    Demodulation cancels any scale of the weights, so there is no run-time weight gain.

    Args:
        in_channels: I.
        out_channels: O.
        w_dim: length of w.
        resolution: height and width of the output, in pixels.
        kernel_size: K, odd.
        up: 1 or 2.
        resample_filter: taps of the filter that `up` uses.
        conv_clamp: clamp the output to +-conv_clamp * gain; None leaves it.
        gain: scale of the output, for branches that are summed.
        norm_eps: None, for an eps of 1e-8 in step 2; or a number, the eps for weights scaled by `1 / sqrt(I K^2)`, as some networks scale
            them before they demodulate: `eps = norm_eps I K^2` here.

    Parameters:
        weight: [O, I, K, K]. bias: [O]. noise_strength: scalar, starts at 0. affine: EqualizedLinear(w_dim, I).

    Buffers:
        noise_const: [resolution, resolution], the noise of `noise_mode="const"`. resample_filter: [taps, taps].

    Source: Karras et al. 2020 (arXiv:1912.04958), sections 2.1 and 2.2, figure 2 (d).
    """

    noise_const: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        gain: float = 1,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__(resample_filter)
        self.resolution = resolution
        self.eps = DEMODULATION_EPS if norm_eps is None else norm_eps * in_channels * kernel_size**2
        self.up = up
        self.padding = kernel_size // 2
        self.act_gain = ACTIVATIONS["lrelu"].gain * gain
        conv_clamp = check_clamp("SynthesisLayer", conv_clamp)
        self.act_clamp = None if conv_clamp is None else conv_clamp * gain
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def styles(self, w: torch.Tensor | LayerStyle) -> torch.Tensor | LayerStyle:
        """`A(w)`."""
        return w if isinstance(w, LayerStyle) else self.affine(w)

    def noise_shape(self) -> tuple[int, int, int]:
        """That of one sample's noise."""
        return 1, self.resolution, self.resolution

    def forward(self, x: torch.Tensor, w: torch.Tensor | LayerStyle, noise_mode: str = "random") -> torch.Tensor:
        """Run the layer.

        Args:
            x: [N, I, H, W].
            w: [N, w_dim], or in inference what `network_styles` made of it.
            noise_mode: "random" draws new noise, "const" takes the layer's own, "none" adds none.

        Returns:
            [N, O, resolution, resolution], in the autocast dtype or that of `x`, layout kept.

        Raises:
            ValueError: `noise_mode` is none of the three.
        """
        check_choice("SynthesisLayer", "noise_mode", noise_mode, NOISE_MODES)
        noise = None
        if noise_mode == "random":
            # One picture of noise per sample, shared by all channels.
            like = self.noise_const
            is_drawn = isinstance(w, LayerStyle)
            noise = w.noise if is_drawn else torch.randn(x.shape[0], *self.noise_shape(), device=like.device, dtype=like.dtype)
        elif noise_mode == "const":
            noise = self.noise_const
        return modulated_conv2d(
            x,
            self.weight,
            self.styles(w),
            noise=noise,
            noise_strength=None if noise is None else self.noise_strength,
            eps=self.eps,
            up=self.up,
            padding=self.padding,
            resample_filter=self.resample_filter if self.up > 1 else None,
            flip_weight=self.up == 1,
            bias=self.bias,
            act="lrelu",
            gain=self.act_gain,
            clamp=self.act_clamp,
        )

    def extra_repr(self) -> str:
        """The sizes and the resampling."""
        o, i, k, _ = self.weight.shape
        return f"{i}, {o}, kernel_size={k}, resolution={self.resolution}, up={self.up}"


class ToRGB(nn.Module):
    """Style-modulated 1x1 convolution from features to an image, without demodulation.

    `y = clamp(w' * x + b)` with `w'_ij = s_i w_ij / sqrt(I)`: without demodulation the equalised learning rate's gain matters; it
    is put on the styles.

    Args:
        in_channels: I.
        img_channels: number of channels of the image.
        w_dim: length of w.
        conv_clamp: clamp the output to +-conv_clamp; None leaves it.

    Parameters:
        weight: [img_channels, I, 1, 1]. bias: [img_channels]. affine: EqualizedLinear(w_dim, I).

    Source: Karras et al. 2020 (arXiv:1912.04958), section 4.1, figure 7 (tRGB).
    """

    def __init__(self, in_channels: int, img_channels: int, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = check_clamp("ToRGB", conv_clamp)
        self.weight_gain = 1 / math.sqrt(in_channels)
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))

    def styles(self, w: torch.Tensor | LayerStyle) -> torch.Tensor | LayerStyle:
        """`A(w) / sqrt(I)`."""
        return w if isinstance(w, LayerStyle) else self.affine(w) * self.weight_gain

    def forward(self, x: torch.Tensor, w: torch.Tensor | LayerStyle) -> torch.Tensor:
        """`x` [N, I, H, W], `w` as in `SynthesisLayer` -> [N, img_channels, H, W], in the autocast dtype or that of `x`, layout kept."""
        return modulated_conv2d(x, self.weight, self.styles(w), demodulate=False, bias=self.bias, clamp=self.conv_clamp)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"
