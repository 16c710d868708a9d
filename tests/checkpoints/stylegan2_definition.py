"""StyleGAN2's networks written out in plain torch over rosinality's names (arXiv:1912.04958, section 2 and figure 7)."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def lrelu(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def filtered(x, kernel, before, behind):
    """True convolution of every feature map, zeros outside."""
    kernel = kernel.flip(0, 1).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(x, [before, behind] * 2), kernel, groups=x.shape[1])


def modulated(p, name, x, w, demodulate=True, up=False, correlates=False, eps=1e-8):
    """One sample at a time: scale the weights by the style, normalise them, convolve. `correlates`: an upsampling runs through its weights
    as any other convolution does, not as a transposed one."""
    weight, affine = p[f"{name}.weight"][0], p[f"{name}.modulation.weight"]
    style = w @ affine.T / math.sqrt(affine.shape[1]) + p[f"{name}.modulation.bias"]
    images = []
    for image, s in zip(x, style, strict=True):
        scaled = weight * s[:, None, None] / math.sqrt(weight[0].numel())
        if demodulate:
            scaled = scaled / (scaled.square().sum([1, 2, 3], keepdim=True) + eps).sqrt()
        if up and correlates:
            zeros = image.new_zeros(1, len(image), 2 * image.shape[1] - 1, 2 * image.shape[2] - 1)
            zeros[0, :, ::2, ::2] = image
            images.append(F.conv2d(zeros, scaled, padding=2))
        elif up:
            images.append(F.conv_transpose2d(image[None], scaled.transpose(0, 1), stride=2))
        else:
            images.append(F.conv2d(image[None], scaled, padding=scaled.shape[2] // 2))
    x = torch.cat(images)
    return filtered(x, p[f"{name}.blur.kernel"], 1, 1) if up else x


def rosinality_pictures(p, z, correlates=False, eps=1e-8):
    """The generator, with 3 layers of the mapping and 16 pixels."""
    w = z / (z.square().mean(1, keepdim=True) + eps).sqrt()
    for i in range(1, 4):
        w = lrelu(w @ p[f"style.{i}.weight"].T * (0.01 / math.sqrt(w.shape[1])) + 0.01 * p[f"style.{i}.bias"])

    def styled(name, x, number, up=False):
        x = modulated(p, f"{name}.conv", x, w, True, up, correlates, eps) + p[f"{name}.noise.weight"] * p[f"noises.noise_{number}"]
        return lrelu(x + p[f"{name}.activate.bias"].view(1, -1, 1, 1))

    x = styled("conv1", p["input.input"].expand(len(z), -1, -1, -1), 0)
    picture = modulated(p, "to_rgb1.conv", x, w, demodulate=False) + p["to_rgb1.bias"]
    for i in range(2):
        x = styled(f"convs.{2 * i}", x, 2 * i + 1, up=True)
        x = styled(f"convs.{2 * i + 1}", x, 2 * i + 2)
        zeros = picture.new_zeros(len(z), 3, 2 * picture.shape[2], 2 * picture.shape[3])
        zeros[:, :, ::2, ::2] = picture
        larger = filtered(zeros, p[f"to_rgbs.{i}.upsample.kernel"], 2, 1)
        picture = modulated(p, f"to_rgbs.{i}.conv", x, w, demodulate=False) + p[f"to_rgbs.{i}.bias"] + larger
    return picture


def rosinality_logits(p, image):
    """The residual discriminator."""

    def conv(name, x, index, down=False, bias=True):
        weight = p[f"{name}.{index}.weight"]
        weight = weight / math.sqrt(weight[0].numel())
        k = weight.shape[2]
        if down:
            pad = 4 - 2 + k - 1
            x = F.conv2d(filtered(x, p[f"{name}.0.kernel"], (pad + 1) // 2, pad // 2), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=k // 2)
        return lrelu(x + p[f"{name}.{index + 1}.bias"].view(1, -1, 1, 1)) if bias else x

    x = conv("convs.0", image, 0)
    for i in (1, 2):
        y = conv(f"convs.{i}.conv2", conv(f"convs.{i}.conv1", x, 0), 1, down=True)
        x = (y + conv(f"convs.{i}.skip", x, 1, down=True, bias=False)) / math.sqrt(2)
    groups = x.view(4, -1, *x.shape[1:])
    spread = (groups.var(0, correction=0) + 1e-8).sqrt().mean([1, 2, 3]).repeat(4)
    x = conv("final_conv", torch.cat([x, spread.view(-1, 1, 1, 1).expand(-1, 1, 4, 4)], 1), 0).flatten(1)
    for i, act in enumerate((lrelu, lambda x: x)):
        weight = p[f"final_linear.{i}.weight"]
        x = act(x @ weight.T / math.sqrt(weight.shape[1]) + p[f"final_linear.{i}.bias"])
    return x


def close(got, expected):
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def same(a, b):
    assert list(sorted(a)) == list(sorted(b))
    for name, value in a.items():
        assert value.dtype == b[name].dtype and value.shape == b[name].shape and torch.equal(value, b[name]), name
