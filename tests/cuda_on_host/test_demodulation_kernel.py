"""The CUDA kernel of the demodulation coefficients, run on the host, against float64."""

import host
import pytest
from support import DTYPES, ELEMENTARY, accumulate, assert_right, randn

EPS = 1e-8


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize(("n", "o", "i", "taps"), [(1, 1, 1, 1), (3, 5, 33, 9), (8, 3, 256, 1), (9, 4, 300, 9), (17, 2, 5, 4)])
def test_matches_float64_reference(n, o, i, taps, dtype):
    small = accumulate(dtype)
    w, styles = randn(o, i, taps, dtype=dtype), randn(n, i, dtype=small)
    energy = styles.double().square() @ w.double().square().sum(2).T
    truth, terms = (energy + EPS).rsqrt(), taps * i + 4 + 2 * ELEMENTARY
    sizes = {"samples": n, "out_channels": o, "in_channels": i, "taps": taps, "eps": EPS, "dtype": host.DTYPES[dtype]}
    transposed = w.transpose(0, 1).contiguous()  # the weights of a transposed convolution
    for memory, strides in [(w, (i * taps, taps)), (transposed, (taps, o * taps))]:
        given = {"w": memory, "styles": styles, "scale": host.output((n, o), small), "stride_o": strides[0], "stride_i": strides[1]}
        for got in host.launch("demodulation", **given, **sizes):
            assert_right(got["scale"], truth, dtype=small, terms=terms)
