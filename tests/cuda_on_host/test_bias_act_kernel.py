"""The CUDA kernels of bias_act, run on the host, against float64."""

import host
import pytest
import torch
from closed_forms import ACTS, CLOSED_FORMS, Expected
from support import DTYPES, ELEMENTARY, accumulate, assert_right, randn

from stylegan_ops._library import LIBRARIES

TERMS = 2 + 2 * ELEMENTARY  # bias, gain, and an activation of up to two elementary functions

# [outer, C, inner]: rows of one element to many, and vectors of few channels to many (inner == 1); whole vectors of 16 bytes and not
VIEWS = [
    (1, 1, 1),
    (2, 7, 15),
    (2, 3, 1089),
    (3, 16, 64),
    (1, 600, 7),
    (2, 129, 8),
    (33, 5, 33),
    (1, 1, 4099),
    (15, 7, 1),
    (700, 3, 1),
    (129, 33, 1),
    (7, 600, 1),
    (260, 64, 1),
    (9, 512, 1),
]


def fields(view, dtype, act, clamp):
    outer, channels, inner = view
    sizes = {"outer": outer, "channels": channels, "inner": inner, "dtype": host.DTYPES[dtype]}
    return sizes | {"activation": host.activation(act, clamp=clamp)}


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("view", host.few(VIEWS))
def test_matches_float64_reference(view, dtype):
    small = accumulate(dtype)
    for i, act in enumerate(ACTS):
        clamp = (None, 0.7)[(i + view[1]) % 2]  # 0.7 is none of the 16-bit numbers
        x, dy, b = randn(*view, dtype=dtype), randn(*view, dtype=dtype), None if i % 3 == 2 else randn(view[1], dtype=small)
        z = x.double() + (0 if b is None else b.double()[:, None])
        expected = Expected(z, x.double().abs() + z.abs(), dtype, act, clamp=clamp)
        common = fields(view, dtype, act, clamp)
        for got in host.launch("bias_act", x=x, b=b, y=host.output(x), **common):
            assert_right(got["y"], expected.y, dtype=dtype, terms=TERMS, magnitude=expected.y_size)

        ref = None if act == "linear" and clamp is None else (z if act == "swish" else expected.y).to(dtype)
        db = {} if b is None else {"db": host.output(b)}
        size, inner = dy.double().abs(), expected.slope_inner * dy.double().abs()
        wanted, magnitude = expected.slope * dy.double(), expected.slope_size * size
        eps = torch.finfo(small).eps
        loose = magnitude + (inner * torch.finfo(dtype).eps + expected.jump * size) / eps  # see test_bias_act.py
        for got in host.launch("bias_act_backward", dy=dy, ref=ref, dx=host.output(x), order=0, **db, **common):
            assert_right(got["dx"], wanted, dtype=dtype, terms=TERMS, magnitude=magnitude, inner=inner, where=~expected.doubtful)
            if db:
                terms = TERMS + z.numel() // view[1]
                assert_right(got["db"], wanted.sum([0, 2]), dtype=small, terms=terms, magnitude=loose.sum([0, 2]))


@pytest.mark.skipif(not LIBRARIES["cpu"].loaded, reason="compares with the compiled CPU library")
@pytest.mark.parametrize("act", ACTS)
def test_higher_derivatives_are_those_of_the_cpu(act):
    """What the tests of all derivatives have shown right, in float64."""
    form, view = CLOSED_FORMS[act], (2, 3, 9)
    dy, ref = randn(*view), randn(*view)
    for order in (1, 2, 3, 6):
        for clamp in (None, 0.9):
            arguments = 1, ACTS.index(act), form.alpha, form.gain, -1.0 if clamp is None else clamp, order
            wanted, sums = torch.ops.stylegan_ops.bias_act_backward(dy, ref, *arguments, True)
            outputs = {"dx": host.output(dy), "db": host.output([3], torch.float64)}
            for got in host.launch("bias_act_backward", dy=dy, ref=ref, order=order, **outputs, **fields(view, dy.dtype, act, clamp)):
                torch.testing.assert_close(got["dx"], wanted, rtol=1e-12, atol=1e-10)
                torch.testing.assert_close(got["db"], sums, rtol=1e-12, atol=1e-10)
