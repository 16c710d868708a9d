"""StyleGAN's generator written out in plain torch, over a dict with the names that the published generator's file has.

Karras et al. 2019 (arXiv:1812.04948): z is normalised and mapped to w by fully connected layers at a hundredth of the learning rate;
behind every convolution come noise (a strength for each channel), bias, activation, pixel norm, instance norm and a style
`(s + 1) x + b`, as far as they are switched on; upsampling repeats every pixel, and a convolution and a blur with zero borders follow.
The published network has a transposed convolution for the first two of these from 128 pixels on, `transposed_from`.
A growing network has `torgb.{r}` instead of `torgb`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

ACTIVATIONS = {"lrelu": lambda x: torch.where(x < 0, 0.2 * x, x), "relu": lambda x: torch.where(x < 0, 0 * x, x)}


def convolve(x, weight, gain):
    """Correlation with He's constant at run time, zeros outside: one shifted product of matrices per tap."""
    k = weight.shape[2]
    weight = weight * (gain / math.sqrt(weight[0].numel()))
    padded = torch.nn.functional.pad(x, [k // 2] * 4)
    h, w = x.shape[2:]
    return sum(torch.einsum("oi,nihw->nohw", weight[:, :, i, j], padded[:, :, i : i + h, j : j + w]) for i in range(k) for j in range(k))


def enlarge(x):
    """Every pixel becomes a square of four."""
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def spread(x, weight, gain):
    """Every pixel adds the kernel, four times over, to the image of twice the size."""
    weight = torch.nn.functional.pad(weight * (gain / math.sqrt(weight[0].numel())), [1] * 4)
    weight = weight[:, :, 1:, 1:] + weight[:, :, :-1, 1:] + weight[:, :, 1:, :-1] + weight[:, :, :-1, :-1]
    out = x.new_zeros(x.shape[0], weight.shape[0], 2 * x.shape[2] + 2, 2 * x.shape[3] + 2)
    for i in range(4):
        for j in range(4):
            out[:, :, i : i + 2 * x.shape[2] : 2, j : j + 2 * x.shape[3] : 2] += torch.einsum("oi,nihw->nohw", weight[:, :, i, j], x)
    return out[:, :, 1:-1, 1:-1]


def blur(x, taps):
    """Row by row and column by column, zeros outside."""
    taps = torch.tensor(taps, dtype=x.dtype)
    taps, half = taps / taps.sum(), len(taps) // 2
    for dim in (2, 3):
        length = x.shape[dim]
        padded = torch.nn.functional.pad(x, [0, 0, half, half] if dim == 2 else [half, half])
        x = sum(tap * padded.narrow(dim, i, length) for i, tap in enumerate(taps))
    return x


def pixel_norm(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


@dataclass
class Definition:
    """The networks over the parameters `p`; the switches are those of the document."""

    p: dict[str, torch.Tensor]
    noise: dict[tuple[int, int], torch.Tensor]  # of resolution r's first and second epilogue, [H, W] or [N, 1, H, W]
    activation: str = "lrelu"
    pixel_norm: bool = False
    instance_norm: bool = True
    blur_filter: Sequence[float] | None = (1, 2, 1)
    eps: float = 1e-8
    transposed_from: int = 2**30

    def mapping(self, z):
        x = pixel_norm(z)
        for i in range(sum(name.startswith("mapping.dense") for name in self.p) // 2):
            weight, bias = self.p[f"mapping.dense{i}.weight"], self.p[f"mapping.dense{i}.bias"]
            x = ACTIVATIONS[self.activation](x @ (0.01 * math.sqrt(2 / weight.shape[1]) * weight).T + 0.01 * bias)
        return x

    def epilogue(self, x, name, key, w):
        strength = self.p.get(f"{name}.top_epi.noise.weight")
        if strength is not None and self.noise:
            x = x + strength.view(1, -1, 1, 1) * self.noise[key]
        x = ACTIVATIONS[self.activation](x)
        if self.pixel_norm:
            x = pixel_norm(x)
        if self.instance_norm:
            variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
            x = (x - mean) / (variance + self.eps).sqrt()
        weight = self.p.get(f"{name}.adanorm.linear.weight")
        if weight is not None:
            style = w @ weight.T / math.sqrt(weight.shape[1]) + self.p[f"{name}.adanorm.linear.bias"]
            c = x.shape[1]
            x = x * (style[:, :c, None, None] + 1) + style[:, c:, None, None]
        return x

    def features(self, ws, resolution):
        """What the last layers of every resolution up to this one give."""
        found, x, i = {}, None, 0
        for r in (2**k for k in range(2, resolution.bit_length())):
            name = f"blocks.{r}x{r}"
            if r > 4:
                up = self.p[f"{name}.conv0_up.weight"]
                x = spread(x, up, math.sqrt(2)) if r >= self.transposed_from else convolve(enlarge(x), up, math.sqrt(2))
                x = x if self.blur_filter is None else blur(x, self.blur_filter)
                x = x + self.p[f"{name}.conv0_up.bias"].view(1, -1, 1, 1)
            elif f"{name}.const" in self.p:
                x = (self.p[f"{name}.const"] + self.p[f"{name}.bias"].view(1, -1, 1, 1)).repeat(len(ws), 1, 1, 1)
            else:
                weight = self.p[f"{name}.dense.weight"]
                x = ws[:, 0] @ weight.T * (math.sqrt(2) / 4 / math.sqrt(weight.shape[1])) + self.p[f"{name}.dense.bias"]
                x = x.reshape(len(ws), -1, 4, 4)
            x = self.epilogue(x, f"{name}.epi1", (r, 0), ws[:, i])
            conv = f"{name}.conv" if r == 4 else f"{name}.conv1"
            x = convolve(x, self.p[f"{conv}.weight"], math.sqrt(2)) + self.p[f"{conv}.bias"].view(1, -1, 1, 1)
            found[r] = x = self.epilogue(x, f"{name}.epi2", (r, 1), ws[:, i + 1])
            i += 2
        return found

    def to_rgb(self, x, name="torgb"):
        return convolve(x, self.p[f"{name}.weight"], 1) + self.p[f"{name}.bias"].view(1, -1, 1, 1)

    def images(self, ws, resolution, alpha=1.0, growing=False):
        features = self.features(ws, resolution)
        new = self.to_rgb(features[resolution], f"torgb.{resolution}" if growing else "torgb")
        if alpha == 1:
            return new
        old = enlarge(self.to_rgb(features[resolution // 2], f"torgb.{resolution // 2}"))
        return alpha * new + (1 - alpha) * old


def layout(resolution: int, channels: dict[int, int], w_dim: int, num_layers: int = 8, taps: int = 3) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a published generator's file."""
    shapes = {}

    def epilogue(name, c):
        shapes[f"{name}.top_epi.noise.weight"] = (c,)
        shapes[f"{name}.adanorm.linear.weight"] = (2 * c, w_dim)
        shapes[f"{name}.adanorm.linear.bias"] = (2 * c,)

    for i in range(num_layers):
        shapes[f"mapping.dense{i}.weight"], shapes[f"mapping.dense{i}.bias"] = (w_dim, w_dim), (w_dim,)
    for r, c in channels.items():
        name = f"blocks.{r}x{r}"
        if r == 4:
            shapes[f"{name}.const"], shapes[f"{name}.bias"] = (1, c, 4, 4), (c,)
        else:
            shapes[f"{name}.conv0_up.weight"], shapes[f"{name}.conv0_up.bias"] = (c, channels[r // 2], 3, 3), (c,)
            shapes[f"{name}.conv0_up.blur.weight"] = (1, 1, taps, taps)
        epilogue(f"{name}.epi1", c)
        conv = "conv" if r == 4 else "conv1"
        shapes[f"{name}.{conv}.weight"], shapes[f"{name}.{conv}.bias"] = (c, c, 3, 3), (c,)
        epilogue(f"{name}.epi2", c)
    shapes["torgb.weight"], shapes["torgb.bias"] = (3, channels[resolution], 1, 1), (3,)
    return shapes
