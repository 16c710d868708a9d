"""setup_filter, and filter2d, upsample2d and downsample2d: what they make of their arguments."""

import numpy as np
import pytest
import torch
from support import DTYPES, assert_rejects, randn

from stylegan_ops import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d


def same(f, wanted):
    torch.testing.assert_close(f, torch.as_tensor(wanted, dtype=torch.float32), rtol=1e-6, atol=0)


def test_setup_filter_of_a_number_is_one_tap():
    same(setup_filter(None), [[1]])
    same(setup_filter(5), [[1]])
    same(setup_filter(5, normalize=False), [[25]])  # separable once, so the outer product with itself


def test_setup_filter_makes_short_rows_2d():
    row = torch.tensor([1.0, 3, 3, 1])
    same(setup_filter([1, 3, 3, 1]), row.outer(row) / 64)
    same(setup_filter([1, 3, 3, 1], separable=True), row / 8)
    assert setup_filter([1] * 7).shape == (7, 7)
    same(setup_filter([1] * 8), [1 / 8] * 8)
    same(setup_filter([1] * 8, separable=False), [[1 / 64] * 8] * 8)


def test_setup_filter_takes_what_holds_numbers():
    wanted = [[0.1, 0.2], [0.3, 0.4]]
    for f in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 4]]), ((1.0, 2.0), (3.0, 4.0))):
        same(setup_filter(f), wanted)


def test_setup_filter_is_float32():
    for dtype in DTYPES:
        assert setup_filter(torch.ones(3, dtype=dtype)).dtype == torch.float32


def test_setup_filter_flips_every_dimension():
    same(setup_filter([[1, 2], [3, 4]], flip_filter=True, normalize=False), [[4, 3], [2, 1]])
    same(setup_filter([1, 2, 3], flip_filter=True, normalize=False, separable=True), [3, 2, 1])


def test_setup_filter_gain_is_that_of_both_passes():
    """A row is applied twice, so that each pass takes the root."""
    same(setup_filter([[1, 2], [3, 4]], gain=4, normalize=False), [[4, 8], [12, 16]])
    same(setup_filter([1, 2, 3], gain=4, normalize=False, separable=True), [2, 4, 6])
    x = randn(1, 1, 5, 5)
    for separable in (True, False):
        f = setup_filter([1, 3, 3, 1], gain=2.5, separable=separable)
        torch.testing.assert_close(upfirdn2d(x, f), upfirdn2d(x, setup_filter([1, 3, 3, 1]), gain=2.5), rtol=1e-6, atol=1e-7)


def test_setup_filter_device():
    assert setup_filter([1, 2], device="meta").device.type == "meta"
    assert setup_filter([1, 2], torch.device("cpu")).device.type == "cpu"


