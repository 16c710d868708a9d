"""ProGAN written out in plain torch from its paper's table 2 (arXiv:1710.10196), over a dict of parameters named after the table's rows."""

from __future__ import annotations

import math

import torch
from stylegan_definition import convolve, enlarge, pixel_norm

HE = math.sqrt(2)


def lrelu(x):
    return torch.where(x < 0, 0.2 * x, x)


def average(x):
    """The mean of each square of four pixels."""
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def layer(p, name, x, gain=HE):
    return convolve(x, p[f"{name}.weight"], gain) + p[f"{name}.bias"].view(1, -1, 1, 1)


def dense(p, name, x, gain=HE):
    weight = p[f"{name}.weight"]
    return x @ weight.T * (gain / math.sqrt(weight.shape[1])) + p[f"{name}.bias"]


def latent(p, z, c=None):
    """The normalised code; with labels, the embedded and normalised label beside it, and both normalised once more."""
    z = pixel_norm(z)
    return z if c is None else pixel_norm(torch.cat([z, pixel_norm(dense(p, "embed", c, 1))], 1))


def generator(p, x, resolution, alpha=1.0):
    weight = p["input.weight"]
    x = (x @ weight.T * (HE / 4 / math.sqrt(weight.shape[1]))).reshape(len(x), -1, 4, 4) + p["input.bias"].view(1, -1, 1, 1)
    x = pixel_norm(lrelu(x))
    x = pixel_norm(lrelu(layer(p, "4.conv1", x)))
    pictures, r = {4: layer(p, "4.torgb", x, 1)}, 4
    while r < resolution:
        r *= 2
        x = pixel_norm(lrelu(layer(p, f"{r}.conv0", enlarge(x))))
        x = pixel_norm(lrelu(layer(p, f"{r}.conv1", x)))
        pictures[r] = layer(p, f"{r}.torgb", x, 1)
    return pictures[r] if alpha == 1 else alpha * pictures[r] + (1 - alpha) * enlarge(pictures[r // 2])


def spread(x):
    """One more feature map: the standard deviation over the batch, averaged over everything."""
    return torch.cat([x, (x.var(0, correction=0) + 1e-8).sqrt().mean().expand(len(x), 1, *x.shape[2:])], 1)


def discriminator(p, image, resolution, alpha=1.0, c=None, blur=None):
    """With a blur, StyleGAN's: blur, convolution, average, and only then the activation."""
    r = resolution
    x = lrelu(layer(p, f"{r}.fromrgb", image))
    while r > 4:
        x = lrelu(layer(p, f"{r}.conv0", x))
        x = average(lrelu(layer(p, f"{r}.conv1", x))) if blur is None else lrelu(average(layer(p, f"{r}.conv1", blur(x))))
        if r == resolution and alpha < 1:
            x = alpha * x + (1 - alpha) * lrelu(layer(p, f"{r // 2}.fromrgb", average(image)))
        r //= 2
    x = lrelu(layer(p, "4.conv", spread(x)))
    x = dense(p, "4.out", lrelu(dense(p, "4.fc", x.reshape(len(x), -1))), 1)
    if c is None:
        return x
    cmap = lrelu(dense(p, "label.fc", pixel_norm(dense(p, "label.embed", c, 1))))
    return (x * cmap).sum(1, keepdim=True) / math.sqrt(x.shape[1])
