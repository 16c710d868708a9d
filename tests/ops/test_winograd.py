"""The CPU's own 3x3 convolution (csrc/ops/winograd.cpp): every form against float64, on odd sizes, and where the rule takes it."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from support import accumulate, gradcheck, gradgradcheck, randn

from stylegan_ops import modulated_conv2d, setup_filter

LIBRARY, WINOGRAD = 1, 2
# Of the norm. float32: the transforms multiply by up to 4 in each dimension, which costs about one digit and a half over a sum in
# order (measured 1.4e-6 for 256 channels). 16 bits: rounding of the input and of the result.
TOLERANCES = {torch.float64: 2e-14, torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}
SIZES = [  # samples, I, O, height, width, padding
    (2, 5, 7, 9, 11, 1),
    (3, 40, 70, 13, 8, 0),
    (1, 33, 65, 4, 4, 2),
    (13, 3, 1, 1, 2, 1),
    (1, 17, 33, 26, 5, 1),
    (2, 128, 64, 33, 17, 1),
    (9, 257, 250, 9, 11, 1),  # the weights' points do not fit into a cache
]


@pytest.fixture(autouse=True)
def winograd(kernel: str) -> Iterator[None]:
    """Every convolution that may be made so, in each SIMD variant; the reference has nothing to do with it."""
    if kernel == "reference":
        pytest.skip("tests the native kernels")
    torch.ops.stylegan_ops.set_cpu_convolution(WINOGRAD)
    yield
    torch.ops.stylegan_ops.set_cpu_convolution(0)


def assert_near(actual: torch.Tensor, truth: torch.Tensor, dtype: torch.dtype) -> None:
    assert actual.shape == truth.shape and actual.dtype == dtype and truth.dtype == torch.float64
    error = float((actual.double() - truth).norm() / truth.norm())
    assert error < TOLERANCES[dtype], error


def make(size: tuple[int, ...], dtype: torch.dtype, transposed: bool, layout: torch.memory_format = torch.channels_last):
    """x, weight, styles, the padding, and styles * x in float64."""
    n, i, o, height, width, padding = size
    x, styles = randn(n, i, height, width, dtype=dtype, layout=layout), randn(n, i, dtype=accumulate(dtype))
    weight = randn(*((i, o) if transposed else (o, i)), 3, 3, dtype=dtype)
    return x, weight, styles, padding, x.double() * styles.double()[:, :, None, None]


@pytest.mark.parametrize("transposed", [False, True], ids=["dense", "transposed"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_matches_float64_reference(dtype: torch.dtype, size: tuple[int, ...], transposed: bool) -> None:
    x, weight, styles, padding, image = make(size, dtype, transposed)
    y = torch.ops.stylegan_ops.modulated_conv2d(x, weight, styles, 1, padding, padding, transposed, 0, 0, False)
    convolve = F.conv_transpose2d if transposed else F.conv2d
    assert_near(y, convolve(image, weight.double(), padding=padding), dtype)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_stride_2_transposed(dtype: torch.dtype, size: tuple[int, ...], extra: int) -> None:
    x, weight, styles, padding, image = make(size, dtype, True)
    truth = F.conv_transpose2d(image, weight.double(), padding=padding, stride=2, output_padding=extra)
    y = torch.ops.stylegan_ops.modulated_conv2d(x, weight, styles, 2, padding, padding, True, extra, extra, False)
    assert_near(y, truth, dtype)


@pytest.mark.parametrize("stride, transposed", [(1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("size", [*SIZES, (2, 20, 36, 8, 12, 0)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_weight_gradient(dtype: torch.dtype, size: tuple[int, ...], stride: int, transposed: bool) -> None:
    x, weight, styles, padding, image = make(size, dtype, transposed)
    leaf_weight = weight.double().requires_grad_()
    convolve = F.conv_transpose2d if transposed else F.conv2d
    y = convolve(image, leaf_weight, padding=padding, stride=stride)
    if y.numel() == 0:
        pytest.skip("no output")
    dy = randn(*y.shape, dtype=dtype, layout=torch.channels_last)
    truth = torch.autograd.grad(y, leaf_weight, dy.double())[0]
    dw = torch.ops.stylegan_ops.modulated_conv2d_weight(x, dy, styles, 3, 3, stride, padding, padding, transposed, False)
    if float(truth.norm()) == 0:
        assert float(dw.norm()) == 0
    else:
        assert_near(dw, truth, dtype)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_what_stands_behind(layout: torch.memory_format) -> None:
    x, weight, styles, padding, image = make((3, 40, 70, 13, 8, 1), torch.float64, False, layout)
    noise, strength, bias = randn(3, 1, 13, 8, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64), randn(70, dtype=torch.float64)
    y = modulated_conv2d(x, weight, styles, noise, padding=1, noise_strength=strength, bias=bias, act="lrelu", clamp=1.5)
    d = (styles[:, None, :, None, None] * weight).square().sum([2, 3, 4]).add(1e-8).rsqrt()
    z = F.conv2d(image, weight, padding=1) * d[:, :, None, None] + noise * strength + bias[:, None, None]
    assert_near(y, (F.leaky_relu(z, 0.2) * 2**0.5).clamp(-1.5, 1.5), torch.float64)
    assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("options", [{}, {"up": 2}, {"down": 2}], ids=str)
def test_derivatives(options: dict) -> None:
    inputs = randn(2, 3, 6, 5), randn(4, 3, 3, 3), randn(2, 3), randn(4)
    f = setup_filter([1, 3, 3, 1]).double() if options else None

    def layer(x, weight, styles, bias):
        return modulated_conv2d(x, weight, styles, padding=1, resample_filter=f, bias=bias, act="lrelu", **options)

    gradcheck(layer, *inputs)
    gradgradcheck(layer, *inputs)


def test_any_number_of_threads_gives_the_same() -> None:
    x, weight, styles, padding, _ = make((4, 48, 48, 50, 50, 1), torch.float32, False)
    dy = randn(4, 48, 50, 50, dtype=torch.float32, layout=torch.channels_last)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = torch.ops.stylegan_ops.modulated_conv2d(x, weight, styles, 1, 1, 1, False, 0, 0, False)
        results.append((y, torch.ops.stylegan_ops.modulated_conv2d_weight(x, dy, styles, 3, 3, 1, 1, 1, False, False)))
    for y, dw in results[1:]:
        assert torch.equal(y, results[0][0]) and torch.equal(dw, results[0][1])


@pytest.mark.parametrize("channels, pixels, expected", [(32, 32, True), (16, 32, False), (32, 16, False)])
def test_rule(channels: int, pixels: int, expected: bool) -> None:
    """By the rule it runs where channels and pixels are enough to pay for the transforms."""
    x, weight, styles, _, _ = make((1, channels, channels, pixels, pixels, 1), torch.float32, False)
    outputs = {}
    for choice in (LIBRARY, WINOGRAD, 0):
        torch.ops.stylegan_ops.set_cpu_convolution(choice)
        outputs[choice] = torch.ops.stylegan_ops.modulated_conv2d(x, weight, styles, 1, 1, 1, False, 0, 0, False)
    assert not torch.equal(outputs[LIBRARY], outputs[WINOGRAD])
    assert torch.equal(outputs[0], outputs[WINOGRAD if expected else LIBRARY])
