"""The established form of StyleGAN2 in plain PyTorch: what the native ops and networks are compared with.

Weights are modulated and demodulated per sample and the batch is folded into the groups of a grouped convolution (a transposed one in
the upsampling layers); FIR filters are depthwise convolutions; noise, bias, activation and gain are one pass over memory each. The
generator has architecture "skip", the discriminator "resnet"; no labels, no clamp. It shares no code with the ops.

Both networks compute from a dict of tensors named as in the state_dict of stylegan_ops's networks, so that outputs and gradients can be
compared before anything is timed. Where the tensors require gradients, autograd differentiates them to any order.

Which of the ways below is fastest differs from machine to machine, so the benchmarks try them and race the fastest. Seconds at 128 px,
channel_base 16384, batch 4, one core of a Xeon at 2.5 GHz:

| | grouped contiguous | grouped channels_last | one by one contiguous | one by one channels_last |
|---|---|---|---|---|
| generator, forward | 1.45 | 1.87 | 1.35 | 1.23 |
| generator, forward and backward | 5.3 | 6.3 | 4.7 | 5.1 |

The discriminator takes 0.88 contiguous and 0.78 in channels_last. A generator that goes to channels_last for the transposed convolutions
and filters alone, up to twice as fast there, loses the gain to the conversions. Bias,
activation and gain in place, which autograd does not allow, would take 4 to 6 % off the forward passes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .cases import LAYOUTS

SQRT2 = math.sqrt(2)

# Activations and their default gains.
ACTIVATIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
    "linear": (lambda x: x, 1),
    "relu": (F.relu, SQRT2),
    "lrelu": (lambda x: F.leaky_relu(x, 0.2), SQRT2),
    "tanh": (torch.tanh, 1),
    "sigmoid": (torch.sigmoid, 1),
    "elu": (F.elu, 1),
    "selu": (F.selu, 1),
    "softplus": (F.softplus, 1),
    "swish": (F.silu, SQRT2),
}


def bias_act(x: torch.Tensor, b: torch.Tensor, act: str = "lrelu", gain: float = 1) -> torch.Tensor:
    """One pass each: bias, activation, gain."""
    function, default = ACTIVATIONS[act]
    y = function(x + b.to(x.dtype)[:, None, None])
    return y if default * gain == 1 else y * (default * gain)


def conv_epilogue(y: torch.Tensor, scale: torch.Tensor, noise: torch.Tensor, strength: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """One pass more for the demodulation and one for the noise."""
    y = y * scale.to(y.dtype)[:, :, None, None]
    return bias_act(y + (noise * strength).to(y.dtype), bias)


def adain(
    x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, noise: torch.Tensor, strength: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """One pass each for noise, bias and activation, PyTorch's instance norm, and one pass each for scale and shift."""
    u = F.leaky_relu(x + (noise * strength[:, None, None]).to(x.dtype) + bias.to(x.dtype)[:, None, None], 0.2)
    y = F.instance_norm(u, eps=1e-8)
    return y * scale.to(x.dtype)[:, :, None, None] + shift.to(x.dtype)[:, :, None, None]


def pixel_norm(x: torch.Tensor) -> torch.Tensor:
    """Normalises every pixel to unit mean square over its channels."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def fir(x: torch.Tensor, taps: torch.Tensor, padding: int, stride: int = 1, gain: float = 1) -> torch.Tensor:
    """A symmetric filter as a depthwise convolution."""
    kernel = (taps * gain).to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def upsample(image: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Zero-insertion and filter as a depthwise transposed convolution."""
    kernel = (taps * 4).to(image.dtype).expand(image.shape[1], 1, -1, -1)
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=image.shape[1])


