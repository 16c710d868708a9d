"""Linear and convolution layers with an equalised learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..ops import bias_act, modulated_conv2d
from ..ops.bias_act import ACTIVATIONS
from ._checks import check_choice, check_clamp, no_autocast
from .resampling import Resampling


def _gains(activation: str, he_gain: float | None) -> tuple[float, float]:
    """The gains of the weights and of the activation."""
    return (1.0, ACTIVATIONS[activation].gain) if he_gain is None else (he_gain, 1.0)


class EqualizedLinear(nn.Module):
    """Fully connected layer whose weights are stored with unit variance and scaled at run time.

    `y = act(x (w c)^T + b m)` with `c = m / sqrt(in_features)` and `m = lr_multiplier`. The stored `w ~ N(0, 1 / m^2)`, so
    the effective weights start with He's variance while Adam moves all of them at the same relative speed, m times slower.

    It computes in the dtype of its parameters, also under autocast: mappings, styles and logits are a vanishing part of the work,
    and everything behind them inherits their error.

    Args:
        in_features: length of an input vector.
        out_features: length of an output vector.
        bias: add a bias.
        bias_init: initial value of the effective bias `b m`.
        lr_multiplier: m.
        activation: name of an activation of `bias_act`.
        he_gain: where the activation's gain stands. None: behind the activation, which has its default gain (StyleGAN2). A number:
            on the weights, `c` times it, and the activation has none (ProGAN and StyleGAN: sqrt(2) before a leaky ReLU, else 1).

    Parameters:
        weight: [out_features, in_features]. bias: [out_features].

    Source: Karras et al. 2018 (arXiv:1710.10196), section 4.1; m: Karras et al. 2019 (arXiv:1812.04948), appendix C.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        bias_init: float = 0,
        lr_multiplier: float = 1,
        activation: str = "linear",
        he_gain: float | None = None,
    ) -> None:
        super().__init__()
        check_choice("EqualizedLinear", "activation", activation, tuple(ACTIVATIONS))
        self.activation = activation
        weight_gain, self.act_gain = _gains(activation, he_gain)
        self.weight_gain = weight_gain * lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], bias_init / lr_multiplier)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [N, in_features] of any floating dtype -> [N, out_features] in the dtype of the parameters."""
        with no_autocast(x.device):
            # x is smaller than the weight as a rule: scale it instead.
            y = F.linear(x.to(self.weight.dtype) * self.weight_gain, self.weight)
            b = None if self.bias is None else self.bias * self.bias_gain
            return bias_act(y, b, act=self.activation, gain=self.act_gain)

    def extra_repr(self) -> str:
        """The sizes and the activation."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, activation={self.activation}"


class EqualizedConv2d(Resampling):
    """Convolution with an equalised learning rate, optional resampling, bias and activation, in one fused call.

    `y = clamp(act(resample(x) * (w c) + b) * gain)` with `c = 1 / sqrt(in_channels * kernel_size^2)`. Upsampling filters behind
    the convolution, downsampling before it, both centred, so that H becomes `H * up / down`.

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: K, odd; an even one changes the size by a pixel.
        bias: add a bias.
        activation: name of an activation of `bias_act`.
        up: 1 or 2.
        down: 1 or 2.
        resample_filter: taps of the filter that `up` and `down` use.
        conv_clamp: clamp the output to +-conv_clamp * gain; None leaves it.
        gain: scale of the output, for branches that are summed.
        he_gain: as in `EqualizedLinear`.
        padding: rows and columns of zeros on each side; None for K // 2.

    Parameters:
        weight: [O, I, K, K]. bias: [O].

    The filter (1, 1) makes `up` the same as nearest-neighbour upsampling before the convolution, and `down` the same as 2x2 averages behind
    it, each with a quarter of that form's arithmetic (Karras et al. 2019, arXiv:1812.04948, appendix C: fused up- and downsampling).

    Source: Karras et al. 2018 (arXiv:1710.10196), section 4.1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
        conv_clamp: float | None = None,
        gain: float = 1,
        he_gain: float | None = None,
        padding: int | None = None,
    ) -> None:
        super().__init__(resample_filter)
        check_choice("EqualizedConv2d", "activation", activation, tuple(ACTIVATIONS))
        self.up = up
        self.down = down
        self.padding = kernel_size // 2 if padding is None else padding
        self.activation = activation
        weight_gain, act_gain = _gains(activation, he_gain)
        self.act_gain = act_gain * gain
        conv_clamp = check_clamp("EqualizedConv2d", conv_clamp)
        self.act_clamp = None if conv_clamp is None else conv_clamp * gain
        self.weight_gain = weight_gain / math.sqrt(in_channels * kernel_size**2)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [N, I, H, W] -> [N, O, H * up / down, W * up / down], in the autocast dtype or that of `x`, layout kept."""
        return modulated_conv2d(
            x,
            self.weight * self.weight_gain,
            None,
            up=self.up,
            down=self.down,
            padding=self.padding,
            resample_filter=self.resample_filter if self.up * self.down > 1 else None,
            bias=self.bias,
            act=self.activation,
            gain=self.act_gain,
            clamp=self.act_clamp,
        )

    def extra_repr(self) -> str:
        """The sizes, the resampling and the activation."""
        o, i, k, _ = self.weight.shape
        return f"{i}, {o}, kernel_size={k}, up={self.up}, down={self.down}, activation={self.activation}"
