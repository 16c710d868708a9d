"""The CUDA kernels of pixel_norm, run on the host, against the formula in float64."""

import host
import pytest
from support import DTYPES, ELEMENTARY, assert_right, randn
from test_pixel_norm import formula

# [outer, C, inner]: few channels to many, side by side (inner == 1) and in planes; whole vectors of 16 bytes and not
VIEWS = [
    (1, 1, 1),
    (2, 7, 15),
    (2, 3, 1089),
    (1, 64, 64),
    (2, 129, 7),
    (1, 600, 25),
    (1, 1030, 8),
    (7, 2, 33),
    (15, 7, 1),
    (300, 3, 1),
    (33, 129, 1),
    (9, 512, 1),
    (3, 600, 1),
    (2, 5000, 1),
]


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("view", host.few(VIEWS))
def test_matches_float64_reference(view, dtype):
    x, dy = randn(*view, dtype=dtype), randn(*view, dtype=dtype)
    outer, channels, inner = view
    sizes = {"outer": outer, "channels": channels, "inner": inner, "dtype": host.DTYPES[dtype]}
    terms = 2 * channels + 2 * ELEMENTARY  # two sums over the channels, a root, a division
    for eps in (1e-8, 0.1):
        y, size = formula(x, 1, eps)
        for got in host.launch("pixel_norm", x=x, y=host.output(x), eps=eps, **sizes):
            assert_right(got["y"], y, dtype=dtype, terms=terms, magnitude=size)
        dx, size = formula(x, 1, eps, dy)
        for got in host.launch("pixel_norm_backward", x=x, dy=dy, y=host.output(x), eps=eps, **sizes):
            assert_right(got["y"], dx, dtype=dtype, terms=terms, magnitude=size)
