"""`torch_utils.ops`: conv2d_resample, conv2d_gradfix and grid_sample_gradfix, and modulated_conv2d of `training`."""

import pytest
import torch
import torch.nn.functional as F
from definitions import BINOMIAL, assert_signature, resampled_convolution, styled_convolution, torch_upfirdn
from support import assert_compiles, gradcheck, gradgradcheck, leaf, randn

from stylegan_ops.compat import nvlabs
from stylegan_ops.compat.nvlabs import conv2d_gradfix, grid_sample_gradfix, modulated_conv2d, networks_stylegan3
from stylegan_ops.compat.nvlabs.conv2d_resample import conv2d_resample
from stylegan_ops.compat.nvlabs.upfirdn2d import setup_filter

pytestmark = pytest.mark.filterwarnings("error")


def test_signatures():
    assert_signature(conv2d_resample, "x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False")
    assert_signature(conv2d_gradfix.conv2d, "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1")
    assert_signature(
        conv2d_gradfix.conv_transpose2d, "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1"
    )
    assert_signature(conv2d_gradfix.no_weight_gradients, "disable=True")
    assert_signature(grid_sample_gradfix.grid_sample, "input, grid")
    assert_signature(
        modulated_conv2d,
        "x, weight, styles, noise=None, up=1, down=1, padding=0, resample_filter=None, demodulate=True, flip_weight=True, "
        "fused_modconv=True",
    )
    assert_signature(networks_stylegan3.modulated_conv2d, "x, w, s, demodulate=True, padding=0, input_gain=None")
    assert nvlabs.modulated_conv2d is nvlabs.networks_stylegan2.modulated_conv2d


def test_globals_and_their_defaults():
    assert (conv2d_gradfix.enabled, conv2d_gradfix.weight_gradients_disabled, grid_sample_gradfix.enabled) == (False, False, False)


# conv2d_resample

RESAMPLING = {
    "plain": {"padding": 1},
    "uneven": {"padding": [2, 0, 1, -1]},
    "up": {"up": 2, "padding": 1},
    "up uneven": {"up": 3, "padding": [0, 2, 1, 1]},
    "down": {"down": 2, "padding": 1},
    "down uneven": {"down": 3, "padding": [1, 2]},
    "both": {"up": 2, "down": 2, "padding": 1},
}


