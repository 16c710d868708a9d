"""EqualizedLinear and EqualizedConv2d against their definitions in plain PyTorch, float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from stylegan_ops.layers import EqualizedConv2d, EqualizedLinear

FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
FILTER2D = FILTER.outer(FILTER) / 64


def lrelu(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def blur(x):
    """FIR filter without padding; the filter is symmetric, so correlation is convolution."""
    c = x.shape[1]
    return F.conv2d(x, FILTER2D.repeat(c, 1, 1, 1), groups=c)


def resampled_convolution(x, w, up, down):
    pad = w.shape[2] // 2
    if up == 2:
        n, c, h, width = x.shape
        y = torch.zeros(n, c, 2 * h, 2 * width, dtype=x.dtype)
        y[:, :, ::2, ::2] = x
        return F.conv2d(blur(F.pad(y, (2 + pad, 1 + pad) * 2)) * 4, w)
    if down == 2:
        return F.conv2d(blur(F.pad(x, (1 + pad,) * 4)), w, stride=2)
    return F.conv2d(x, w, padding=pad)


@pytest.mark.parametrize("lr_multiplier", [1, 0.01])
@pytest.mark.parametrize("activation", ["linear", "lrelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_matches_definition(lr_multiplier, activation, bias):
    layer = EqualizedLinear(5, 7, bias=bias, bias_init=0.5, lr_multiplier=lr_multiplier, activation=activation).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    y = x @ (layer.weight * lr_multiplier / math.sqrt(5)).t()
    if bias:
        torch.testing.assert_close(layer.bias * lr_multiplier, torch.full([7], 0.5, dtype=torch.float64), rtol=1e-6, atol=0)
        y = y + layer.bias * lr_multiplier
    if activation == "lrelu":
        y = lrelu(y)
    torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lr_multiplier", [1, 0.01])
def test_linear_starts_with_unit_variance(lr_multiplier):
    torch.manual_seed(0)
    x = torch.randn(512, 256)
    assert abs(EqualizedLinear(256, 256, lr_multiplier=lr_multiplier)(x).std() - 1) < 0.03
    y = x
    for _ in range(4):  # sqrt(2) makes up for what the leaky ReLU takes, but for its slope: (1 + 0.2^2) per layer
        y = EqualizedLinear(256, 256, lr_multiplier=lr_multiplier, activation="lrelu")(y)
    assert abs(y.square().mean() / 1.04**4 - 1) < 0.15


def test_linear_keeps_its_parameters_dtype_under_autocast():
    layer = EqualizedLinear(4, 4, activation="lrelu")
    x = torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, layer(x))
    assert layer(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("activation", ["linear", "lrelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_matches_definition(up, down, kernel_size, activation, bias):
    layer = EqualizedConv2d(3, 5, kernel_size, bias=bias, activation=activation, up=up, down=down, conv_clamp=1.5, gain=0.7).double()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    y = resampled_convolution(x, layer.weight / math.sqrt(3 * kernel_size**2), up, down)
    if bias:
        torch.nn.init.normal_(layer.bias)
        y = y + layer.bias[:, None, None]
    if activation == "lrelu":
        y = lrelu(y)
    y = (y * 0.7).clamp(-1.5 * 0.7, 1.5 * 0.7)
    assert y.shape == (2, 5, 6 * up // down, 8 * up // down)
    torch.testing.assert_close(layer(x), y, rtol=1e-7, atol=1e-7)  # the filter buffer was made in float32


def test_conv_starts_with_unit_variance():
    torch.manual_seed(0)
    y = EqualizedConv2d(64, 64, 3)(torch.randn(8, 64, 16, 16))
    assert abs(y[:, :, 1:-1, 1:-1].std() - 1) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_conv_keeps_layout_and_takes_autocast_dtype(dtype):
    x = torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = EqualizedConv2d(8, 4, 3, activation="lrelu", down=2)(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layer", [lambda a: EqualizedLinear(2, 2, activation=a), lambda a: EqualizedConv2d(2, 2, 1, activation=a)])
def test_rejects_unknown_activation(layer):
    with pytest.raises(ValueError, match=r"^Equalized\w+: activation must be one of linear, .*swish \(got 'gelu'\)$"):
        layer("gelu")


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_box_filter_is_nearest_upsampling_and_averages(kernel_size):
    """The fused forms of ProGAN's and StyleGAN's resampling, and He's gain on the weights, against torch's own layers."""
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    up, down = (
        EqualizedConv2d(3, 5, kernel_size, activation="lrelu", resample_filter=(1, 1), he_gain=math.sqrt(2), **{way: 2}).double()
        for way in ("up", "down")
    )
    for layer in (up, down):
        torch.nn.init.normal_(layer.bias)
    gain = math.sqrt(2 / (3 * kernel_size**2))
    y = F.conv2d(F.interpolate(x, scale_factor=2), up.weight * gain, up.bias, padding=kernel_size // 2)
    torch.testing.assert_close(up(x), F.leaky_relu(y, 0.2), rtol=1e-12, atol=1e-12)
    y = F.avg_pool2d(F.conv2d(x, down.weight * gain, down.bias, padding=kernel_size // 2), 2)
    torch.testing.assert_close(down(x), F.leaky_relu(y, 0.2), rtol=1e-12, atol=1e-12)


def test_linear_with_hes_gain_on_the_weights():
    layer = EqualizedLinear(5, 7, bias_init=0.5, lr_multiplier=0.01, activation="lrelu", he_gain=math.sqrt(2)).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    y = F.leaky_relu(F.linear(x, layer.weight * 0.01 * math.sqrt(2 / 5), layer.bias * 0.01), 0.2)
    torch.testing.assert_close(layer(x), y, rtol=1e-12, atol=1e-12)
