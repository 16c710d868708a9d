"""The established form of StyleGAN2 in plain PyTorch: what the native networks are compared with. It shares no code with stylegan_ops.

Weights are modulated and demodulated per sample and the batch is folded into the groups of a grouped convolution (a transposed one in
the upsampling layers); FIR filters are depthwise convolutions; noise, bias, activation and gain are one pass over memory each. Forward
only: the generator of architecture "skip" and the discriminator of architecture "resnet", without labels and without a clamp. Both
compute from the state_dict of a network of stylegan_ops, so that the outputs can be compared before anything is timed.

`memory_format` is that of the feature maps; models.py runs both and takes the faster one: contiguous for the generator (2.2 s against
3.0 s, forward at 128 px, batch 4, one busy core), channels_last for the discriminator (1.12 s against 1.16 s). A generator that goes to
channels_last for the transposed convolutions and filters alone, up to twice as fast there, took 2.3 s: the conversions eat the gain.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]


def sub_state(p: State, prefix: str) -> State:
    """The part of a state_dict below `prefix`."""
    return {name[len(prefix) :]: value for name, value in p.items() if name.startswith(prefix)}


def fully_connected(p: State, x: torch.Tensor, lr_multiplier: float = 1, lrelu: bool = False) -> torch.Tensor:
    y = F.linear(x, p["weight"] * (lr_multiplier / math.sqrt(x.shape[1])), p["bias"] * lr_multiplier)
    return F.leaky_relu(y, 0.2) * math.sqrt(2) if lrelu else y


def bias_lrelu(y: torch.Tensor, bias: torch.Tensor, gain: float = math.sqrt(2)) -> torch.Tensor:
    """One pass each: bias, activation, gain."""
    y = y + bias[:, None, None]
    y = F.leaky_relu(y, 0.2)
    return y * gain


def fir(x: torch.Tensor, taps: torch.Tensor, padding: int, stride: int = 1, gain: float = 1) -> torch.Tensor:
    """A symmetric filter as a depthwise convolution."""
    kernel = (taps * gain).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def upsample(image: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Zero-insertion and filter as a depthwise transposed convolution."""
    kernel = (taps * 4).expand(image.shape[1], 1, -1, -1)
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=image.shape[1])


def modulated_weights(p: State, styles: torch.Tensor, demodulate: bool) -> torch.Tensor:
    """One set of weights per sample, [N, O, I, K, K] (Karras et al. 2020, arXiv:1912.04958, equations 1 and 3)."""
    w = p["weight"] * styles[:, None, :, None, None]
    if demodulate:
        w = w * (w.square().sum([2, 3, 4]) + 1e-8).rsqrt()[:, :, None, None, None]
    return w


class Generator:
    """The generator, from its state_dict; `G(z)` [N, img_channels, R, R] with random noise."""

    def __init__(self, state: State, memory_format: torch.memory_format = torch.contiguous_format) -> None:
        self.memory_format = memory_format
        self.mapping = [sub_state(state, f"mapping.fc{i}.") for i in range(sum(name.startswith("mapping.fc") for name in state) // 2)]
        self.blocks = {}
        while any(name.startswith(f"synthesis.b{4 << len(self.blocks)}.") for name in state):
            resolution = 4 << len(self.blocks)
            self.blocks[resolution] = sub_state(state, f"synthesis.b{resolution}.")

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for p in self.mapping:
            w = fully_connected(p, w, 0.01, lrelu=True)
        x = image = None
        for p in self.blocks.values():
            taps = p["resample_filter"]
            if x is None:
                x = p["const"].expand(len(z), -1, -1, -1).contiguous(memory_format=self.memory_format)
            else:
                x = self.layer(sub_state(p, "conv0."), x, w, up=True)
                image = upsample(image, taps)
            x = self.layer(sub_state(p, "conv1."), x, w)
            rgb = self.to_rgb(sub_state(p, "torgb."), x, w)
            image = rgb if image is None else image + rgb
        return image

    def layer(self, p: State, x: torch.Tensor, w: torch.Tensor, up: bool = False) -> torch.Tensor:
        weights = modulated_weights(p, fully_connected(sub_state(p, "affine."), w), demodulate=True)
        y = self.convolution(x, weights, p["resample_filter"] if up else None)
        y = y + torch.randn(len(x), 1, *y.shape[2:]) * p["noise_strength"]
        return bias_lrelu(y, p["bias"])

    def to_rgb(self, p: State, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        styles = fully_connected(sub_state(p, "affine."), w) / math.sqrt(x.shape[1])
        return self.convolution(x, modulated_weights(p, styles, demodulate=False)) + p["bias"][:, None, None]

    def convolution(self, x: torch.Tensor, weights: torch.Tensor, up_taps: torch.Tensor | None = None) -> torch.Tensor:
        """Each sample with its own weights: [N, C, H, W] becomes [1, N C, H, W], N groups."""
        n, o, i, k, _ = weights.shape
        x = x.reshape(1, n * i, *x.shape[2:]).contiguous(memory_format=self.memory_format)
        if up_taps is None:
            y = F.conv2d(x, weights.reshape(n * o, i, k, k), padding=k // 2, groups=n)
        else:
            y = F.conv_transpose2d(x, weights.transpose(1, 2).reshape(n * i, o, k, k), stride=2, groups=n)
            y = fir(y, up_taps, padding=1, gain=4)
        return y.reshape(n, o, *y.shape[2:]).contiguous(memory_format=self.memory_format)


class Discriminator:
    """The discriminator, from its state_dict; `D(image)` [N, 1]."""

    def __init__(self, state: State, memory_format: torch.memory_format = torch.channels_last) -> None:
        self.memory_format = memory_format
        resolutions = sorted({int(name[1:].split(".")[0]) for name in state}, reverse=True)
        self.blocks = [sub_state(state, f"b{r}.") for r in resolutions]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        x = image.contiguous(memory_format=self.memory_format)
        x = bias_lrelu(self.convolution(sub_state(self.blocks[0], "fromrgb."), x), self.blocks[0]["fromrgb.bias"])
        for p in self.blocks[:-1]:
            taps = p["resample_filter"]
            shortcut = self.convolution(sub_state(p, "skip."), fir(x, taps, padding=1, stride=2)) * math.sqrt(0.5)
            x = bias_lrelu(self.convolution(sub_state(p, "conv0."), x), p["conv0.bias"])
            x = self.convolution(sub_state(p, "conv1."), fir(x, taps, padding=2), stride=2)
            x = shortcut + bias_lrelu(x, p["conv1.bias"], gain=1.0)  # sqrt(2) of the activation times sqrt(1/2) of the branch
        p = self.blocks[-1]
        x = bias_lrelu(self.convolution(sub_state(p, "conv."), self.minibatch_stddev(x)), p["conv.bias"])
        x = fully_connected(sub_state(p, "fc."), x.flatten(1), lrelu=True)
        return fully_connected(sub_state(p, "out."), x)

    def convolution(self, p: State, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        w = p["weight"] * (1 / math.sqrt(p["weight"][0].numel()))
        return F.conv2d(x, w, stride=stride, padding=w.shape[2] // 2 if stride == 1 else 0)

    def minibatch_stddev(self, x: torch.Tensor, group: int = 4) -> torch.Tensor:
        """Appends the standard deviation over groups of 4, averaged over channels and space."""
        n, c, h, w = x.shape
        y = x.reshape(group, n // group, c, h, w)
        y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean([1, 2, 3])
        return torch.cat([x, y.repeat(group)[:, None, None, None].expand(n, 1, h, w)], dim=1)