def filtered_lrelu(x: torch.Tensor, b: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Up 2 and down 2 by a separable filter [12] along one axis after the other, as depthwise convolutions; the fine image in memory."""
    c, k = x.shape[1], len(taps)
    z = x + b.to(x.dtype)[:, None, None]
    for axis in ((1, 1, k, 1), (1, 1, 1, k)):
        along = tuple(1 + (n > 1) for n in axis[2:])
        kernel = (taps * 2).to(x.dtype).reshape(axis).expand(c, -1, -1, -1)
        z = F.conv_transpose2d(z, kernel, stride=along, groups=c)
    z = F.leaky_relu(z, 0.2) * SQRT2
    for axis in ((1, 1, k, 1), (1, 1, 1, k)):
        along = tuple(1 + (n > 1) for n in axis[2:])
        z = F.conv2d(z, taps.to(x.dtype).reshape(axis).expand(c, -1, -1, -1), stride=along, groups=c)
    return z


def modulated_weights(weight: torch.Tensor, styles: torch.Tensor, demodulate: bool = True) -> torch.Tensor:
    """One set of weights per sample, [N, O, I, K, K] (Karras et al. 2020, arXiv:1912.04958, equations 1 and 3)."""
    w = weight * styles[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum([2, 3, 4]) + 1e-8).rsqrt()[:, :, None, None, None]
    return w


def modulated_conv2d(x: torch.Tensor, weights: torch.Tensor, up_taps: torch.Tensor | None = None, grouped: bool = True) -> torch.Tensor:
    """Each sample with its own weights [N, O, I, K, K], in x's layout: [1, N I, H, W] and N groups, or one convolution after the other."""
    n, o, i, k, _ = weights.shape
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    if up_taps is None:
        convolve, weights = functools.partial(F.conv2d, padding=k // 2), weights.to(x.dtype)
    else:
        convolve, weights = functools.partial(F.conv_transpose2d, stride=2), weights.to(x.dtype).transpose(1, 2)
    if grouped:
        x = x.reshape(1, n * i, *x.shape[2:]).contiguous(memory_format=memory_format)
        y = convolve(x, weights.flatten(0, 1), groups=n)
    else:
        y = torch.cat([convolve(x[j : j + 1], weights[j].contiguous(memory_format=memory_format)) for j in range(n)])
    if up_taps is not None:
        y = fir(y, up_taps, padding=1, gain=4)
    return y.reshape(n, o, *y.shape[2:]).contiguous(memory_format=memory_format)


def fully_connected(p: dict, x: torch.Tensor, lr_multiplier: float = 1, lrelu: bool = False) -> torch.Tensor:
    y = F.linear(x, p["weight"] * (lr_multiplier / math.sqrt(x.shape[1])), p["bias"] * lr_multiplier)
    return F.leaky_relu(y, 0.2) * SQRT2 if lrelu else y


def tree(state: dict[str, torch.Tensor]) -> dict:
    """`{"a.b.c": t}` as `{"a": {"b": {"c": t}}}`."""
    root: dict = {}
    for name, value in state.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return root


def resolutions(blocks: dict) -> list[int]:
    return sorted(int(name[1:]) for name in blocks)


class Generator:
    """The generator; `memory_format` is that of its feature maps."""

    WAYS = {
        f"{'grouped' if grouped else 'one by one'} {layout}": {"memory_format": memory_format, "grouped": grouped}
        for grouped, (layout, memory_format) in itertools.product((True, False), LAYOUTS.items())
    }

    def __init__(
        self, state: dict[str, torch.Tensor], memory_format: torch.memory_format = torch.contiguous_format, grouped: bool = True
    ) -> None:
        self.memory_format, self.grouped = memory_format, grouped
        root = tree(state)
        self.fc = [root["mapping"][f"fc{i}"] for i in range(sum(name.startswith("fc") for name in root["mapping"]))]
        self.blocks = {r: root["synthesis"][f"b{r}"] for r in resolutions(root["synthesis"])}

    def __call__(self, z: torch.Tensor, noise_mode: str = "random") -> torch.Tensor:
        return self.synthesis(self.mapping(z), noise_mode)

    def mapping(self, z: torch.Tensor) -> torch.Tensor:
        """z [N, z_dim] -> ws [N, 2 * blocks, w_dim]."""
        w = pixel_norm(z)
        for p in self.fc:
            w = fully_connected(p, w, 0.01, lrelu=True)
        return w[:, None].repeat(1, 2 * len(self.blocks), 1)

    def synthesis(self, ws: torch.Tensor, noise_mode: str = "random") -> torch.Tensor:
        """ws -> [N, img_channels, R, R]; `noise_mode` is "random", "const" or "none"."""
        codes = iter(ws.unbind(1))
        x = image = None
        w = next(codes)
        for p in self.blocks.values():
            if x is None:
                x = p["const"].expand(len(ws), -1, -1, -1).contiguous(memory_format=self.memory_format)
            else:  # a block's first convolution has the code of the image before it
                x = self.layer(p["conv0"], x, w, noise_mode, up=True)
                image = upsample(image, p["resample_filter"])
                w = next(codes)
            x = self.layer(p["conv1"], x, w, noise_mode)
            w = next(codes)
            rgb = self.to_rgb(p["torgb"], x, w)
            image = rgb if image is None else image + rgb
        return image

    def layer(self, p: dict, x: torch.Tensor, w: torch.Tensor, noise_mode: str, up: bool = False) -> torch.Tensor:
        weights = modulated_weights(p["weight"], fully_connected(p["affine"], w))
        y = modulated_conv2d(x, weights, p["resample_filter"] if up else None, self.grouped)
        if noise_mode != "none":
            noise = p["noise_const"]
            if noise_mode == "random":
                noise = torch.randn(len(x), 1, *y.shape[2:], device=noise.device, dtype=noise.dtype)
            y = y + (noise * p["noise_strength"]).to(y.dtype)
        return bias_act(y, p["bias"])

    def to_rgb(self, p: dict, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        styles = fully_connected(p["affine"], w) / math.sqrt(x.shape[1])
        y = modulated_conv2d(x, modulated_weights(p["weight"], styles, demodulate=False), grouped=self.grouped)
        return bias_act(y, p["bias"], "linear")


class Discriminator:
    """The discriminator; `memory_format` is that of its feature maps."""

    WAYS = {layout: {"memory_format": memory_format} for layout, memory_format in LAYOUTS.items()}

    def __init__(self, state: dict[str, torch.Tensor], memory_format: torch.memory_format = torch.channels_last) -> None:
        self.memory_format = memory_format
        root = tree(state)
        *self.blocks, self.last = [root[f"b{r}"] for r in reversed(resolutions(root))]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """image -> logits [N, 1]."""
        x = image.contiguous(memory_format=self.memory_format)
        p = self.blocks[0]["fromrgb"]
        x = bias_act(self.convolution(p, x), p["bias"])
        for p in self.blocks:
            taps = p["resample_filter"]
            shortcut = self.convolution(p["skip"], fir(x, taps, padding=1, stride=2)) * math.sqrt(0.5)
            x = bias_act(self.convolution(p["conv0"], x), p["conv0"]["bias"])
            x = self.convolution(p["conv1"], fir(x, taps, padding=2), stride=2)
            x = shortcut + bias_act(x, p["conv1"]["bias"], gain=math.sqrt(0.5))
        p = self.last
        x = bias_act(self.convolution(p["conv"], self.minibatch_stddev(x)), p["conv"]["bias"])
        x = fully_connected(p["fc"], x.flatten(1), lrelu=True)
        return fully_connected(p["out"], x)

    def convolution(self, p: dict, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        w = p["weight"] * (1 / math.sqrt(p["weight"][0].numel()))
        return F.conv2d(x, w, stride=stride, padding=w.shape[2] // 2 if stride == 1 else 0)

    def minibatch_stddev(self, x: torch.Tensor, group: int = 4) -> torch.Tensor:
        """Appends the standard deviation over groups of 4 at most, averaged over channels and space."""
        n, c, h, w = x.shape
        group = next(g for g in range(group, 0, -1) if n % g == 0)
        y = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(group, n // group, c, h, w)
        y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean([1, 2, 3]).to(x.dtype)
        return torch.cat([x, y.repeat(group)[:, None, None, None].expand(n, 1, h, w)], dim=1)
