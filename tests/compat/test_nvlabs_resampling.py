"""`torch_utils.ops.upfirdn2d`, a row of the interface after the other."""

import numpy as np
import pytest
import torch
from definitions import BINOMIAL, assert_signature, upfirdn
from support import DTYPES, LAYOUTS, assert_compiles, gradgradcheck, leaf, randn

from stylegan_ops.compat.nvlabs.upfirdn2d import _init, downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

pytestmark = pytest.mark.filterwarnings("error")
IMPLS = ("cuda", "ref")


def test_signatures():
    assert_signature(setup_filter, "f, device=cpu, normalize=True, flip_filter=False, gain=1, separable=None")
    assert_signature(upfirdn2d, "x, f, up=1, down=1, padding=0, flip_filter=False, gain=1, impl='cuda'")
    assert_signature(filter2d, "x, f, padding=0, flip_filter=False, gain=1, impl='cuda'")
    assert_signature(upsample2d, "x, f, up=2, padding=0, flip_filter=False, gain=1, impl='cuda'")
    assert_signature(downsample2d, "x, f, down=2, padding=0, flip_filter=False, gain=1, impl='cuda'")


def test_setup_filter():
    row = np.array([1.0, 3, 3, 1])
    assert setup_filter(None).tolist() == setup_filter(7).tolist() == [[1.0]]
    np.testing.assert_allclose(setup_filter(row), np.outer(row, row) / 64)
    np.testing.assert_allclose(setup_filter(row, separable=True), row / 8)
    assert setup_filter([1] * 7).shape == (7, 7) and setup_filter([1] * 8).shape == (8,)
    steps = [[1.0, 2.0], [3.0, 4.0]]
    assert setup_filter(steps, normalize=False, flip_filter=True).tolist() == [[4.0, 3.0], [2.0, 1.0]]
    np.testing.assert_allclose(setup_filter(steps, gain=4), 4 * np.array(steps) / 10, rtol=1e-6)
    np.testing.assert_allclose(setup_filter([1] * 8, gain=4), [2 / 8] * 8)  # gain^(1/2): a row is applied twice
    for dtype in DTYPES:
        f = setup_filter(torch.ones(3, dtype=dtype))
        assert f.dtype == torch.float32 and f.device.type == "cpu"


CASES = [
    {},
    {"up": 2, "padding": [2, 1, 2, 1]},
    {"down": 2, "padding": 1},
    {"up": [3, 1], "down": [1, 2], "padding": [4, 2]},
    {"up": 2, "down": 3, "padding": [-1, 3, 0, -2], "flip_filter": True, "gain": 1.7},
    {"padding": [3, 5]},
]
FILTERS = {"none": None, "row": [0.1, 0.7, 0.2], "square": [[0.1, 0.4], [0.3, 0.2]], "tap": [[2.0]]}


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("f", FILTERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_upfirdn2d_is_its_definition(case, f, impl):
    x, taps = randn(2, 3, 8, 9), FILTERS[f]
    y = upfirdn2d(x, None if taps is None else torch.tensor(taps, dtype=torch.float64), **case, impl=impl)
    np.testing.assert_allclose(y.numpy(), upfirdn(x.numpy(), taps, **case), rtol=1e-12, atol=1e-13)


def test_output_size():
    for size, up, down, before, after, taps in [(7, 2, 3, 2, 1, 4), (9, 1, 2, 0, 0, 3), (5, 3, 1, -1, -2, 2)]:
        y = upfirdn2d(torch.zeros(1, 1, size, size), torch.ones(taps, taps), up, down, [before, after, before, after])
        assert y.shape[2:] == ((size * up + before + after - taps) // down + 1,) * 2


@pytest.mark.parametrize("impl", IMPLS)
def test_filters_that_keep_double_and_halve_the_size(impl):
    x, f = randn(1, 2, 8, 6), np.outer([1, 2, 3, 1], [2, 1, 1, 3]) / 49
    taps = torch.from_numpy(f)
    same = {"rtol": 1e-12, "atol": 1e-13}
    y = filter2d(x, taps, padding=[1, 0], flip_filter=True, gain=2, impl=impl)
    np.testing.assert_allclose(y, upfirdn(x.numpy(), f, padding=[3, 2, 2, 1], flip_filter=True, gain=2), **same)
    y = upsample2d(x, taps, up=[2, 3], padding=[1, 0, 0, 2], gain=0.5, impl=impl)
    np.testing.assert_allclose(y, upfirdn(x.numpy(), f, up=[2, 3], padding=[3, 1, 3, 2], gain=0.5 * 6), **same)
    y = downsample2d(x, taps, down=2, padding=1, impl=impl)
    np.testing.assert_allclose(y, upfirdn(x.numpy(), f, down=2, padding=[2, 2, 2, 2]), **same)
    assert filter2d(x, taps).shape[2:] == (8, 6)
    assert upsample2d(x, taps).shape[2:] == (16, 12) and downsample2d(x, taps).shape[2:] == (4, 3)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_layout_and_empty_batch(dtype, impl):
    f = setup_filter(BINOMIAL)
    for layout in LAYOUTS:
        y = upsample2d(randn(2, 3, 4, 5, dtype=dtype, layout=layout), f, impl=impl)
        assert y.dtype == dtype and y.is_contiguous(memory_format=layout)
    assert upsample2d(torch.zeros(0, 3, 4, 5, dtype=dtype), f, impl=impl).shape == (0, 3, 8, 10)


def test_rejects():
    x, f = torch.zeros(1, 1, 8, 8), torch.ones(2, 2)
    with pytest.raises(ValueError, match="f must not require a gradient"):
        upfirdn2d(x, leaf(f))
    for wrong in ({"impl": "fast"}, {"up": 0}, {"padding": [1, 2, 3]}, {"padding": -5}):
        with pytest.raises(ValueError, match="^upfirdn2d: "):
            upfirdn2d(x, f, **wrong)
    with pytest.raises(ValueError, match="taps with a sum other than 0"):
        setup_filter([1, -1])


def test_a_build_is_never_tried_again():
    assert _init() is True


def test_derivatives_of_any_order_in_x():
    f = torch.tensor([[0.5, 1.0], [2.0, -1.0]])
    gradgradcheck(lambda x: upfirdn2d(x, f, up=2, down=[1, 3], padding=[2, 1], flip_filter=True).pow(3), randn(1, 2, 3, 3))


def test_compiles():
    f = setup_filter(BINOMIAL)
    assert_compiles(lambda x: downsample2d(filter2d(upsample2d(x, f), f, padding=[1, 2]), f), "aot_eager", randn(2, 3, 5, 5))
