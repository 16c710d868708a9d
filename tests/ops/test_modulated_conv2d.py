"""modulated_conv2d against its paper's definition, and in the tests that all rooms share; more on gradients in the _gradients file."""

from functools import lru_cache

import pytest
import torch
from closed_forms import Expected
from modulated_definition import BLUR, CASES, NAMES, Case
from support import (
    DTYPES,
    ELEMENTARY,
    LAYOUTS,
    assert_compiles,
    assert_exports,
    assert_rejects,
    assert_right,
    assert_same_layout,
    gradcheck,
    gradgradcheck,
    grads,
    in_layout,
    leaf,
    needs_compiler,
    non_dense,
    randn,
)

from stylegan_ops import conv_epilogue, modulated_conv2d, setup_filter

ROUNDINGS = 4  # of 16-bit tensors between the steps: styles * x, the filtered image or the convolution, the cast back


@lru_cache(maxsize=2)
def tensors_and_truth(name, dtype):
    torch.manual_seed(2)
    case = CASES[NAMES.index(name)]
    tensors = case.make(dtype, torch.contiguous_format)
    return tensors, *case.definition(tensors["x"], tensors["weight"], tensors["styles"])


def assert_result(out, case, tensors, truth, size):
    """`act(truth + noise + bias)` with what lies behind."""
    dtype, z, inner = tensors["x"].dtype, truth, ROUNDINGS * size
    for t in (tensors["noise"], None if tensors["bias"] is None else tensors["bias"][:, None, None]):
        if t is not None:
            z, size = z + t.double(), size + t.double().abs()
    behind = {"act": "linear", **case.behind}
    expected = Expected(z, size, dtype, **behind)
    terms = case.terms() + 3 * ELEMENTARY
    slope = expected.slope.abs() + expected.jump  # at the clamp and the kink either slope
    slope = slope.clamp(min=0.1) if behind["act"] in ("relu", "lrelu") else slope
    assert out.dtype == dtype
    assert_right(out, expected.y, dtype=dtype, terms=terms, magnitude=expected.y.abs() + slope * size * 1.5, inner=1.5 * slope * inner)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_matches_float64_reference(name, dtype, kernel):
    case = CASES[NAMES.index(name)]
    tensors, truth, size = tensors_and_truth(name, dtype)
    for layout in LAYOUTS:
        tensors["x"] = in_layout(tensors["x"], layout)
        for training in (True, False):  # without a gradient to come, other kernels run
            x = leaf(tensors["x"]) if training else tensors["x"]
            out = modulated_conv2d(x, tensors["weight"], tensors["styles"], tensors["noise"], **case.arguments(), bias=tensors["bias"])
            assert_result(out, case, tensors, truth, size)
            assert_same_layout(out, x)


