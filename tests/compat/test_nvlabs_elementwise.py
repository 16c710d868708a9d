"""`torch_utils.ops`: bias_act, fma and filtered_lrelu, a row of the interface after the other."""

import warnings

import numpy as np
import pytest
import torch
from definitions import ACTIVATIONS, BINOMIAL, assert_signature, torch_upfirdn, upfirdn
from support import DTYPES, LAYOUTS, assert_compiles, assert_rejects, gradgradcheck, leaf, randn

from stylegan_ops.compat.nvlabs import bias_act as module
from stylegan_ops.compat.nvlabs.bias_act import activation_funcs, bias_act
from stylegan_ops.compat.nvlabs.filtered_lrelu import filtered_lrelu
from stylegan_ops.compat.nvlabs.fma import fma
from stylegan_ops.compat.nvlabs.upfirdn2d import setup_filter

pytestmark = pytest.mark.filterwarnings("error")
IMPLS = ("cuda", "ref")


def test_signatures():
    assert_signature(bias_act, "x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, impl='cuda'")
    assert_signature(fma, "a, b, c")
    assert_signature(
        filtered_lrelu,
        "x, fu=None, fd=None, b=None, up=1, down=1, padding=0, gain=sqrt(2), slope=0.2, clamp=None, flip_filter=False, impl='cuda'",
    )


# bias_act


