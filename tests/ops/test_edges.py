"""Inputs that no network has but some user will: nothing to do, numbers of other libraries, factors beyond every image, unchecked calls."""

import numpy as np
import pytest
import torch

from stylegan_ops import adain, bias_act, conv_epilogue, filtered_lrelu, modulated_conv2d, pixel_norm, setup_filter, upfirdn2d

F = setup_filter([1, 2, 1])


@pytest.mark.parametrize("act", ["relu", "lrelu", "tanh", "swish"])
def test_empty_batch_has_two_derivatives(act):
    x = torch.randn(0, 3, 4, 4, requires_grad=True)
    weight, styles = torch.randn(5, 3, 3, 3, requires_grad=True), torch.randn(0, 3, requires_grad=True)
    layer = modulated_conv2d(x, weight, styles, padding=1, act=act)
    for y in (bias_act(x, act=act), layer, conv_epilogue(x, act=act), adain(x, act=act), filtered_lrelu(x)):
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (g.square() * x).sum().backward()  # a leaky ReLU's gradient is a constant: x keeps the graph
        assert g.shape == x.shape


def test_numpy_integers_are_integers():
    x = torch.randn(1, 2, 6, 6)
    expected = upfirdn2d(x, F, up=2, down=2, padding=[1, 2, 0, 1])
    two, padding = np.int64(2), [np.int32(p) for p in (1, 2, 0, 1)]
    assert torch.equal(upfirdn2d(x, F, up=two, down=[two, two], padding=padding), expected)
    assert torch.equal(upfirdn2d(x, F, padding=np.int64(3)), upfirdn2d(x, F, padding=3))


@pytest.mark.parametrize("impl", ["reference", "auto"])
@pytest.mark.parametrize("flag", [False, True])
def test_numpy_flags_are_flags(impl, flag):
    x, weight, styles = torch.randn(1, 2, 6, 6), torch.randn(3, 2, 3, 3), torch.randn(1, 2)
    f = setup_filter([1, 2, 4], normalize=np.bool_(flag), flip_filter=np.bool_(flag))
    assert torch.equal(f, setup_filter([1, 2, 4], normalize=flag, flip_filter=flag))
    assert torch.equal(upfirdn2d(x, f, flip_filter=np.bool_(flag), impl=impl), upfirdn2d(x, f, flip_filter=flag, impl=impl))
    flags = {"demodulate": flag, "flip_weight": flag}
    got = modulated_conv2d(x, weight, styles, **{name: np.bool_(value) for name, value in flags.items()}, impl=impl)
    assert torch.equal(got, modulated_conv2d(x, weight, styles, **flags, impl=impl))


@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_a_stride_beyond_the_image_leaves_one_pixel(impl):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = upfirdn2d(x, F, down=2**40, padding=2, impl=impl)
    assert torch.equal(y, upfirdn2d(x, F, padding=2, impl=impl)[:, :, :1, :1])
    y.sum().backward()
    assert x.grad.count_nonzero() <= 2 * 3 * F.numel()


def test_sides_beyond_memory_are_refused():
    x = torch.randn(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"upfirdn2d: the upsampled and padded image must have fewer than 2\^31 pixels a side \(got"):
        upfirdn2d(x, F, up=2**40, padding=-(2**43))
    with pytest.raises(ValueError, match="modulated_conv2d: the upsampled and padded image"):
        modulated_conv2d(x, torch.randn(1, 1, 3, 3), None, padding=2**40)


@pytest.mark.parametrize("op", [lambda x: bias_act(x, dim=1.0), lambda x: pixel_norm(x, dim=1.5)])
def test_a_dimension_is_an_integer(op):
    with pytest.raises(TypeError, match=r"dim must be an integer \(got 1\."):
        op(torch.randn(2, 3))


@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_transposed_images_come_back_contiguous(impl):
    x = torch.randn(4, 6, 11, 9).transpose(2, 3)
    for op in (adain, bias_act, conv_epilogue, filtered_lrelu, pixel_norm, lambda x, impl: upfirdn2d(x, F, padding=1, impl=impl)):
        assert op(x, impl=impl).is_contiguous()


def test_the_reference_filters_in_float32_under_autocast():
    x = torch.randn(1, 2, 9, 9)
    expected = upfirdn2d(x, F, padding=1, impl="reference")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(upfirdn2d(x, F, padding=1, impl="reference"), expected)


def test_calls_past_the_public_function_stay_in_memory(native):
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(RuntimeError, match="dim must be within"):
        torch.ops.stylegan_ops.bias_act(x, torch.ones(3), -3, 2, 0.2, 1.0, -1.0)
    with pytest.raises(RuntimeError, match="dim must be within"):
        torch.ops.stylegan_ops.bias_act_backward(x, None, -1, 0, 0.0, 1.0, -1.0, 0, True)
    with pytest.raises(RuntimeError, match="noise_strength must have 3 elements"):
        torch.ops.stylegan_ops.adain(x, None, None, torch.ones(1, 1, 4, 4), torch.ones(2), None, 0, 0.0, 1.0, 1e-8)
    with pytest.raises(RuntimeError, match=r"noise must be \[N or 1, 1, H, W\]"):
        torch.ops.stylegan_ops.adain(x, None, None, torch.ones(4, 4), None, None, 0, 0.0, 1.0, 1e-8)
    with pytest.raises(RuntimeError, match="the gradient of noise needs noise"):
        torch.ops.stylegan_ops.adain_backward(x, x, None, None, None, None, 0, 0.0, 1.0, 1e-8, 4)
    with pytest.raises(RuntimeError, match="weight must have elements"):
        torch.ops.stylegan_ops.modulated_conv2d(x, torch.randn(3, 0, 3, 3), None, 2, 0, 0, True, 0, 0, False)
