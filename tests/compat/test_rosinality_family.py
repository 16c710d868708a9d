"""The package `op` of rosinality's code, mmcv's ops and BasicSR's, a row of the interfaces after the other."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from definitions import BINOMIAL, assert_signature, torch_upfirdn, upfirdn
from support import DTYPES, LAYOUTS, assert_compiles, gradgradcheck, leaf, randn

from stylegan_ops import setup_filter
from stylegan_ops.compat import basicsr, mmcv, nvlabs, rosinality

pytestmark = pytest.mark.filterwarnings("error")
KERNEL = np.array([[1.0, 2, 3, 1], [0, 1, 4, 2], [2, 1, 1, 0]]) / 18


def test_signatures():
    assert_signature(rosinality.upfirdn2d, "input, kernel, up=1, down=1, pad=(0, 0)")
    assert_signature(rosinality.fused_leaky_relu, "input, bias=None, negative_slope=0.2, scale=2**0.5")
    assert_signature(rosinality.FusedLeakyReLU, "channel, bias=True, negative_slope=0.2, scale=2**0.5")
    assert_signature(rosinality.conv2d_gradfix.conv2d, "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1")
    assert_signature(
        rosinality.conv2d_gradfix.conv_transpose2d,
        "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1",
    )
    assert_signature(basicsr.upfirdn2d, "input, kernel, up=1, down=1, pad=(0, 0)")
    assert_signature(basicsr.fused_leaky_relu, "input, bias, negative_slope=0.2, scale=2**0.5")
    assert_signature(basicsr.FusedLeakyReLU, "channel, negative_slope=0.2, scale=2**0.5")


def test_signatures_of_mmcv():
    assert_signature(mmcv.bias_act, "input, bias=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, use_custom_op=True")
    assert_signature(mmcv.upfirdn2d, "input, filter, up=1, down=1, padding=0, flip_filter=False, gain=1, use_custom_op=True")
    assert_signature(mmcv.filter2d, "input, filter, padding=0, flip_filter=False, gain=1, use_custom_op=True")
    assert_signature(mmcv.upsample2d, "input, filter, up=2, padding=0, flip_filter=False, gain=1, use_custom_op=True")
    assert_signature(mmcv.downsample2d, "input, filter, down=2, padding=0, flip_filter=False, gain=1, use_custom_op=True")
    assert_signature(
        mmcv.filtered_lrelu,
        "input, filter_up=None, filter_down=None, bias=None, up=1, down=1, padding=0, gain=sqrt(2), slope=0.2, clamp=None, "
        "flip_filter=False, use_custom_op=True",
    )
    assert_signature(mmcv.fused_bias_leakyrelu, "input, bias, negative_slope=0.2, scale=2**0.5")
    assert_signature(mmcv.FusedBiasLeakyReLU, "num_channels, negative_slope=0.2, scale=2**0.5")
    assert_signature(mmcv.conv2d, "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1")
    assert_signature(mmcv.conv_transpose2d, "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1")


# Resampling


@pytest.mark.parametrize("function", [rosinality.upfirdn2d, basicsr.upfirdn2d])
def test_two_paddings_are_before_and_after(function):
    x, kernel = randn(2, 3, 8, 7), torch.from_numpy(KERNEL)
    y = function(x, kernel, up=2, down=1, pad=(3, 1))
    np.testing.assert_allclose(y, upfirdn(x.numpy(), KERNEL, 2, 1, [3, 1, 3, 1]), rtol=1e-12)
    y = function(x, kernel, down=2, pad=(-1, 3))
    np.testing.assert_allclose(y, upfirdn(x.numpy(), KERNEL, 1, 2, [-1, 3, -1, 3]), rtol=1e-12)
    assert function(x, kernel).shape == (2, 3, 6, 4)
    assert function(x, kernel, pad=(3, 1)).shape != nvlabs.upfirdn2d.upfirdn2d(x, kernel, padding=(3, 1)).shape


def test_four_paddings_and_pairs_are_those_of_nvlabs():
    x, kernel = randn(2, 3, 8, 7), torch.from_numpy(KERNEL)
    arguments = (x, kernel, (2, 3), (1, 2), (1, 2, 3, -1))
    y = rosinality.upfirdn2d(*arguments)
    assert torch.equal(y, nvlabs.upfirdn2d.upfirdn2d(*arguments))
    np.testing.assert_allclose(y, upfirdn(x.numpy(), KERNEL, (2, 3), (1, 2), (1, 2, 3, -1)), rtol=1e-12)


def test_the_kernel_has_two_dimensions():
    for wrong in ({"kernel": torch.ones(4)}, {"kernel": torch.ones(2, 2), "pad": 1}, {"kernel": torch.ones(2, 2), "pad": (1, 2, 3)}):
        with pytest.raises(ValueError, match="^upfirdn2d: (kernel|pad) must"):
            rosinality.upfirdn2d(torch.zeros(1, 1, 8, 8), **wrong)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout(dtype):
    kernel = setup_filter(BINOMIAL)
    layer = rosinality.FusedLeakyReLU(3).to(dtype)
    for layout in LAYOUTS:
        x = randn(2, 3, 4, 4, dtype=dtype, layout=layout)
        y = layer(rosinality.upfirdn2d(x, kernel.to(dtype), pad=(2, 1)))
        assert y.dtype == dtype and y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("use_custom_op", [True, False])
def test_mmcv_resamples_as_nvlabs(use_custom_op):
    x, f, how = randn(2, 3, 8, 6), torch.from_numpy(KERNEL), {"use_custom_op": use_custom_op}
    same = {"rtol": 1e-12, "atol": 1e-13}
    for padding in (2, [2, 1], [1, 2, 0, 3]):
        y = mmcv.upfirdn2d(input=x, filter=f, up=2, down=[1, 2], padding=padding, flip_filter=True, gain=2, **how)
        np.testing.assert_allclose(y, upfirdn(x.numpy(), KERNEL, 2, [1, 2], padding, True, 2), **same)
    square = torch.from_numpy(np.outer(BINOMIAL, BINOMIAL) / 64)
    y = mmcv.filter2d(input=x, filter=square, **how)
    np.testing.assert_allclose(y, upfirdn(x.numpy(), square.numpy(), padding=[2, 1, 2, 1]), **same)
    y = mmcv.upsample2d(input=x, filter=square, **how)
    np.testing.assert_allclose(y, upfirdn(x.numpy(), square.numpy(), 2, 1, [2, 1, 2, 1], gain=4), **same)
    y = mmcv.downsample2d(input=x, filter=square, **how)
    np.testing.assert_allclose(y, upfirdn(x.numpy(), square.numpy(), 1, 2, 1), **same)


# Activations


def leaky(x, bias, slope, scale):
    z = x if bias is None else x + bias.view(1, -1, *[1] * (x.ndim - 2))
    return torch.where(z < 0, z * slope, z) * scale


@pytest.mark.parametrize("function", [rosinality.fused_leaky_relu, basicsr.fused_leaky_relu, mmcv.fused_bias_leakyrelu])
def test_bias_slope_and_scale_count_on_the_cpu(function):
    for shape in ((4, 3), (2, 3, 5), (2, 3, 4, 4)):
        x, b = randn(*shape), randn(3)
        torch.testing.assert_close(function(x, b), leaky(x, b, 0.2, 2**0.5))
        torch.testing.assert_close(function(x, b, negative_slope=0.5, scale=3.0), leaky(x, b, 0.5, 3.0))
    gradgradcheck(lambda x, b: function(x, b).pow(2), randn(2, 3, 2, 2), randn(3))


def test_the_bias_may_be_missing():
    x = randn(2, 3, 4, 4)
    torch.testing.assert_close(rosinality.fused_leaky_relu(x), leaky(x, None, 0.2, 2**0.5))
    layer = rosinality.FusedLeakyReLU(3, bias=False)
    assert layer.bias is None and layer.state_dict() == {}
    torch.testing.assert_close(layer(x), leaky(x, None, 0.2, 2**0.5))


@pytest.mark.parametrize("layer", [rosinality.FusedLeakyReLU, basicsr.FusedLeakyReLU, mmcv.FusedBiasLeakyReLU])
def test_layers_hold_their_bias(layer):
    made = layer(3, negative_slope=0.4, scale=1.5)
    assert {name: tuple(p.shape) for name, p in made.named_parameters()} == {"bias": (3,)}
    assert not made.bias.any()
    torch.nn.init.normal_(made.bias)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(made(x), leaky(x, made.bias, 0.4, 1.5))
    assert layer(3).negative_slope == 0.2 and layer(3).scale == 2**0.5


@pytest.mark.parametrize("use_custom_op", [True, False])
def test_mmcv_bias_act_and_filtered_lrelu(use_custom_op):
    x, b, how = randn(2, 3, 6, 6), randn(3), {"use_custom_op": use_custom_op}
    y = mmcv.bias_act(input=x, bias=b, dim=1, act="lrelu", alpha=0.3, gain=2.0, clamp=1.0, **how)
    torch.testing.assert_close(y, leaky(x, b, 0.3, 2.0).clamp(-1, 1))
    torch.testing.assert_close(mmcv.bias_act(x, b, act="tanh", **how), torch.tanh(x + b[:, None, None]))
    f = setup_filter(BINOMIAL)
    y = mmcv.filtered_lrelu(input=x, filter_up=f, filter_down=f, bias=b, up=2, down=2, padding=3, gain=2, slope=0.1, clamp=1, **how)
    up = torch_upfirdn(x + b[:, None, None], f, up=2, padding=3, gain=4)
    torch.testing.assert_close(y, torch_upfirdn(leaky(up, None, 0.1, 2).clamp(-1, 1), f, down=2), rtol=1e-6, atol=1e-7)


# Convolutions


def test_conv2d_gradfix_is_enabled_and_has_switches_of_its_own(monkeypatch):
    module = rosinality.conv2d_gradfix
    assert (module.enabled, module.weight_gradients_disabled) == (True, False)
    x, w = leaf(randn(2, 2, 4, 4)), leaf(randn(2, 2, 3, 3))
    for enabled in (True, False):
        monkeypatch.setattr(module, "enabled", enabled)
        assert torch.equal(module.conv2d(x, w, padding=1), F.conv2d(x, w, padding=1))
        assert torch.equal(module.conv_transpose2d(x, w, stride=2), F.conv_transpose2d(x, w, stride=2))
    with nvlabs.conv2d_gradfix.no_weight_gradients():
        module.conv2d(x, w).sum().backward()
    assert w.grad.abs().sum() > 0
    w.grad = None
    with module.no_weight_gradients():
        module.conv2d(x, w).sum().backward()
        module.conv_transpose2d(x, w).sum().backward()
    assert w.grad is None
    gradgradcheck(lambda x, w: module.conv2d(x, w, padding=1), randn(1, 2, 3, 3), randn(2, 2, 2, 2))


def test_mmcv_convolutions_are_torchs():
    x, w = randn(2, 2, 4, 4), randn(2, 2, 3, 3)
    assert torch.equal(mmcv.conv2d(input=x, weight=w, padding=1), F.conv2d(x, w, padding=1))
    assert torch.equal(mmcv.conv_transpose2d(input=x, weight=w, stride=2), F.conv_transpose2d(x, w, stride=2))


def test_compiles():
    kernel = setup_filter(BINOMIAL)

    def layer(x, b):
        y = rosinality.fused_leaky_relu(rosinality.upfirdn2d(x, kernel, up=2, pad=(2, 1)), b)
        y = mmcv.bias_act(mmcv.downsample2d(y, kernel), b, act="swish")
        return mmcv.filtered_lrelu(y, kernel, kernel, b, 2, 2, 3) + basicsr.fused_leaky_relu(x, b)

    assert_compiles(layer, "aot_eager", randn(2, 3, 5, 5), randn(3))
