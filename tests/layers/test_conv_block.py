"""ConvBlock and BlurDownBlock against torch's own convolutions, norms and pooling, float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from stylegan_ops.layers import BlurDownBlock, ConvBlock
from stylegan_ops.layers.growth import double, halve


def randn(*shape):
    return torch.randn(shape, dtype=torch.float64)


def randomised(block):
    for name, parameter in block.double().named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return block


def equalised(x, layer, padding):
    """He's constant at run time, sqrt(2) over the root of what a feature is the sum of, then a leaky ReLU."""
    y = F.conv2d(x, layer.weight * math.sqrt(2 / layer.weight[0].numel()), layer.bias, padding=padding)
    return F.leaky_relu(y, 0.2)


def unit(x):
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


@pytest.mark.parametrize("pixel_norm", [False, True])
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_matches_definition(pixel_norm, up, down):
    block = randomised(ConvBlock(3, 5, hidden_channels=4, up=up, down=down, pixel_norm=pixel_norm))
    x = randn(2, 3, 6, 8)
    norm = unit if pixel_norm else torch.nn.Identity()
    y = F.interpolate(x, scale_factor=2) if up == 2 else x
    y = norm(equalised(norm(equalised(y, block.conv0, 1)), block.conv1, 1))
    y = F.avg_pool2d(y, 2) if down == 2 else y
    torch.testing.assert_close(block(x), y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("sizes", "paddings", "shape"),
    [
        ({"kernel_size": 3, "padding": 1, "kernel_size2": 4, "padding2": 0}, (1, 0), (1, 1)),  # how a discriminator may end
        ({"kernel_size": 5, "padding": 2}, (2, 2), (4, 4)),
        ({"kernel_size": 1}, (0, 0), (4, 4)),
        ({"kernel_size": 3, "kernel_size2": 1}, (1, 0), (4, 4)),
        ({"kernel_size": 3, "padding": 0, "kernel_size2": 1}, (0, 0), (2, 2)),
    ],
)
def test_sizes_of_both_convolutions(sizes, paddings, shape):
    block = randomised(ConvBlock(3, 5, pixel_norm=False, **sizes))
    x = randn(2, 3, 4, 4)
    expected = equalised(equalised(x, block.conv0, paddings[0]), block.conv1, paddings[1])
    assert expected.shape == (2, 5, *shape)
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


def test_weights_start_standard_normal_and_keep_the_variance():
    block = ConvBlock(64, 64, pixel_norm=False)
    assert abs(block.conv0.weight.detach().std() - 1) < 0.02 and not block.conv0.bias.any()
    y = block.conv0(torch.randn(8, 64, 16, 16))[:, :, 1:-1, 1:-1]
    assert abs(y.detach().square().mean() / 1.04 - 1) < 0.1  # of the leaky ReLU's sqrt(2): 1 + 0.2^2


def test_spectral_norm_is_torchs():
    """After power iterations the weights' largest singular value is 1, and they are those of torch's own wrapper."""
    block = randomised(ConvBlock(3, 5, pixel_norm=False, spectral_norm=True))
    x = randn(2, 3, 6, 6)
    for _ in range(100):
        block(x)
    block.eval()
    y = x
    for layer in (block.conv0, block.conv1):
        assert abs(torch.linalg.matrix_norm(layer.weight.flatten(1), 2) - 1) < 1e-6
        original = layer.parametrizations.weight.original
        own = torch.nn.Conv2d(original.shape[1], 5, 3, padding=1).double()
        with torch.no_grad():
            own.weight.copy_(original)
            own.bias.copy_(layer.bias)
        own = torch.nn.utils.parametrizations.spectral_norm(own, n_power_iterations=200).eval()
        y = F.leaky_relu(own(y), 0.2)
    torch.testing.assert_close(block(x), y, rtol=1e-6, atol=1e-6)


def test_spectral_norm_iterates_in_training_only():
    block = ConvBlock(3, 5, spectral_norm=True)
    x = torch.randn(2, 3, 6, 6)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))
    other = ConvBlock(3, 5, spectral_norm=True).eval()
    other.load_state_dict(block.state_dict())
    assert torch.equal(other(x), block(x))


@pytest.mark.parametrize("taps", [(1, 2, 1), (1, 4, 6, 4, 1)])
def test_both_forms_of_the_blurred_block_are_equal_and_match_definition(taps):
    fused, plain = (randomised(BlurDownBlock(3, 5, taps, is_fused)) for is_fused in (True, False))
    assert {name: v.shape for name, v in fused.named_parameters()} == {name: v.shape for name, v in plain.named_parameters()}
    plain.load_state_dict(fused.state_dict())
    x = randn(2, 3, 8, 6)
    kernel = torch.tensor(taps, dtype=torch.float64)
    kernel = (kernel.outer(kernel) / kernel.sum() ** 2).expand(3, 1, -1, -1)
    y = F.conv2d(equalised(x, fused.conv0, 1), kernel, padding=len(taps) // 2, groups=3)
    y = F.conv2d(y, fused.conv1.weight * math.sqrt(2 / 27), padding=1)
    y = F.leaky_relu(F.avg_pool2d(y, 2) + fused.bias[:, None, None], 0.2)
    for block in (fused, plain):
        torch.testing.assert_close(block(x), y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "block",
    [
        ConvBlock(2, 3, up=2),
        ConvBlock(2, 3, down=2, pixel_norm=False),
        ConvBlock(2, 3, spectral_norm=True).eval(),
        BlurDownBlock(2, 3, (1, 2, 1), True),
        BlurDownBlock(2, 3, (1, 2, 1), False),
    ],
    ids=["up", "down", "spectral norm", "blur, fused", "blur"],
)
def test_gradgradcheck_layout_and_autocast(block):
    x = torch.randn(2, 2, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
    x = x[:1].double().requires_grad_()
    block.double()
    assert torch.autograd.gradcheck(block, x, fast_mode=True) and torch.autograd.gradgradcheck(block, x, fast_mode=True)


def test_resizing():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert double(x).shape == (1, 1, 8, 8)
    assert all(torch.equal(double(x)[:, :, i::2, j::2], x) for i in (0, 1) for j in (0, 1))
    assert torch.equal(halve(double(x)), x)
    assert halve(x)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


@pytest.mark.parametrize("name", ["up", "down"])
def test_rejects(name):
    with pytest.raises(ValueError, match=rf"^ConvBlock: {name} must be 1 or 2 \(got 3\)$"):
        ConvBlock(3, 5, **{name: 3})
