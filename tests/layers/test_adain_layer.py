"""AdaIN and StyleGAN's epilogue against torch's own instance norm, linear layers and activations, float64."""

import pytest
import torch
import torch.nn.functional as F

from stylegan_ops.layers import AdaIN, StyleEpilogue


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64)


def test_adain_is_instance_norm_between_two_linear_maps():
    """The definition with one linear map for the scale and one for the shift; the layer holds the scale's minus 1."""
    scale, shift, norm = torch.nn.Linear(6, 4).double(), torch.nn.Linear(6, 4).double(), torch.nn.InstanceNorm2d(4)
    layer = AdaIN(4, 6, eps=norm.eps).double()
    with torch.no_grad():
        layer.affine.weight.copy_(torch.cat([scale.weight, shift.weight]) * 6**0.5)  # the equalised learning rate's factor
        layer.affine.bias.copy_(torch.cat([scale.bias - 1, shift.bias]))
    x, w = randn(3, 4, 5, 7), randn(3, 6)
    expected = scale(w)[:, :, None, None] * norm(x) + shift(w)[:, :, None, None]
    torch.testing.assert_close(layer(x, w), expected, rtol=1e-10, atol=1e-10)


def test_adain_gives_the_styles_mean_and_deviation():
    layer = AdaIN(4, 6).double()
    x, w = 3 * randn(3, 4, 8, 8) + 2, randn(3, 6)
    y, (scale, shift) = layer(x, w), layer.styles(w)
    torch.testing.assert_close(y.mean((2, 3)), shift)
    torch.testing.assert_close(y.std((2, 3), correction=0), scale.abs())
    with torch.no_grad():
        layer.affine.weight.zero_()  # no style: the norm alone
    torch.testing.assert_close(layer(x, w), F.instance_norm(x, eps=1e-8))


def test_eps_is_under_the_root():
    """On planes of little variance 1e-8 and 1e-5 differ, and each is torch's with that eps."""
    x, w = 1e-3 * randn(2, 4, 6, 6), randn(2, 6)
    results = []
    for eps in (1e-8, 1e-5):
        layer = AdaIN(4, 6, eps=eps).double()
        torch.nn.init.zeros_(layer.affine.weight)
        results.append(layer(x, w))
        torch.testing.assert_close(results[-1], F.instance_norm(x, eps=eps))
    assert (results[0] - results[1]).abs().max() > 0.1


def test_without_instance_norm_the_style_alone():
    layer = AdaIN(4, 6, instance_norm=False).double()
    x, w = randn(3, 4, 5, 5), randn(3, 6)
    style = F.linear(w, layer.affine.weight / 6**0.5, layer.affine.bias)
    torch.testing.assert_close(layer(x, w), x * (1 + style[:, :4, None, None]) + style[:, 4:, None, None])


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("activation", ["lrelu", "relu"])
@pytest.mark.parametrize("pixel_norm", [True, False])
@pytest.mark.parametrize("instance_norm", [True, False])
@pytest.mark.parametrize("styles", [True, False])
def test_epilogue_does_its_steps_in_order(noise, activation, pixel_norm, instance_norm, styles):
    layer = StyleEpilogue(4, 6, 5, noise, activation, pixel_norm, instance_norm, styles, eps=1e-5).double()
    for name, parameter in layer.named_parameters():
        if "affine" not in name:
            torch.nn.init.normal_(parameter)
    x, w = randn(3, 4, 5, 5), randn(3, 6)
    y = x + layer.bias[:, None, None]
    if noise:
        y = y + layer.noise.strength[:, None, None] * layer.noise.noise_const
    y = F.leaky_relu(y, 0.2) if activation == "lrelu" else F.relu(y)
    if pixel_norm:
        y = y / (y.square().mean(1, keepdim=True) + 1e-8).sqrt()
    if instance_norm:
        y = F.instance_norm(y, eps=1e-5)
    if styles:
        style = F.linear(w, layer.adain.affine.weight / 6**0.5, layer.adain.affine.bias)
        y = y * (1 + style[:, :4, None, None]) + style[:, 4:, None, None]
    torch.testing.assert_close(layer(x, w, "const"), y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("switches", [{}, {"instance_norm": False}, {"pixel_norm": True}, {"styles": False}])
def test_dtype_and_layout_are_those_of_x(dtype, switches):
    layer = StyleEpilogue(4, 6, 5, **switches)
    torch.nn.init.normal_(layer.noise.strength)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 4, 5, 5).to(dtype).contiguous(memory_format=layout)
        y = layer(x, torch.randn(2, 6))
        assert y.dtype == dtype and y.is_contiguous(memory_format=layout) and y.shape == x.shape


def test_gradgradcheck():
    layer = StyleEpilogue(2, 3, 3, eps=1e-3).double()
    torch.nn.init.normal_(layer.noise.strength)
    x, w = randn(2, 2, 3, 3).requires_grad_(), randn(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: layer(x, w, "const"), (x, w))
    assert torch.autograd.gradgradcheck(lambda x, w: layer(x, w, "const"), (x, w))