@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", RESAMPLING)
def test_conv2d_resample_is_its_steps(name, groups, taps):
    x, w, f = randn(2, 4, 7, 6), randn(6, 4 // groups, taps, taps), torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.1]])
    case = {"up": 1, "down": 1} | RESAMPLING[name]
    for flip_weight in (True, False):
        for flip_filter in (True, False):
            arguments = case | {"groups": groups, "flip_weight": flip_weight, "flip_filter": flip_filter}
            for taps_of_filter in (f, None):
                y = conv2d_resample(x, w, taps_of_filter, **arguments)
                torch.testing.assert_close(y, resampled_convolution(x, w, taps_of_filter, **arguments), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_resample_differentiates_twice(groups):
    f = setup_filter(BINOMIAL)
    for case in ({"up": 2, "padding": 1}, {"down": 2, "padding": 1}, {"padding": 1}):
        gradgradcheck(
            lambda x, w, case=case: conv2d_resample(x, w, f, groups=groups, **case), randn(1, 2, 3, 3), randn(2, 2 // groups, 2, 2)
        )


def test_conv2d_resample_wants_one_dtype():
    with pytest.raises(TypeError, match="w must be of x's dtype"):
        conv2d_resample(torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 3, 3, dtype=torch.float64))


# conv2d_gradfix


@pytest.mark.parametrize("enabled", [False, True])
def test_enabled_changes_nothing(enabled, monkeypatch):
    monkeypatch.setattr(conv2d_gradfix, "enabled", enabled)
    monkeypatch.setattr(grid_sample_gradfix, "enabled", enabled)
    x, w, b = randn(2, 4, 7, 7), randn(6, 2, 3, 3), randn(6)
    y = conv2d_gradfix.conv2d(x, w, b, stride=2, padding=1, dilation=2, groups=2)
    assert torch.equal(y, F.conv2d(x, w, b, 2, 1, 2, 2))
    y = conv2d_gradfix.conv_transpose2d(x, w.view(4, 3, 3, 3), b, stride=2, padding=1, output_padding=1, groups=2, dilation=2)
    assert torch.equal(y, F.conv_transpose2d(x, w.view(4, 3, 3, 3), b, 2, 1, 1, 2, 2))
    grid = torch.rand(2, 3, 5, 2, dtype=torch.float64) * 2.4 - 1.2
    assert torch.equal(grid_sample_gradfix.grid_sample(x, grid), F.grid_sample(x, grid, "bilinear", "zeros", False))


def test_convolutions_differentiate_twice():
    x, w, b = randn(1, 2, 3, 3), randn(2, 2, 2, 2), randn(2)
    gradgradcheck(lambda x, w, b: conv2d_gradfix.conv2d(x, w, b, stride=2, padding=1), x, w, b)
    gradgradcheck(lambda x, w, b: conv2d_gradfix.conv_transpose2d(x, w, b, stride=2, padding=1), x, w, b)


CONVOLUTIONS = {
    "conv2d": lambda x, w: conv2d_gradfix.conv2d(x, w, padding=1),
    "conv_transpose2d": lambda x, w: conv2d_gradfix.conv_transpose2d(x, w, stride=2),
    "conv2d_resample": lambda x, w: conv2d_resample(x, w, setup_filter(BINOMIAL), up=2, padding=1),
    "conv2d_resample, grouped": lambda x, w: conv2d_resample(x, w[:, :1], setup_filter(BINOMIAL), up=2, padding=1, groups=2),
    "modulated_conv2d": lambda x, w: modulated_conv2d(x, w, x[:, :, 0, 0], padding=1),
    "modulated_conv2d of SG3": lambda x, w: networks_stylegan3.modulated_conv2d(x, w, x[:, :, 0, 0], padding=1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_no_weight_gradients_stops_them_while_it_lasts(name):
    convolve = CONVOLUTIONS[name]
    x, w = leaf(randn(2, 2, 4, 4)), leaf(randn(2, 2, 3, 3))
    convolve(x, w).square().sum().backward()
    whole = x.grad.clone()
    for disable in (True, False):
        x.grad = w.grad = None
        y = convolve(x, w).square().sum()
        with conv2d_gradfix.no_weight_gradients(disable):
            y.backward()
        assert torch.equal(x.grad, whole)
        assert (w.grad is None) == disable


def test_no_weight_gradients_ends_and_nests():
    with conv2d_gradfix.no_weight_gradients():
        with conv2d_gradfix.no_weight_gradients(disable=False):
            assert conv2d_gradfix.weight_gradients_disabled
        assert conv2d_gradfix.weight_gradients_disabled
    with pytest.raises(KeyError), conv2d_gradfix.no_weight_gradients():
        raise KeyError
    assert not conv2d_gradfix.weight_gradients_disabled


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_penalty_has_the_weight_gradients_that_it_should(name):
    """R1: the first derivative inside the block, that of its square outside."""
    grads = []
    for inside in (False, True):
        x, w = leaf(randn(2, 2, 4, 4)), leaf(randn(2, 2, 3, 3))
        torch.manual_seed(3)
        with torch.no_grad():
            x.copy_(torch.randn(2, 2, 4, 4)), w.copy_(torch.randn(2, 2, 3, 3))
        y = CONVOLUTIONS[name](x, w).pow(3).sum()
        with conv2d_gradfix.no_weight_gradients(disable=inside):
            (dx,) = torch.autograd.grad(y, x, create_graph=True)
        dx.square().sum().backward()
        grads.append(w.grad)
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(*grads)


# grid_sample_gradfix


@pytest.mark.parametrize("torch_does", [True, False])
def test_grid_sample_differentiates_twice_by_its_input(torch_does, monkeypatch):
    if torch_does and torch.__version__ < (2, 13):
        pytest.skip("torch differentiates it once")
    monkeypatch.setattr(grid_sample_gradfix, "_torch_differentiates_twice", torch_does)
    x, grid = randn(1, 2, 4, 5), torch.rand(1, 3, 3, 2, dtype=torch.float64) * 2.2 - 1.1
    gradcheck(grid_sample_gradfix.grid_sample, x, grid)
    gradgradcheck(lambda x: grid_sample_gradfix.grid_sample(x, grid).pow(3), x)
    if torch_does:
        gradgradcheck(grid_sample_gradfix.grid_sample, x, grid)
        return
    x, grid = leaf(x), leaf(grid)
    (dx,) = torch.autograd.grad(grid_sample_gradfix.grid_sample(x, grid).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative by the grid needs torch 2.13"):
        dx.square().sum().backward()


# modulated_conv2d


@pytest.mark.parametrize("fused_modconv", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_conv2d_gives_each_sample_its_weights(demodulate, fused_modconv):
    x, w, s, noise = randn(2, 3, 5, 5), randn(4, 3, 3, 3), randn(2, 3), randn(2, 1, 5, 5)
    y = modulated_conv2d(x, w, s, noise, padding=1, demodulate=demodulate, fused_modconv=fused_modconv)
    torch.testing.assert_close(y, styled_convolution(x, w, s, demodulate, 1) + noise)
    y = modulated_conv2d(x, w, s, padding=1, demodulate=demodulate, flip_weight=False, fused_modconv=fused_modconv)
    torch.testing.assert_close(y, styled_convolution(x, w.flip([2, 3]), s, demodulate, 1))


def test_modulated_conv2d_resamples_as_conv2d_resample():
    x, w, s, f = randn(2, 3, 6, 6), randn(4, 3, 3, 3), randn(2, 3), setup_filter(BINOMIAL)
    up = torch_upfirdn(x, f, up=2, padding=[3, 2, 3, 2], gain=4)
    torch.testing.assert_close(modulated_conv2d(x, w, s, up=2, padding=1, resample_filter=f), styled_convolution(up, w, s))
    down = torch_upfirdn(styled_convolution(x, w, s, padding=2), f, down=2)
    torch.testing.assert_close(modulated_conv2d(x, w, s, down=2, padding=1, resample_filter=f), down)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (2, 3)])
def test_modulated_conv2d_of_sg3_does_not_demodulate_its_input_gain(shape):
    x, w, s, gain = randn(2, 3, 5, 5), randn(4, 3, 3, 3), randn(2, 3), randn(*shape).abs()
    for demodulate in (True, False):
        y = networks_stylegan3.modulated_conv2d(x, w, s, demodulate, 2, gain)
        torch.testing.assert_close(y, styled_convolution(x, w, s, demodulate, 2, gain.expand(2, 3)))
    torch.testing.assert_close(networks_stylegan3.modulated_conv2d(x, w, s), styled_convolution(x, w, s))


def test_modulated_conv2d_differentiates_twice():
    shapes = randn(2, 2, 2, 2), randn(2, 2, 2, 2), randn(2, 2)
    gradgradcheck(lambda x, w, s: modulated_conv2d(x, w, s, padding=1), *shapes)
    gradgradcheck(lambda x, w, s: networks_stylegan3.modulated_conv2d(x, w, s, padding=1, input_gain=s[0].abs()), *shapes)


def test_no_weight_gradients_in_compiled_code_counts_as_the_forward_pass_runs():
    x, w = leaf(randn(2, 2, 4, 4)), leaf(randn(2, 2, 3, 3))
    convolve = torch.compile(conv2d_gradfix.conv2d, fullgraph=True, backend="aot_eager")
    for disable in (False, True, False):
        w.grad = None
        with conv2d_gradfix.no_weight_gradients(disable):
            convolve(x, w).sum().backward()
        assert (w.grad is None) == disable


def test_compiles():
    f = setup_filter(BINOMIAL)

    def layer(x, w, s):
        y = conv2d_resample(modulated_conv2d(x, w, s, up=2, padding=1, resample_filter=f), w, f, down=2, padding=1)
        y = conv2d_resample(y, w[:, :2], f, up=2, padding=1, groups=2)
        return conv2d_gradfix.conv_transpose2d(conv2d_gradfix.conv2d(y, w, padding=1), w, stride=2)

    assert_compiles(layer, "aot_eager", randn(2, 4, 5, 5), randn(4, 4, 3, 3), randn(2, 4))
    grid = torch.rand(2, 3, 3, 2, dtype=torch.float64)
    assert_compiles(lambda x: grid_sample_gradfix.grid_sample(x, grid), "aot_eager", randn(2, 2, 4, 4))
