"""SynthesisLayer and ToRGB against the paper's equations, written out per sample in plain PyTorch, float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from stylegan_ops.layers import SynthesisLayer, ToRGB


def definition(layer, x, w, noise):
    """Equations 1 to 3 with one weight tensor per sample."""
    styles = w @ (layer.affine.weight / math.sqrt(w.shape[1])).t() + layer.affine.bias
    taps = layer.resample_filter * 4
    samples = []
    for n in range(len(x)):
        weight = torch.stack([styles[n, i] * layer.weight[:, i] for i in range(x.shape[1])], dim=1)  # equation 1
        for j in range(len(weight)):
            weight[j] = weight[j] / torch.sqrt((weight[j] ** 2).sum() + 1e-8)  # equation 3
        y = x[n : n + 1]
        if layer.up == 2:
            zeros = torch.zeros(1, y.shape[1], 2 * y.shape[2], 2 * y.shape[3], dtype=y.dtype)
            zeros[:, :, ::2, ::2] = y
            y = F.pad(zeros, (3, 2, 3, 2))
            y = torch.cat([F.conv2d(y[:, i : i + 1], taps[None, None]) for i in range(y.shape[1])], dim=1)
            y = F.conv2d(y, weight.flip(2, 3))
        else:
            y = F.conv2d(y, weight, padding=1)
        samples.append(y)
    y = torch.cat(samples) + layer.noise_strength * noise + layer.bias[:, None, None]
    y = torch.where(y > 0, y, 0.2 * y) * math.sqrt(2) * 0.7
    return y.clamp(-2 * 0.7, 2 * 0.7)


def make_layer(up=1, **kwargs):
    layer = SynthesisLayer(5, 6, w_dim=4, resolution=8, up=up, **kwargs).double()
    with torch.no_grad():
        layer.bias.normal_()
        layer.noise_strength.fill_(0.3)
        layer.noise_const.normal_()
    return layer


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_synthesis_layer_matches_the_papers_equations(up, noise_mode):
    layer = make_layer(up, conv_clamp=2.0, gain=0.7)
    x = torch.randn(3, 5, 8 // up, 8 // up, dtype=torch.float64)
    w = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = definition(layer, x, w, layer.noise_const if noise_mode == "const" else 0)
        torch.testing.assert_close(layer(x, w, noise_mode), expected, rtol=1e-10, atol=1e-10)


def test_torgb_matches_definition():
    layer = ToRGB(5, 3, w_dim=4, conv_clamp=1.0).double()
    torch.nn.init.normal_(layer.bias)
    x, w = torch.randn(2, 5, 4, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    styles = w @ layer.affine.weight.t() / 2 + layer.affine.bias
    expected = torch.einsum("nihw,ni,oi->nohw", x, styles, layer.weight[:, :, 0, 0]) / math.sqrt(5) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w), expected.clamp(-1, 1), rtol=1e-12, atol=1e-12)


def test_style_is_one_at_the_mean_of_w():
    layer = make_layer()
    assert torch.equal(layer.affine(torch.zeros(2, 4)), torch.ones(2, 5, dtype=torch.float64))


def test_noise_modes():
    layer = make_layer()
    torch.nn.init.constant_(layer.bias, 100)  # the leaky ReLU is linear up there
    x, w = torch.randn(2, 5, 8, 8, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    base = layer(x, w, "none")
    gain = math.sqrt(2) * 0.3
    const = (layer(x, w, "const") - base) / gain
    torch.testing.assert_close(const, layer.noise_const.expand(2, 6, 8, 8))
    assert torch.equal(layer(x, w, "const"), layer(x, w, "const"))

    torch.manual_seed(0)
    first = layer(x, w)
    noise = (first - base) / gain
    torch.testing.assert_close(noise, noise[:, :1].expand(2, 6, 8, 8))  # the same for every channel
    assert (noise[0] - noise[1]).std() > 0.5  # another one for every sample
    assert abs(noise[:, 0].std() - 1) < 0.3
    assert not torch.equal(layer(x, w), first)
    torch.manual_seed(0)
    assert torch.equal(layer(x, w), first)


def test_noise_strength_starts_at_zero():
    layer = SynthesisLayer(5, 6, w_dim=4, resolution=8)
    x, w = torch.randn(2, 5, 8, 8), torch.randn(2, 4)
    assert layer.noise_strength.shape == ()
    assert torch.equal(layer(x, w, "random"), layer(x, w, "none"))


def test_starts_with_unit_mean_square():
    torch.manual_seed(0)
    layer = SynthesisLayer(64, 64, w_dim=16, resolution=16)
    y = layer(torch.randn(4, 64, 16, 16), torch.randn(4, 16))
    assert abs(y[:, :, 1:-1, 1:-1].square().mean() / 1.04 - 1) < 0.05
    assert abs(ToRGB(64, 16, w_dim=16)(torch.randn(4, 64, 16, 16), torch.zeros(4, 16)).std() - 1) < 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_layout_and_takes_autocast_dtype(dtype):
    x = torch.randn(2, 5, 4, 4).to(memory_format=torch.channels_last)
    w = torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = SynthesisLayer(5, 6, w_dim=4, resolution=8, up=2)(x, w)
        rgb = ToRGB(6, 3, w_dim=4)(y, w)
    for result in (y, rgb):
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_rejects_a_clamp_that_is_none():
    for make, owner in ((make_layer, "SynthesisLayer"), (lambda **clamp: ToRGB(5, 3, w_dim=4, **clamp), "ToRGB")):
        with pytest.raises(ValueError, match=rf"^{owner}: conv_clamp must be None or at least 0 \(got -1.0\)$"):
            make(conv_clamp=-1)


def test_rejects_noise_mode():
    with pytest.raises(ValueError, match=r"^SynthesisLayer: noise_mode must be one of random, const, none \(got 'fixed'\)$"):
        make_layer()(torch.zeros(1, 5, 8, 8), torch.zeros(1, 4), "fixed")
