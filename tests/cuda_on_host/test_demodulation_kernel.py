"""The CUDA kernels of the demodulation coefficients and of all styles, run on the host, against float64."""

import host
import pytest
import torch
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


# In, out, whether demodulated: more channels than a warp has lanes and than a block makes, fewer, and none to make coefficients of.
LAYERS = [(33, 17, True), (5, 3, False), (1, 9, True), (70, 1, True), (64, 3, False), (8, 0, False)]
ZEROS = (2, 4)  # layers of which a sample's styles are all zero


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("samples", [1, 9])
@pytest.mark.parametrize("bounded", [False, True])
def test_all_layers_at_once(bounded, samples, dtype):
    """styles / (a c) and b c / sqrt(sum (styles roots)^2 + eps), where c is the power of two just above a sample's largest style."""
    most = max(i for i, _, _ in LAYERS)
    given = torch.full([len(LAYERS), samples, most], torch.inf, dtype=dtype)  # what lies behind a layer's channels is not read
    factors = randn(len(LAYERS), 2, dtype=dtype).abs() + 0.1 if bounded else None
    layers, roots, styles, scales = [], [], [], []
    for number, (i, o, demodulated) in enumerate(LAYERS):
        s, root = randn(samples, i, dtype=dtype) * 10 ** (number - 2), randn(o, i, dtype=dtype).abs()
        s[0, 0] = 2.0**number  # of one channel the largest
        if number in ZEROS:
            s[-1] = 0
        given[number, :, :i] = s
        begins = [sum(t.numel() for t in behind) for behind in (roots, styles, scales)]
        fields = {"roots": begins[0] if demodulated else -1, "styles": begins[1], "scale": begins[2]}
        layers.append({"in_channels": i, "out_channels": o} | fields)

        s, (a, b) = s.double(), (1.0, 1.0) if factors is None else factors[number].double()
        largest = s.abs().amax(1, keepdim=True)
        c = 2.0 ** (largest.log2().floor() + 1).where(largest > 0, 0) if bounded else torch.ones_like(largest)
        energy = s.square() @ root.double().square().T
        styles.append(s / (a * c))
        scales.append(b * c * ((energy + EPS).rsqrt() if demodulated else torch.ones_like(energy)))
        if demodulated:
            roots.append(root)
    roots, styles, scales = (torch.cat([t.flatten() for t in each]) for each in (roots, styles, scales))
    sizes = {"samples": samples, "layers": len(LAYERS), "most_channels": most, "eps": EPS, "dtype": host.DTYPES[dtype]}
    results = {"styles": host.output(styles, dtype), "scale": host.output(scales, dtype)}
    for got in host.launch("modulation", layer=layers, given=given, roots=roots, factors=factors, **results, **sizes):
        assert_right(got["styles"], styles, dtype=dtype, terms=ELEMENTARY)
        assert_right(got["scale"], scales, dtype=dtype, terms=most + 4 + 2 * ELEMENTARY)
