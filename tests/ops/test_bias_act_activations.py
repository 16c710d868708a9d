"""The activations of bias_act: defaults, edges, tiny and huge arguments, and derivatives beyond the second."""

from math import inf, nan, sqrt

import pytest
import torch
from closed_forms import ACTS, SMOOTH, activate
from support import DTYPES, ELEMENTARY, assert_right, grads, leaf, randn

from stylegan_ops import bias_act

TERMS = 2 + 2 * ELEMENTARY

# Negative slope and gain where none are given: the table that other implementations of this op share.
DEFAULTS = {
    "linear": (0, 1),
    "relu": (0, sqrt(2)),
    "lrelu": (0.2, sqrt(2)),
    "tanh": (0, 1),
    "sigmoid": (0, 1),
    "elu": (0, 1),
    "selu": (0, 1),
    "softplus": (0, 1),
    "swish": (0, sqrt(2)),
}


@pytest.mark.parametrize("act", ACTS)
def test_defaults(kernel, act):
    x, (alpha, gain) = randn(7, 33), DEFAULTS[act]
    assert torch.equal(bias_act(x, act=act), bias_act(x, act=act, alpha=alpha, gain=gain))
    assert_right(bias_act(x, act=act), activate(x, act, alpha, gain)[0], dtype=x.dtype, terms=TERMS)