def checked_functions(layout):
    x, weight, styles = randn(1, 2, 3, 3, layout=layout), randn(2, 2, 3, 3) / 3, randn(1, 2)
    noise, bias = randn(6, 6), randn(2)
    f = BLUR.double()

    def up(x, weight, styles, noise, bias):
        return modulated_conv2d(x, weight, styles, noise, up=2, padding=1, resample_filter=f, flip_weight=False, bias=bias, act="tanh")

    yield up, (x, weight, styles, noise, bias)
    yield lambda x, w, s: modulated_conv2d(x, w, s, padding=[1, 0], demodulate=False, act="swish"), (x, weight, styles)
    yield lambda x, w, b: modulated_conv2d(x, w, None, down=2, padding=1, resample_filter=f, bias=b, act="sigmoid"), (x, weight, bias)
    yield lambda x, w, s: modulated_conv2d(x, w, s, down=2, padding=1), (x, weight[:, :, :2], styles)
    yield lambda x, w, s: modulated_conv2d(x, w, s, up=2, resample_filter=f), (x, weight[:, :, :1, :1], styles)
    yield lambda x, w, s: modulated_conv2d(x, w, s, up=3, padding=1, flip_weight=False), (x[:, :, :1, :2], weight[:, :, :2], styles)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(implementation, layout):
    for function, inputs in checked_functions(layout):
        gradcheck(function, *inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradgradcheck(implementation, layout):
    for function, inputs in checked_functions(layout):
        gradgradcheck(function, *inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(native, layout):
    op, weight_op = torch.ops.stylegan_ops.modulated_conv2d.default, torch.ops.stylegan_ops.modulated_conv2d_weight.default
    layer_op = torch.ops.stylegan_ops.modulated_conv2d_layer.default
    x, w, s = leaf(randn(2, 3, 5, 4, layout=layout)), leaf(randn(4, 3, 3, 3)), leaf(randn(2, 3))
    flipped = leaf(randn(3, 4, 3, 3))
    for weight, styles, *geometry in [
        (w, s, 1, 1, 1, False, 0, 0),
        (w, None, 2, 0, 1, False, 0, 0),
        (flipped, s, 2, 0, 0, True, 0, 0),
        (flipped, None, 2, 1, 1, True, 1, 0),
        (flipped, s, 1, 1, 1, True, 0, 0),
    ]:
        torch.library.opcheck(op, (x, weight, styles, *geometry, False))
        dy = leaf(randn(*op(x, weight, styles, *geometry, False).shape, layout=layout))
        torch.library.opcheck(weight_op, (x, dy, styles, *weight.shape[2:], *geometry[:4], False))
    scale, noise, strength, bias = leaf(randn(2, 4).exp()), leaf(randn(1, 1, 5, 4)), leaf(randn()), leaf(randn(4))
    same, up = (None, 1, 1, [1, 1, 1, 1]), (BLUR, 2, 1, [1, 1, 1, 1])
    torch.library.opcheck(layer_op, (x, w, None, s, scale, noise, strength, bias, *same, 2, 0.2, 1.4, 0.5, False))
    one = w[..., :1, :1].detach()
    torch.library.opcheck(layer_op, (x, one, None, s, None, None, None, bias, None, 1, 1, [0] * 4, 0, 0.0, 1.0, -1.0, False))
    noise = leaf(randn(1, 1, 10, 8))
    torch.library.opcheck(layer_op, (x, flipped, None, s, scale, noise, None, None, *up, 2, 0.2, 1.4, -1.0, False))


def compiled_case(x, weight, styles, noise, bias):
    y = modulated_conv2d(x, weight, styles, noise, up=2, padding=1, resample_filter=BLUR, flip_weight=False, bias=bias, act="lrelu")
    return y + 1


def compiled_inputs(layout=torch.contiguous_format):
    shapes = (5, 3, 3, 3), (2, 3), (8, 10), (5,)
    return randn(2, 3, 4, 5, dtype=torch.float32, layout=layout), *(randn(*shape, dtype=torch.float32) for shape in shapes)


def test_compiles(implementation):
    for layout in LAYOUTS:
        assert_compiles(compiled_case, "aot_eager", *compiled_inputs(layout))


@needs_compiler
def test_compiles_with_inductor(native):
    assert_compiles(compiled_case, "inductor", *compiled_inputs())


def test_compiles_for_inference(implementation):
    torch._dynamo.reset()
    with torch.no_grad():
        inputs = compiled_inputs()
        compiled = torch.compile(compiled_case, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*inputs), compiled_case(*inputs))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_autocast_without_gradients(native, kernel_size):
    """What a 1x1 convolution to a few channels multiplies stays in float32: its modulated weights may be beyond float16's range."""
    x, weight, styles = (randn(*shape, dtype=torch.float32) for shape in ((1, 64, 4, 4), (3, 64, kernel_size, kernel_size), (1, 64)))
    x, weight, styles = x * 1e-3, weight * 300, styles * 300
    for dtype in (torch.bfloat16, torch.float16):
        with torch.no_grad(), torch.autocast("cpu", dtype):
            out = modulated_conv2d(x, weight, styles, padding=kernel_size // 2, demodulate=kernel_size > 1)
        assert out.isfinite().all()
        assert torch.equal(out, modulated_conv2d(x.to(dtype), weight, styles, padding=kernel_size // 2, demodulate=kernel_size > 1))


def test_exports(implementation):
    node = "modulated_conv2d_layer" if implementation == "native" else None
    assert_exports(compiled_case, *compiled_inputs(), node=node)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(kernel, dtype):
    """The result and the convolution have autocast's dtype; the gradients have the parameters'."""
    x, weight, styles, _, bias = (leaf(t) for t in compiled_inputs())
    with torch.autocast("cpu", dtype):
        out = modulated_conv2d(x, weight, styles, padding=1, bias=bias, act="lrelu")
    assert out.dtype == dtype
    assert torch.equal(out, modulated_conv2d(x.to(dtype), weight, styles, padding=1, bias=bias, act="lrelu"))
    for t, gradient in zip((x, weight, styles, bias), grads(out, [x, weight, styles, bias], torch.ones_like(out)), strict=True):
        assert gradient.dtype == t.dtype == torch.float32
    with torch.autocast("cpu", dtype):
        assert modulated_conv2d(x.double(), weight, styles).dtype == torch.float64


def test_autocast_demodulates_in_float32(kernel):
    """Where the convolution is exact, one rounding is all that the result may lack."""
    weight = torch.randn(200, 3, 1, 1).bfloat16().float()
    x, styles = torch.zeros(2, 3, 1, 1), torch.rand(2, 3) + 0.5
    x[:, 0], styles[:, 0] = 1, 1
    case = Case("", (1, 1), padding=(0, 0, 0, 0))
    truth, size = case.definition(x, weight, styles)
    with torch.autocast("cpu", torch.bfloat16):
        for training in (True, False):
            out = modulated_conv2d(leaf(x) if training else x, weight, styles)
            assert_right(out, truth, dtype=torch.bfloat16, terms=30, magnitude=size)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2)])
def test_empty_batch(kernel, up, down, layout):
    x, weight, styles, bias = leaf(randn(0, 3, 4, 6, layout=layout)), leaf(randn(5, 3, 3, 3)), leaf(randn(0, 3)), leaf(randn(5))
    arguments = {"up": up, "down": down, "padding": 1, "resample_filter": BLUR, "bias": bias, "act": "lrelu"}
    out = modulated_conv2d(x, weight, styles, **arguments)
    assert out.shape == (0, 5, 4 * up // down, 6 * up // down)
    for t, gradient in zip((x, weight, styles, bias), grads(out, [x, weight, styles, bias], torch.ones_like(out)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(t))
    with torch.no_grad():
        assert modulated_conv2d(x, weight, styles, **arguments).shape == out.shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keeps_layout(native, layout):
    """The results are tested with their values; these are the gradients."""
    for case in CASES:
        t = case.make(torch.float32, layout)
        x = leaf(t["x"])
        out = modulated_conv2d(x, t["weight"], t["styles"], t["noise"], **case.arguments())
        assert_same_layout(grads(out, [x], randn(*out.shape, dtype=torch.float32, layout=layout))[0], x)


def test_non_dense_inputs(kernel):
    for x in non_dense(randn(2, 3, 7, 5, dtype=torch.float32)).values():
        weight, styles = randn(3, 5, 3, 6, dtype=torch.float32)[..., ::2].transpose(0, 1), randn(3, 2, dtype=torch.float32).t()
        views = [t.detach().requires_grad_() for t in (x, weight, styles)]
        dense = [leaf(t.contiguous()) for t in (x, weight, styles)]
        for kwargs in (
            {"padding": 1},
            {"up": 2, "padding": 1, "resample_filter": BLUR},
            {"down": 2, "padding": 1, "resample_filter": BLUR},
        ):
            got, wanted = (modulated_conv2d(*t, **kwargs) for t in (views, dense))
            torch.testing.assert_close(got, wanted)
            dy = randn(*reversed(got.shape), dtype=torch.float32).permute(3, 2, 1, 0)
            for a, b in zip(grads(got, views, dy), grads(wanted, dense, dy.contiguous()), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
            with torch.no_grad():
                torch.testing.assert_close(modulated_conv2d(*views, **kwargs), wanted)


def test_what_lies_behind_is_conv_epilogue(kernel):
    x, weight, styles, noise, bias = compiled_inputs()
    y = modulated_conv2d(x, weight, styles, padding=1)
    wanted = conv_epilogue(y, None, noise[:4, :5], None, bias, "elu", None, 1.5, 0.6)
    got = modulated_conv2d(x, weight, styles, noise[:4, :5], padding=1, bias=bias, act="elu", gain=1.5, clamp=0.6)
    torch.testing.assert_close(got, wanted)


X, WEIGHT, STYLES = torch.zeros(2, 3, 4, 5), torch.zeros(6, 3, 3, 3), torch.zeros(2, 3)


def call(**kwargs):
    return modulated_conv2d(**{"x": X, "weight": WEIGHT, "styles": STYLES, **kwargs})


WEIGHT_RULE = "weight must have shape [O, I, K_h, K_w] with I = 3 as in x"
FACTOR_RULE = "up and down must be single integers, not both above 1"
PADDING_RULE = "padding must be one integer, [x, y] or [left, right, top, bottom]"


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (TypeError, "x must be a tensor (got NoneType)", {"x": None}),
        (TypeError, "x must be of a floating-point dtype (got torch.int64)", {"x": X.long()}),
        (ValueError, "x must have 4 dimensions (got shape (3, 4, 5))", {"x": X[0]}),
        (TypeError, "weight must be a tensor (got Parameters)", {"weight": type("Parameters", (), {})()}),
        (ValueError, f"{WEIGHT_RULE} (got shape (6, 4, 3, 3))", {"weight": torch.zeros(6, 4, 3, 3)}),
        (ValueError, f"{WEIGHT_RULE} (got shape (3, 3, 3))", {"weight": torch.zeros(3, 3, 3)}),
        (ValueError, f"{WEIGHT_RULE} (got shape (6, 3, 0, 3))", {"weight": torch.zeros(6, 3, 0, 3)}),
        (ValueError, "weight must be on the device of the image, cpu (got meta)", {"weight": torch.zeros(6, 3, 3, 3, device="meta")}),
        (ValueError, "styles must have shape [N, I] = [2, 3] (got shape (3,))", {"styles": torch.zeros(3)}),
        (ValueError, "styles must have shape [N, I] = [2, 3] (got shape (1, 3))", {"styles": torch.zeros(1, 3)}),
        (TypeError, "styles must be of a floating-point dtype (got torch.bool)", {"styles": STYLES.bool()}),
        (ValueError, "styles must be on the device of the image, cpu (got meta)", {"styles": torch.zeros(2, 3, device="meta")}),
        (ValueError, "noise must have shape [2, 1, 2, 3], [1, 1, 2, 3] or [2, 3] (got shape (4, 5))", {"noise": torch.zeros(4, 5)}),
        (
            ValueError,
            "noise must have shape [2, 1, 8, 10], [1, 1, 8, 10] or [8, 10] (got shape (4, 5))",
            {"noise": torch.zeros(4, 5), "up": 2, "padding": 1, "resample_filter": setup_filter([1, 3, 3, 1])},
        ),
        (ValueError, "bias must have shape [6], the length of dimension 0 of weight (got shape (3,))", {"bias": torch.zeros(3)}),
        (TypeError, "bias must be a tensor (got float)", {"bias": 0.5}),
        (ValueError, f"{FACTOR_RULE} (got up=(2, 2), down=(2, 2))", {"up": 2, "down": 2}),
        (ValueError, f"{FACTOR_RULE} (got up=(1, 2), down=(1, 1))", {"up": [1, 2]}),
        (ValueError, "up must be at least 1 (got 0)", {"up": 0}),
        (TypeError, "down must be an integer (got 2.0)", {"down": 2.0}),
        (ValueError, f"{PADDING_RULE} (got [1, 1, 1])", {"padding": [1, 1, 1]}),
        (TypeError, "padding must consist of integers (got 0.5)", {"padding": 0.5}),
        (TypeError, "f must be a tensor (got list)", {"resample_filter": [1, 3, 3, 1], "up": 2}),
        (ValueError, "eps must be at least 0 (got -1e-08)", {"eps": -1e-8}),
        (TypeError, "eps must be a real number (got None)", {"eps": None}),
        (TypeError, "demodulate must be True or False (got 'no')", {"demodulate": "no"}),
        (TypeError, "flip_weight must be True or False (got None)", {"flip_weight": None}),
        (TypeError, "gain must be a real number (got '1')", {"gain": "1"}),
        (ValueError, "clamp must be None or at least 0 (got -256)", {"clamp": -256}),
        (ValueError, "impl must be one of auto, native, reference (got 'cuda')", {"impl": "cuda"}),
        (ValueError, "x must have at least 1 pixel (got shape (2, 3, 0, 4))", {"x": torch.zeros(2, 3, 0, 4), "padding": 2}),
        (
            ValueError,
            "weight of 3 x 3 taps must fit into the padded image (got x of 4 x 5 pixels, padding (-1, -1, -1, -1) with the filter's share)",
            {"padding": -1},
        ),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, f"modulated_conv2d: {message}", call, **kwargs)
