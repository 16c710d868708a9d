"""Every op on CUDA tensors: the native kernels of the device against the reference in float64 on the CPU, forward and backward, to the
second derivative. The shapes are small, since the device may be an emulator."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from support import (
    DTYPES,
    LAYOUTS,
    SIXTEEN_BIT,
    assert_close_in_norm,
    assert_compiles,
    assert_same_layout,
    gradcheck,
    gradgradcheck,
    leaf,
    randn,
)

from stylegan_ops import (
    adain,
    bias_act,
    conv_epilogue,
    filtered_lrelu,
    modulated_conv2d,
    pixel_norm,
    setup_filter,
    upfirdn2d,
    use_impl,
)
from stylegan_ops.ops.bias_act import ACTIVATIONS

pytestmark = pytest.mark.cuda
BLUR = setup_filter([1, 3, 3, 1])
TF32 = 2.0**-10  # the distance of the numbers around 1
LOPSIDED = setup_filter([[1, 2, 0], [3, 4, 5], [0, 1, 7], [2, 2, 2]])
LOW_PASS = setup_filter([1, 2, 4, 6, 8, 9, 9, 8, 6, 4, 2, 1])
SEPARABLE = setup_filter([1.0, 2, 3, 4, 5, 4, 3, 2, 2], separable=True)


@dataclass(frozen=True)
class Case:
    """One call: `function(*tensors)` of tensors with these shapes, the first of them an image."""

    function: Callable[..., torch.Tensor]
    shapes: tuple[tuple[int, ...], ...]
    kwargs: dict = field(default_factory=dict)
    terms: int = 100  # operations behind one result

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        on = tensors[0].device
        return self.function(*tensors, **{k: v.to(on) if isinstance(v, torch.Tensor) else v for k, v in self.kwargs.items()})


def epilogue(y, scale, noise, strength, bias, **kwargs):
    return conv_epilogue(y, scale, noise, strength, bias, **kwargs)


def normalised(x, scale, shift, noise, strength, bias, **kwargs):
    return adain(x, scale, shift, noise, strength, bias, **kwargs)


def fixed_noise(x, scale, shift, bias, **kwargs):
    """Planes end in registers where the noise asks for no gradient."""
    noise = torch.linspace(-1, 1, x.shape[2] * x.shape[3], dtype=scale.dtype, device=x.device).reshape(x.shape[2:])
    return adain(x, scale, shift, noise, 0.7, bias, **kwargs)


def filtered(x, b, **kwargs):
    return filtered_lrelu(x, b=b, **kwargs)


def layer(x, weight, styles, noise, bias, **kwargs):
    return modulated_conv2d(x, weight, styles, noise, bias=bias, **kwargs)


SMOOTH = {"act": "swish", "gain": 1.3}
CASES = {
    **{f"bias_act {act}": Case(bias_act, ((2, 7, 5, 9), (7,)), {"act": act}) for act in ACTIVATIONS},
    "bias_act clamp": Case(bias_act, ((3, 8, 4, 6), (8,)), {"act": "lrelu", "clamp": 0.7}),
    "bias_act 2-D": Case(bias_act, ((5, 33), (33,)), {"act": "lrelu"}),
    "bias_act last": Case(bias_act, ((3, 4, 2, 33), (33,)), {"dim": 3, "act": "tanh"}),
    "conv_epilogue": Case(epilogue, ((2, 7, 5, 9), (2, 7), (2, 1, 5, 9), (1,), (7,)), SMOOTH),
    "conv_epilogue 16": Case(epilogue, ((2, 16, 4, 4), (2, 16), (4, 4), (1,), (16,)), {"act": "lrelu", "clamp": 0.9}),
    "adain": Case(normalised, ((2, 7, 5, 9), (2, 7), (2, 7), (2, 1, 5, 9), (7,), (7,)), SMOOTH, terms=300),
    "adain 16": Case(normalised, ((2, 16, 4, 4), (2, 16), (2, 16), (4, 4), (1,), (16,)), {"act": "tanh"}, terms=200),
    "adain in registers": Case(fixed_noise, ((2, 3, 12, 14), (2, 3), (2, 3), (3,)), {"act": "tanh", "eps": 0.1}, terms=500),
    "pixel_norm": Case(pixel_norm, ((2, 33, 5, 3),)),
    "pixel_norm wide": Case(pixel_norm, ((1, 512, 2, 4),), terms=600),
    "pixel_norm 2-D": Case(pixel_norm, ((3, 129),), terms=200),
    "upfirdn2d up": Case(upfirdn2d, ((2, 3, 7, 9),), {"f": BLUR, "up": 2, "padding": [2, 1, 2, 1], "gain": 4}),
    "upfirdn2d down": Case(upfirdn2d, ((2, 8, 9, 8),), {"f": BLUR, "down": 2, "padding": 1}),
    "upfirdn2d filter": Case(upfirdn2d, ((2, 5, 8, 17),), {"f": BLUR, "padding": [2, 1, 2, 1]}),
    "upfirdn2d any": Case(upfirdn2d, ((1, 3, 7, 5),), {"f": LOPSIDED, "up": [3, 2], "down": [2, 1], "padding": [-1, 4, 3, -2]}),
    "upfirdn2d flip": Case(upfirdn2d, ((1, 8, 6, 6),), {"f": LOPSIDED, "padding": 2, "flip_filter": True}),
    "upfirdn2d separable": Case(upfirdn2d, ((1, 4, 11, 12),), {"f": SEPARABLE, "up": 2, "down": 2, "padding": 4}),
    "filtered_lrelu": Case(filtered, ((2, 3, 9, 8), (3,)), {"fu": LOW_PASS, "fd": LOW_PASS, "up": 2, "down": 2, "padding": 11}, terms=200),
    "filtered_lrelu any": Case(
        filtered,
        ((1, 6, 7, 10), (6,)),
        {"fu": LOPSIDED, "fd": SEPARABLE, "up": 3, "down": 2, "padding": [-1, 4, 9, 2], "clamp": 0.7, "flip_filter": True},
        terms=300,
    ),
    "filtered_lrelu tiles": Case(
        filtered, ((1, 9, 37, 70), (9,)), {"fu": BLUR, "fd": LOPSIDED, "up": 2, "down": 2, "padding": 3}, terms=200
    ),
    "modulated_conv2d": Case(layer, ((2, 5, 6, 7), (6, 5, 3, 3), (2, 5), (2, 1, 6, 7), (6,)), {"padding": 1, **SMOOTH}, terms=200),
    "modulated_conv2d up": Case(
        layer,
        ((2, 8, 4, 5), (16, 8, 3, 3), (2, 8), (8, 10), (16,)),
        {"up": 2, "padding": 1, "resample_filter": BLUR, "flip_weight": False, **SMOOTH},
        terms=300,
    ),
    "modulated_conv2d recovered": Case(
        layer, ((2, 5, 6, 7), (6, 5, 3, 3), (2, 5), (2, 1, 6, 7), (6,)), {"padding": 1, "noise_strength": 0.7}, terms=300
    ),
    "modulated_conv2d up, recovered": Case(
        layer,
        ((2, 8, 4, 5), (16, 8, 3, 3), (2, 8), (8, 10), (16,)),
        {"up": 2, "padding": 1, "resample_filter": BLUR, "flip_weight": False, "act": "lrelu", "alpha": 0.9},
        terms=300,
    ),
    "modulated_conv2d down": Case(
        layer, ((2, 8, 8, 6), (4, 8, 3, 3), (2, 8), (4, 3), (4,)), {"down": 2, "padding": 1, "resample_filter": BLUR, **SMOOTH}, terms=300
    ),
    "modulated_conv2d toRGB": Case(
        layer, ((2, 16, 5, 4), (3, 16, 1, 1), (2, 16), (5, 4), (3,)), {"demodulate": False, "clamp": 256}, terms=100
    ),
}
FUSED = ", fused"  # on the library's own convolution in place of cuDNN's
NAMES = [*CASES, *(name + FUSED for name in CASES if name.startswith("modulated_conv2d"))]
SECOND = ("bias_act tanh", "bias_act clamp", "conv_epilogue", "adain", "adain in registers", "pixel_norm", "upfirdn2d up", "filtered_lrelu")
SECOND += ("modulated_conv2d", "modulated_conv2d up", "modulated_conv2d down")


@pytest.fixture(autouse=True)
def native(request):
    precision, torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.conv.fp32_precision, "ieee"
    name = request.node.callspec.params.get("name", "") if hasattr(request.node, "callspec") else ""
    torch.ops.stylegan_ops.set_convolution(2 if name.endswith(FUSED) else 1)
    with use_impl("native"):
        yield
    torch.ops.stylegan_ops.set_convolution(0)
    torch.backends.cudnn.conv.fp32_precision = precision


def make(case: Case, dtype: torch.dtype, layout: torch.memory_format) -> list[torch.Tensor]:
    return [randn(*shape, dtype=dtype, layout=layout if i == 0 else torch.contiguous_format) for i, shape in enumerate(case.shapes)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_matches_float64_reference(name, dtype, layout):
    case = CASES[name.removesuffix(FUSED)]
    inputs = make(case, dtype, layout)
    on_cuda = [leaf(t.cuda()) for t in inputs]
    exact = [leaf(t.double()) for t in inputs]
    with torch.no_grad():
        alone = case(*on_cuda)
    y = case(*on_cuda)
    with use_impl("reference"):
        truth = case(*exact)
    assert y.is_cuda and y.dtype == dtype
    roundings = 6 if dtype in SIXTEEN_BIT else 0
    for what, got in (("result", y), ("result without a graph", alone)):
        assert_close_in_norm(got.cpu(), truth, dtype=dtype, terms=case.terms, roundings=roundings, what=what)
        if y.ndim == 4:
            assert_same_layout(got, on_cuda[0])
    dy = randn(*truth.shape, dtype=dtype)
    wanted = torch.autograd.grad(truth, exact, dy.double())
    found = torch.autograd.grad(y, on_cuda, dy.cuda())
    # A slope is read from the rounded result: at a kink or a clamp it may be the other one.
    if not (dtype in SIXTEEN_BIT and ("clamp" in case.kwargs or case.kwargs.get("act") in ("relu", "lrelu", "selu"))):
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            what = f"gradient of input {i}"
            assert_close_in_norm(a.cpu(), b, dtype=dtype, terms=case.terms + dy.numel(), roundings=3 * roundings, what=what)


@pytest.mark.parametrize("name", [*SECOND, *(name + FUSED for name in SECOND if name.startswith("modulated_conv2d"))])
def test_gradients_to_the_second_order(name):
    case = CASES[name.removesuffix(FUSED)]
    shapes = [tuple(min(n, 3) if i == 0 and d > 1 else n for d, n in enumerate(shape)) for i, shape in enumerate(case.shapes)]
    if name.startswith(("conv_epilogue", "adain", "modulated")):
        shapes = case.shapes
    inputs = [randn(*shape).cuda() for shape in shapes]
    inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last) if inputs[0].ndim == 4 else inputs[0]
    fast = {"fast_mode": True}
    assert torch.autograd.gradcheck(case, [leaf(x) for x in inputs], **fast)
    assert torch.autograd.gradgradcheck(case, [leaf(x) for x in inputs], **fast)


def test_gradcheck_of_every_element():
    f = BLUR.cuda()
    for layout in LAYOUTS:
        x, b = randn(1, 3, 3, 2, layout=layout).cuda(), randn(3).cuda()
        gradcheck(lambda x, b: bias_act(x, b, act="elu", clamp=0.9), x, b)
        gradgradcheck(lambda x, b: pixel_norm(bias_act(x, b, act="softplus")), x, b)
        gradgradcheck(lambda x: upfirdn2d(x, f, up=2, down=3, padding=2).square(), x)


@pytest.mark.parametrize("name", NAMES)
def test_empty_batch(name):
    case = CASES[name.removesuffix(FUSED)]
    inputs = [
        randn(*(0 if n == case.shapes[0][0] and d == 0 and len(shape) > 1 else n for d, n in enumerate(shape))) for shape in case.shapes
    ]
    if len(inputs) > 1 and "conv" in name:
        inputs[1] = randn(*case.shapes[1]) if name.startswith("modulated") else inputs[1]
    leaves = [leaf(t.float().cuda()) for t in inputs]
    y = case(*leaves)
    assert y.shape[0] == 0
    for gradient, x in zip(torch.autograd.grad(y.sum(), leaves), leaves, strict=True):
        assert gradient.shape == x.shape and not gradient.any()


@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
def test_autocast(dtype):
    case = CASES["modulated_conv2d up"]
    leaves = [leaf(t.cuda()) for t in make(case, torch.float32, torch.channels_last)]
    with torch.autocast("cuda", dtype):
        y = case(*leaves)
    assert y.dtype == dtype
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(y.sum(), leaves))


@pytest.mark.parametrize(
    "name", ["bias_act lrelu", "conv_epilogue", "adain", "pixel_norm", "upfirdn2d up", "filtered_lrelu", "modulated_conv2d up"]
)
def test_compiles(name):
    case = CASES[name]
    inputs = [t.cuda() for t in make(case, torch.float32, torch.channels_last)]
    assert_compiles(case, "aot_eager", *inputs)


def up_layer(n, channels, size, noise, **kwargs) -> Case:
    """An up-layer of `channels` to `channels` on images of `size`."""
    (i, o), (h, w) = channels, size
    kwargs = {"up": 2, "padding": 1, "resample_filter": BLUR, "flip_weight": False, **kwargs}
    padding = kwargs["padding"] if isinstance(kwargs["padding"], list) else [kwargs["padding"]] * 4
    out = (h * 2 + sum(padding[2:]) - 2, w * 2 + sum(padding[:2]) - 2)
    return Case(layer, ((n, i, h, w), (o, i, 3, 3), (n, i), (n, 1, *out) if noise == "per sample" else out, (o,)), kwargs)


# Convolution, filter and epilogue in one kernel: a block has 32 channels of a strip of 60 columns and walks down 8 rows at a time.
UP_LAYERS = {
    "plain": up_layer(2, (8, 16), (5, 6), "shared", **SMOOTH),
    "odd sizes and channels": up_layer(3, (5, 7), (9, 11), "per sample", act="lrelu", clamp=0.8),
    "strips and segments": up_layer(1, (16, 8), (21, 33), "shared"),
    "chunks and tiles of channels": up_layer(1, (72, 41), (3, 17), "per sample", act="tanh"),
    "one pixel": up_layer(2, (32, 64), (1, 1), "shared"),
    "any filter": up_layer(2, (8, 8), (10, 31), "shared", resample_filter=LOPSIDED, act="relu"),
    "a filter of two axes": up_layer(1, (8, 8), (6, 5), "shared", resample_filter=setup_filter([1, 2, 4], separable=True)),
    "no filter": up_layer(1, (8, 8), (6, 5), "shared", resample_filter=None),
    "a long filter": up_layer(1, (8, 8), (6, 5), "shared", resample_filter=setup_filter([1, 2, 3, 2, 1])),
    "any padding": up_layer(1, (8, 8), (9, 7), "shared", padding=[4, -3, -2, 7], flip_weight=True, demodulate=False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
@pytest.mark.parametrize("name", UP_LAYERS)
def test_up_layer_in_one_kernel(name, dtype, layout):
    case = UP_LAYERS[name]
    inputs = make(case, dtype, layout)
    with use_impl("reference"):
        truth = case(*(t.double() for t in inputs))
    torch.ops.stylegan_ops.set_convolution(3)
    x, *others = (t.cuda() for t in inputs)
    y, again = case(x, *others), case(x, *others)
    # styles * x, what the filter reads, and y are rounded
    assert_close_in_norm(y.cpu(), truth, dtype=dtype, terms=9 * x.shape[1] + 30, roundings=3)
    assert_same_layout(y, x)
    assert torch.equal(y, again)


def test_up_layer_in_one_kernel_keeps_no_image_in_between():
    inputs = [t.cuda() for t in make(UP_LAYERS["strips and segments"], torch.float16, torch.channels_last)]
    peaks = {}
    for convolution in (2, 3):
        torch.ops.stylegan_ops.set_convolution(convolution)
        torch.cuda.reset_peak_memory_stats()
        y = UP_LAYERS["strips and segments"](*inputs)
        size = y.numel() * y.element_size()
        del y
        peaks[convolution] = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    assert peaks[2] >= 2 * size and peaks[3] < 1.7 * size, f"{peaks} bytes, the result has {size}"


def test_honours_the_precision_of_float32():
    """PyTorch's setting for convolutions lets the library's own round its operands to TF32, and forbids it."""
    case = CASES["modulated_conv2d"]
    torch.ops.stylegan_ops.set_convolution(2)
    inputs = make(case, torch.float32, torch.channels_last)
    truth_of, errors = [leaf(t.double()) for t in inputs], {}
    with use_impl("reference"):
        truth = case(*truth_of)
    dy = randn(*truth.shape, dtype=torch.float32)
    wanted = [truth, *torch.autograd.grad(truth, truth_of, dy.double())]
    for precision, eps in (("ieee", torch.finfo(torch.float32).eps), ("tf32", TF32)):
        torch.backends.cudnn.conv.fp32_precision = precision
        leaves = [leaf(t.cuda()) for t in inputs]
        y = case(*leaves)
        got = [y, *torch.autograd.grad(y, leaves, dy.cuda())]
        errors[precision] = [
            float((a.detach().cpu().double() - b.detach()).norm() / b.detach().norm()) for a, b in zip(got, wanted, strict=True)
        ]
        # Both operands of every product are rounded once in each of two convolutions.
        assert all(e <= 4 * eps / 2 + case.terms * torch.finfo(torch.float32).eps for e in errors[precision]), (precision, errors)
    # The result, dx and dw go through a convolution.
    assert all(errors["tf32"][i] > 10 * errors["ieee"][i] for i in range(3)), errors


def test_large_styles_and_activations_stay_finite():
    """256 times 1e3, and sums of them, are beyond float16."""
    x, styles, weight = torch.full([2, 16, 6, 6], 256.0), torch.full([2, 16], 1e3), randn(8, 16, 3, 3, dtype=torch.float32).abs()
    truth = modulated_conv2d(x.double(), weight.double(), styles.double(), padding=1, impl="reference")
    for choice in (1, 2):
        torch.ops.stylegan_ops.set_convolution(choice)
        inputs = [leaf(x.half().cuda()), leaf(weight.cuda()), leaf(styles.cuda())]
        y = modulated_conv2d(*inputs, padding=1)
        assert_close_in_norm(y.cpu(), truth, dtype=torch.float16, terms=200, roundings=4)
        y.sum().backward()
        assert all(t.grad.isfinite().all() for t in inputs)


@pytest.mark.parametrize("name", ["conv_epilogue", "adain"])
def test_the_same_bits_each_time(name):
    case = CASES[name]
    inputs = [t.cuda() for t in make(case, torch.float32, torch.channels_last)]
    runs = []
    for _ in range(2):
        leaves = [leaf(t) for t in inputs]
        y = case(*leaves)
        runs.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_runs_on_the_current_stream():
    x = randn(2, 8, 4, 4, dtype=torch.float32).cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y = bias_act(x, act="relu", gain=1)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(y, x.relu())


def test_rejects_tensors_of_two_devices():
    x = randn(2, 3, 4, 4).cuda()
    with pytest.raises(ValueError, match=r"^bias_act: b must be on the device of the image, cuda:0 \(got cpu\)$"):
        bias_act(x, torch.zeros(3))
    with pytest.raises(ValueError, match=r"^upfirdn2d: f must be on the device of the image, cuda:0 \(got cpu\)$"):
        upfirdn2d(x, BLUR)