@pytest.mark.parametrize("act", ACTS)
def test_closed_forms(kernel, act):
    """Value and first two derivatives in float64, for the arguments' whole range."""
    x = randn(7, 33) * 3
    for alpha, gain, clamp in [
        (None, None, None),
        (0.3, -1.5, None),
        (None, 0.8, 0.5),
        (-0.4, None, None),
        (None, 0.0, None),
        (-0.4, 2, 1),
    ]:
        wanted = activate(x, act, alpha, gain, clamp)
        got = derivatives(x, 2, act=act, alpha=alpha, gain=gain, clamp=clamp)
        for d, truth in zip(got, wanted, strict=True):
            assert_right(d, truth, dtype=torch.float64, terms=TERMS, magnitude=truth.abs() + 2 * abs(gain or 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_clamp_edges(kernel, dtype):
    """At and beyond the clamp the gradient is 0; NaN passes as NaN."""
    x = leaf(torch.tensor([-inf, -2, -0.5, -0.25, 0, 0.25, 0.5, 0.625, inf, nan], dtype=dtype))
    y = bias_act(x, dim=0, clamp=0.5)
    assert torch.equal(y[:-1], torch.tensor([-0.5, -0.5, -0.5, -0.25, 0, 0.25, 0.5, 0.5, 0.5], dtype=dtype))
    assert y[-1].isnan()
    (dx,) = grads(y, [x], torch.full_like(y, 3))
    assert torch.equal(dx, torch.tensor([0, 0, 0, 3, 3, 3, 0, 0, 0, 3], dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTS)
def test_gradient_is_zero_where_the_output_is_the_clamp(kernel, act, dtype):
    """For a clamp that the dtype does not hold too: 0.7 is rounded down in bfloat16 and float32, 0.3 in float16."""
    for clamp in (0.7, 0.3, 0.1):
        x = leaf(torch.tensor([50, 1.5, -1.5, -50], dtype=dtype))
        y = bias_act(x, dim=0, act=act, clamp=clamp)
        (dx,) = grads(y, [x], torch.ones_like(y))
        clamped = y.detach().abs() >= torch.tensor(clamp, dtype=dtype)
        assert clamped[0] and torch.equal(dx[clamped], torch.zeros_like(dx[clamped]))


def test_clamp_of_zero(kernel):
    x = leaf(randn(3, 7))
    y = bias_act(x, act="lrelu", clamp=0)
    assert torch.equal(y, torch.zeros_like(y))
    assert torch.equal(grads(y, [x], torch.ones_like(y))[0], torch.zeros_like(y))


@pytest.mark.parametrize("act", ACTS)
def test_nan_stays_nan(kernel, act):
    for dtype in DTYPES:
        for clamp in (None, 0.5):
            y = bias_act(torch.tensor([1.0, nan, -1.0], dtype=dtype), dim=0, act=act, clamp=clamp)
            assert y.isnan().tolist() == [False, True, False]


LIMITS = {  # at minus and plus infinity
    "linear": (-inf, inf),
    "relu": (0, inf),
    "lrelu": (-inf, inf),
    "tanh": (-1, 1),
    "sigmoid": (0, 1),
    "elu": (-1, inf),
    "selu": (-1.7580993408473766, inf),
    "softplus": (0, inf),
}


@pytest.mark.parametrize("act", LIMITS)
def test_infinity(kernel, act):
    for dtype in DTYPES:
        y = bias_act(torch.tensor([-inf, inf], dtype=dtype), dim=0, act=act, gain=1)
        torch.testing.assert_close(y, torch.tensor(LIMITS[act], dtype=dtype), rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("act", "at_zero"), [("relu", 0.0), ("lrelu", 0.25)])
def test_kink(kernel, act, at_zero, dtype):
    x = leaf(torch.tensor([-1, -0.0, 0.0, 1], dtype=dtype))
    y = bias_act(x, dim=0, act=act, alpha=0.25, gain=2)
    (dx,) = grads(y, [x], torch.ones_like(y))
    assert torch.equal(dx, torch.tensor([2 * at_zero, 2 * at_zero, 2 * at_zero, 2], dtype=dtype))


# Arguments where a careless formula loses all its digits or overflows.
EXTREME = [1e-30, 1e-8, 1e-6, 1e-4, 1e-2, 0.3, 0.35, 1.0, 5.0, 9.0, 17.0, 30.0, 50.0, 86.9, 87.1, 88.8, 100.0, 1e3, 1e4]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTS)
def test_relative_accuracy(kernel, act, dtype):
    """Every result has all its digits, also tanh(1e-4), elu(-1e-6), softplus(-50); the gradients are finite and right."""
    x = torch.tensor([s * v for v in [*EXTREME, 0.0] for s in (1, -1)]).to(dtype)
    truth, slope, _ = activate(x, act, gain=1)
    z = leaf(x)
    y = bias_act(z, dim=0, act=act, gain=1)
    tiny = torch.finfo(torch.float32).tiny * x.double().abs() / torch.finfo(torch.float32).eps  # swish is x times a sigmoid that underflows
    assert_right(y, truth, dtype=dtype, terms=TERMS, magnitude=truth.abs() + tiny * (act == "swish"))
    # The slope as a function of the rounded output or, for swish, of x: off by that rounding, absolutely where it saturates.
    (dx,) = grads(y, [z], torch.ones_like(y), create_graph=True)
    inner = x.double().abs().clamp(max=1) * (1 if act in SMOOTH else 0)
    kink = (x == 0) & torch.tensor(act in ("relu", "lrelu"))
    assert_right(dx, slope, dtype=dtype, terms=TERMS, magnitude=slope + inner, inner=inner, where=~kink)
    if dx.requires_grad:
        assert grads(dx, [z], torch.ones_like(dx))[0].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_softplus_slope_keeps_its_digits(kernel, dtype):
    """Where softplus(z) is nearly e^z, so is its slope."""
    z = leaf(torch.tensor([-3.0, -7.0, -9.0]).to(dtype))
    y = bias_act(z, dim=0, act="softplus")
    slope = activate(z.detach(), "softplus")[1]
    assert_right(grads(y, [z], torch.ones_like(y))[0], slope, dtype=dtype, terms=TERMS, inner=slope)


def derivatives(x, order, **kwargs):
    """`[y, dy/dx, ..., d^order y / dx^order]`, zeros where autograd says that there is nothing to differentiate."""
    x = leaf(x)
    found = [bias_act(x, dim=0, **kwargs)]
    for _ in range(order):
        d = None
        if found[-1].requires_grad:
            (d,) = torch.autograd.grad(found[-1], x, torch.ones_like(x), create_graph=True, allow_unused=True)
        found.append(torch.zeros_like(x) if d is None else d)
    return found


@pytest.mark.parametrize("gain", [1, 1.7, -0.6])
@pytest.mark.parametrize("act", ACTS)
def test_fourth_derivative(kernel, act, gain):
    x = randn(33) * 2
    for clamp in (None, 0.9):
        wanted = derivatives(x, 4, act=act, gain=gain, clamp=clamp, impl="reference")
        # swish of order k has terms up to k! times the value
        for got, truth in zip(derivatives(x, 4, act=act, gain=gain, clamp=clamp), wanted, strict=True):
            assert_right(got, truth.detach(), dtype=x.dtype, terms=8 * TERMS, magnitude=truth.detach().abs() + abs(gain) * 4)


@pytest.mark.parametrize("act", SMOOTH)
def test_second_derivative_in_less_precision(kernel, act):
    x = randn(33)
    truth = derivatives(x, 2, act=act, impl="reference")[2].detach()
    for dtype in DTYPES[1:]:
        got = derivatives(x.to(dtype), 2, act=act)[2]
        assert got.dtype == dtype
        truth = derivatives(x.to(dtype).double(), 2, act=act, impl="reference")[2].detach()
        # two backward passes, each of them rounded and on a rounded output
        assert_right(got, truth, dtype=dtype, terms=4 * TERMS, magnitude=truth.abs() + 2, inner=torch.full_like(truth, 8))


@pytest.mark.parametrize("act", ACTS)
def test_gain_of_zero(kernel, act):
    y, dx, d2x = derivatives(randn(33), 2, act=act, gain=0)
    for t in (y, dx, d2x):
        assert torch.equal(t, torch.zeros(33, dtype=torch.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_negative_slope_that_folds(kernel, dtype):
    """With alpha < 0 the output no longer tells the sign of its argument."""
    x = randn(129, dtype=dtype)
    truth, slope, _ = activate(x, "lrelu", alpha=-0.5, gain=1.25)
    z = leaf(x)
    y = bias_act(z, dim=0, act="lrelu", alpha=-0.5, gain=1.25)
    assert_right(y, truth, dtype=dtype, terms=TERMS)
    assert_right(grads(y, [z], torch.ones_like(y))[0], slope, dtype=dtype, terms=TERMS)


def test_more_derivatives_than_there_are_raise(native):
    """Not a wrong number: the family of derivatives ends somewhere, and says so."""
    x = leaf(torch.tensor([0.5], dtype=torch.float64))
    y = bias_act(x, dim=0, act="swish")
    with pytest.raises(RuntimeError, match="derivatives are available to order 11"):
        for _ in range(12):
            (y,) = grads(y, [x], torch.ones_like(y), create_graph=True)