def test_setup_filter_leaves_its_argument():
    f = torch.tensor([[1.0, 2.0]])
    setup_filter(f, gain=3)
    assert torch.equal(f, torch.tensor([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (TypeError, "f must be taps, a number or None (got 'box')", {"f": "box"}),
        (ValueError, "f must have 0, 1 or 2 dimensions and at least 1 tap (got shape (1, 1, 1))", {"f": [[[1.0]]]}),
        (ValueError, "f must have 0, 1 or 2 dimensions and at least 1 tap (got shape (0,))", {"f": []}),
        (ValueError, "f and gain must give finite taps (got [[nan, nan], [nan, nan]])", {"f": [1, float("nan")]}),
        (ValueError, "f and gain must give finite taps (got [[inf]])", {"f": 1, "gain": 1e39}),
        (ValueError, "separable=True needs a filter of 1 dimension (got shape (2, 2))", {"f": [[1, 2], [3, 4]], "separable": True}),
        (ValueError, "normalize needs taps with a sum other than 0 (got [[1.0, -1.0]])", {"f": [[1, -1]]}),
        (ValueError, "gain of a separable filter must be at least 0 (got -1.0)", {"f": [1.0] * 8, "gain": -1}),
        (TypeError, "gain must be a real number (got '2')", {"f": [1, 2], "gain": "2"}),
        (TypeError, "flip_filter must be True or False (got 'no')", {"f": [1, 2], "flip_filter": "no"}),
        (TypeError, "normalize must be True or False (got None)", {"f": [1, 2], "normalize": None}),
        (ValueError, "device must name a device of this torch (got 'nope')", {"f": [1, 2], "device": "nope"}),
    ],
)
def test_setup_filter_rejects(error, message, kwargs):
    assert_rejects(error, f"setup_filter: {message}", setup_filter, **kwargs)


FILTERS = [None, torch.ones(1, 1), torch.rand(2), torch.rand(3), torch.rand(4), torch.rand(4, 3), torch.rand(5, 6), torch.rand(12)]


def taps(f):
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


@pytest.mark.parametrize("f", FILTERS)
@pytest.mark.parametrize("padding", [0, 1, [2, 1], [1, 0, -1, 2]])
def test_filter2d(implementation, f, padding):
    x, (kx, ky) = randn(2, 3, 9, 8), taps(f)
    left, right, top, bottom = four(padding)
    whole = [left + kx // 2, right + (kx - 1) // 2, top + ky // 2, bottom + (ky - 1) // 2]
    y = filter2d(x, f, padding, flip_filter=True, gain=1.5)
    assert torch.equal(y, upfirdn2d(x, f, padding=whole, flip_filter=True, gain=1.5))
    assert y.shape == (2, 3, 9 + top + bottom, 8 + left + right)


@pytest.mark.parametrize("f", FILTERS)
@pytest.mark.parametrize(("up", "padding"), [(2, 0), (1, 1), (3, [2, 1]), ([2, 3], [1, 0, -1, 2])])
def test_upsample2d(implementation, f, up, padding):
    x, (kx, ky) = randn(2, 3, 5, 4), taps(f)
    (ux, uy), (left, right, top, bottom) = two(up), four(padding)
    whole = [left + (kx + ux - 1) // 2, right + (kx - ux) // 2, top + (ky + uy - 1) // 2, bottom + (ky - uy) // 2]
    y = upsample2d(x, f, up, padding, flip_filter=True, gain=1.5)
    assert torch.equal(y, upfirdn2d(x, f, up=up, padding=whole, flip_filter=True, gain=1.5 * ux * uy))
    assert y.shape == (2, 3, 5 * uy + top + bottom, 4 * ux + left + right)


@pytest.mark.parametrize("f", FILTERS)
@pytest.mark.parametrize(("down", "padding"), [(2, 0), (1, 1), (3, [2, 1]), ([2, 3], [1, 0, -1, 2])])
def test_downsample2d(implementation, f, down, padding):
    x, (kx, ky) = randn(2, 3, 12, 12), taps(f)
    (dx, dy), (left, right, top, bottom) = two(down), four(padding)
    whole = [left + (kx - dx + 1) // 2, right + (kx - dx) // 2, top + (ky - dy + 1) // 2, bottom + (ky - dy) // 2]
    y = downsample2d(x, f, down, padding, flip_filter=True, gain=1.5)
    assert torch.equal(y, upfirdn2d(x, f, down=down, padding=whole, flip_filter=True, gain=1.5))
    if padding == 0:
        assert y.shape == (2, 3, 6, 6)


def two(value):
    return value if isinstance(value, list) else [value, value]


def four(padding):
    values = two(padding)
    return values if len(values) == 4 else [values[0], values[0], values[1], values[1]]


def test_defaults_are_twice_and_half(implementation):
    x, f = randn(1, 2, 6, 8), setup_filter([1, 3, 3, 1])
    assert upsample2d(x, f).shape == (1, 2, 12, 16)
    assert downsample2d(x, f).shape == (1, 2, 3, 4)


def test_a_constant_stays_constant_inside(implementation):
    """Upsampling keeps the brightness: the gain makes up for the zeros inserted."""
    x, f = torch.full((1, 1, 6, 6), 2.0), setup_filter([1, 3, 3, 1])
    for y in (upsample2d(x, f), downsample2d(x, f), filter2d(x, f)):
        inside = y[:, :, 2:-2, 2:-2] if y.shape[2] > 4 else y[:, :, 1:-1, 1:-1]
        torch.testing.assert_close(inside, torch.full_like(inside, 2.0))


@pytest.mark.parametrize("function", [filter2d, upsample2d, downsample2d])
def test_errors_name_the_function_that_was_called(implementation, function):
    name = function.__name__
    assert_rejects(ValueError, f"{name}: x must have 4 dimensions (got shape (3, 4, 5))", function, torch.zeros(3, 4, 5), None)
    assert_rejects(TypeError, f"{name}: gain must be a real number (got '1')", function, torch.zeros(1, 1, 4, 4), None, gain="1")
    assert_rejects(
        ValueError, f"{name}: impl must be one of auto, native, reference (got '')", function, torch.zeros(1, 1, 4, 4), None, impl=""
    )
    with pytest.raises(ValueError, match=rf"^{name}: padding \(.*\) crops the whole image \(height \d+, width \d+\)$"):
        function(torch.zeros(1, 1, 4, 4), None, padding=-9)