def test_activation_funcs_has_the_rows_of_the_table():
    assert list(activation_funcs) == list(ACTIVATIONS)
    z = np.linspace(-3, 3, 25)
    for name, (function, alpha, gain, number, ref, has_2nd_grad) in ACTIVATIONS.items():
        row = activation_funcs[name]
        assert (row.def_alpha, row.def_gain, row.cuda_idx, row.ref, row.has_2nd_grad) == (alpha, gain, number, ref, has_2nd_grad)
        assert row["def_alpha"] == row.def_alpha
        for a in (row.def_alpha, 0.4):
            np.testing.assert_allclose(row.func(torch.from_numpy(z), alpha=a).numpy(), function(z, a), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_then_activation_then_gain_then_clamp(act, impl):
    function, alpha, gain, *_ = ACTIVATIONS[act]
    x, b = randn(2, 3, 5, 4), randn(3)
    z = x.numpy() + b.numpy()[None, :, None, None]
    np.testing.assert_allclose(bias_act(x, b, act=act, impl=impl).numpy(), function(z, alpha) * gain, rtol=1e-12, atol=1e-14)
    y = bias_act(x, b, 1, act, 0.3, 2.0, 0.7, impl)
    np.testing.assert_allclose(y.numpy(), np.clip(function(z, 0.3) * 2, -0.7, 0.7), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_the_bias_lies_along_dim(dim):
    x = randn(3, 4, 5)
    b = randn(x.shape[dim])
    shape = [1, 1, 1]
    shape[dim] = -1
    assert torch.equal(bias_act(x, b, dim), x + b.view(shape))


def test_the_defaults_of_the_table_may_be_changed(monkeypatch):
    monkeypatch.setitem(activation_funcs, "lrelu", module.EasyDict(activation_funcs["lrelu"]))
    activation_funcs["lrelu"].def_gain = 3.0
    activation_funcs["lrelu"].def_alpha = 0.5
    assert torch.equal(bias_act(torch.tensor([-2.0, 2.0]), act="lrelu"), torch.tensor([-3.0, 6.0]))
    del activation_funcs["lrelu"].ref
    assert not hasattr(activation_funcs["lrelu"], "ref")


@pytest.mark.parametrize("impl", IMPLS)
def test_the_gradient_at_the_clamp_is_zero_and_nan_passes(impl):
    x = leaf(torch.tensor([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]))
    bias_act(x, clamp=1.0, impl=impl).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 0, 0]
    assert bias_act(torch.tensor([float("nan")]), clamp=1.0, impl=impl).isnan().all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_has_the_dtype_and_layout_of_x(dtype, impl):
    for layout in LAYOUTS:
        x = randn(2, 4, 3, 3, dtype=dtype, layout=layout)
        y = bias_act(x, torch.ones(4), act="swish", impl=impl)
        assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
    rows = randn(2, 5, 4, dtype=dtype).transpose(1, 2)  # 3 dimensions, channels with stride 1
    assert torch.equal(bias_act(rows, impl=impl), rows)


def test_bias_act_rejects():
    x = torch.zeros(2, 3)
    assert_rejects(ValueError, "bias_act: impl must be 'cuda' or 'ref' (got 'native')", bias_act, x, impl="native")
    for wrong in ({"act": "mish"}, {"b": torch.zeros(2)}, {"clamp": -1.0}):
        with pytest.raises(ValueError, match="^bias_act: "):
            bias_act(x, **wrong)


@pytest.mark.parametrize("act", ["lrelu", "tanh", "swish"])
def test_bias_act_differentiates_to_the_third_order(act):
    def gradient(x, b):
        return torch.autograd.grad(bias_act(x, b, act=act, clamp=2.0).square().sum(), [x, b], create_graph=True)

    gradgradcheck(lambda x, b: bias_act(x, b, act=act, clamp=2.0), randn(2, 3, 2, 2), randn(3))
    gradgradcheck(gradient, randn(1, 2, 2, 1), randn(2))


@pytest.mark.parametrize("name", ["_inited", "_plugin"])
def test_globals_that_forks_patch_are_there(name, monkeypatch):
    monkeypatch.setattr(module, name, None)
    assert module._init() is True


# fma


def test_fma_broadcasts_and_reduces_its_gradients():
    a, b, c = randn(2, 3, 4, 4), randn(2, 3, 1, 1), randn(4, 4)
    torch.testing.assert_close(fma(a, b, c), a * b + c)
    assert fma(a.float(), b.float(), c.float()).dtype == torch.float32
    leaves = [leaf(t) for t in (a, b, c)]
    grads = torch.autograd.grad(fma(*leaves).sum(), leaves)
    torch.testing.assert_close(grads[0], b.expand_as(a))
    torch.testing.assert_close(grads[1], a.sum(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(grads[2], torch.full([4, 4], 6.0, dtype=torch.float64))
    gradgradcheck(fma, randn(2, 2, 3), randn(2, 1, 3), randn(3))


# filtered_lrelu

FIR = [0.1, 0.2, 0.4, 0.2, 0.05, 0.05]


def by_steps(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter):
    y = torch_upfirdn(x + b[None, :, None, None], fu, up=up, padding=padding, flip_filter=flip_filter, gain=up**2)
    y = torch.where(y < 0, slope * y, y) * gain
    return torch_upfirdn(y.clamp(-clamp, clamp), fd, down=down, flip_filter=flip_filter)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("up", "down", "padding"), [(2, 2, 5), (4, 2, [9, 8, 7, 6]), (1, 1, [3, 4]), (2, 1, -1), (1, 2, 2)])
def test_filtered_lrelu_is_its_steps(up, down, padding, impl):
    x, b = randn(2, 3, 9, 8), randn(3)
    fu, fd = torch.tensor(FIR, dtype=torch.float64), torch.tensor([[0.1, 0.3, 0.2], [0.2, 0.4, 0.0]], dtype=torch.float64)
    for flip_filter in (False, True):
        y = filtered_lrelu(x, fu, fd, b, up, down, padding, 1.3, 0.3, 1.0, flip_filter, impl)
        torch.testing.assert_close(y, by_steps(x, fu, fd, b, up, down, padding, 1.3, 0.3, 1.0, flip_filter), rtol=1e-6, atol=1e-7)


def test_filtered_lrelu_without_filters_is_a_leaky_relu():
    x = randn(2, 3, 4, 5)
    torch.testing.assert_close(filtered_lrelu(x), torch.where(x < 0, 0.2 * x, x) * 2**0.5)


def test_filtered_lrelu_keeps_the_amplitude_of_what_it_upsamples():
    flat = torch.full([1, 1, 12, 12], 3.0)
    y = filtered_lrelu(flat, setup_filter([1] * 12), setup_filter([1] * 12), up=2, down=2, padding=11, gain=1)
    torch.testing.assert_close(y[:, :, 6, 6], torch.full([1, 1], 3.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_filtered_lrelu_runs_in_every_dtype_and_layout_without_a_word(dtype):
    f = setup_filter([1] * 12)
    truth = upfirdn(np.maximum(upfirdn(np.ones((1, 2, 6, 6)), f, 2, 1, 11, gain=4), 0), f, down=2)
    for layout in LAYOUTS:
        with warnings.catch_warnings(record=True) as caught:
            y = filtered_lrelu(torch.ones(1, 2, 6, 6, dtype=dtype).contiguous(memory_format=layout), f, f, None, 2, 2, 11, 1.0, 0.0)
        assert caught == [] and y.dtype == dtype and y.is_contiguous(memory_format=layout)
        np.testing.assert_allclose(y.double().numpy(), truth, rtol=16 * torch.finfo(dtype).eps, atol=1e-5)


def test_filtered_lrelu_differentiates_twice():
    f = setup_filter(BINOMIAL, separable=True)
    gradgradcheck(lambda x, b: filtered_lrelu(x, f, f, b, 2, 2, 3, clamp=2.0).pow(2), randn(1, 2, 3, 3), randn(2))


def test_filtered_lrelu_rejects():
    for wrong in ({"b": torch.zeros(2)}, {"impl": "fast"}, {"clamp": -1.0}, {"up": 0}):
        with pytest.raises(ValueError):
            filtered_lrelu(torch.zeros(1, 3, 4, 4), **wrong)


def test_compiles():
    f = setup_filter(BINOMIAL)

    def layer(x, b):
        y = bias_act(x, b, act="lrelu", clamp=2.0)
        return fma(filtered_lrelu(y, f, f, b, 2, 2, 3), x[:, :, :1, :1], b[:, None, None])

    assert_compiles(layer, "aot_eager", randn(2, 3, 5, 5), randn(3))
