"""Gradients of modulated_conv2d in every dtype, its second derivatives as training uses them, and what a step costs."""

from dataclasses import replace

import pytest
import torch
from modulated_definition import BLUR, CASES, NAMES
from support import DTYPES, LAYOUTS, assert_close_in_norm, gradcheck, gradgradcheck, grads, leaf, randn

from stylegan_ops import modulated_conv2d

TENSORS = ("x", "weight", "styles", "noise", "bias")


def gradients(case, tensors, dy, impl=None):
    """dx, dweight, dstyles, dnoise and dbias, None for what the case has not."""
    leaves = {name: leaf(tensors[name]) for name in TENSORS}
    out = modulated_conv2d(**leaves, **case.arguments(), impl=impl)
    return grads(out, list(leaves.values()), dy.to(out.dtype))


def doubled(tensors):
    return {name: None if t is None else t.double() for name, t in tensors.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_match_float64_reference(kernel, name, dtype):
    """The reference's own gradients are checked by finite differences, its values by the definition."""
    case = CASES[NAMES.index(name)]
    # A kink or a clamp turns a small error of the output into a large one of the slope: these are conv_epilogue's to test. The demodulation
    # of a single channel takes its style out again, and leaves a gradient of nothing but rounding errors.
    case = replace(case, behind={"act": "swish"} if case.behind else {}, demodulate=case.demodulate and case.channels[0] > 1)
    for layout in LAYOUTS:
        tensors = case.make(dtype, layout)
        dy = randn(case.n, case.channels[1], *case.output_size(), dtype=dtype, layout=layout)
        wanted = gradients(case, doubled(tensors), dy, impl="reference")
        got = gradients(case, tensors, dy)
        # Between the steps: the output that the slope is read from, and from which the convolution's own is recovered, its slope, the
        # filtered image, conv^T, and dx. With one channel some gradients are one number, a small difference of large sums.
        roundings = 7 if case.channels[0] > 1 else 24
        for which, a, b in zip(TENSORS, got, wanted, strict=True):
            assert (a is None) == (b is None), which
            if a is not None:
                assert a.dtype == tensors[which].dtype
                assert_close_in_norm(a, b, dtype=dtype, terms=case.terms() + a.numel() + dy.numel(), roundings=roundings, what=which)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.styled and case.name in ("plain", "up", "down, styles", "no demodulation")]
)
def test_styles_of_zero(kernel, case):
    """Where si = 0 the gradient of si is not; it must not be computed as a quotient by si."""
    for dtype in (torch.float64, torch.float32):
        tensors = case.make(dtype, torch.channels_last)
        tensors["styles"][0] = 0
        tensors["styles"][1, 1] = 0
        dy = randn(case.n, case.channels[1], *case.output_size(), dtype=dtype)
        wanted = gradients(case, doubled(tensors), dy, impl="reference")
        assert wanted[2][1, 1] != 0
        for which, a, b in zip(TENSORS, gradients(case, tensors, dy), wanted, strict=True):
            if a is not None:  # sample by sample: a style of zero makes a demodulation of 1e4
                for i, j in zip(a, b, strict=True) if which in ("x", "styles") else [(a, b)]:
                    assert_close_in_norm(i, j, dtype=dtype, terms=500, roundings=6, what=which)


@pytest.mark.parametrize(
    ("x_dtype", "other"), [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float32, torch.float64)]
)
@pytest.mark.parametrize("name", ["plain", "up", "down"])
def test_parameters_of_another_dtype(kernel, name, x_dtype, other):
    """The result has x's dtype, each gradient its parameter's."""
    case = CASES[NAMES.index(name)]
    case = replace(case, behind={"act": "swish"})
    tensors = {key: None if t is None else t.to(other) for key, t in case.make(torch.float64, torch.channels_last).items()}
    tensors["x"] = tensors["x"].to(x_dtype)
    out = modulated_conv2d(**tensors, **case.arguments())
    assert out.dtype == x_dtype
    truth = modulated_conv2d(**doubled(tensors), **case.arguments(), impl="reference")
    assert_close_in_norm(out, truth, dtype=x_dtype, terms=case.terms() + 20, roundings=6)
    dy = randn(*out.shape, dtype=x_dtype)
    wanted = gradients(case, doubled(tensors), dy, impl="reference")
    for which, a, b in zip(TENSORS, gradients(case, tensors, dy), wanted, strict=True):
        if a is not None:
            assert a.dtype == tensors[which].dtype
            # also noise and bias, which are sums of what was rounded
            assert_close_in_norm(a, b, dtype=x_dtype, terms=case.terms() + dy.numel() + 500, roundings=8, what=which)


def generator_like(styles, parameters, noise, impl=None):
    """Two styled layers, the first with up, and a 1 x 1 one without demodulation: an image of 8 x 8."""
    first, second, last, bias, const = parameters
    common = {"padding": 1, "act": "lrelu", "bias": bias, "impl": impl}
    x = const.expand(len(styles), -1, -1, -1)
    x = modulated_conv2d(x, first, styles[:, :3], noise[0], up=2, resample_filter=BLUR.to(x.dtype), flip_weight=False, **common)
    x = modulated_conv2d(x, second, styles[:, 3:7], noise[1], **common)
    return modulated_conv2d(x, last, styles[:, :4], demodulate=False, bias=bias[:2], impl=impl)


def discriminator_like(x, parameters, impl=None):
    """Two plain layers, the second with down, and a number per sample."""
    first, second, last, bias, _ = parameters
    x = modulated_conv2d(x, first, None, padding=1, act="lrelu", bias=bias, impl=impl)
    x = modulated_conv2d(x, second, None, down=2, padding=1, resample_filter=BLUR.to(x.dtype), act="swish", bias=bias, impl=impl)
    return modulated_conv2d(x, last, None, padding=[-1, 0], act="softplus", impl=impl).mean([1, 2, 3])


def parameters(dtype):
    shapes = (4, 3, 3, 3), (4, 4, 3, 3), (2, 4, 1, 1), (4,), (1, 3, 4, 4)
    return [leaf(randn(*shape, dtype=dtype) / 3) for shape in shapes]


def assert_same_second_derivatives(loss, dtype, dy_terms=4000):
    """The gradients of a loss made of gradients, by the kernels and by the reference in float64."""
    results = []
    for leaves, impl in ((parameters(dtype), None), (None, "reference")):
        leaves = leaves or [leaf(t.double()) for t in results[0][1]]
        inputs = loss(leaves, impl)
        results.append((torch.autograd.grad(inputs, leaves, allow_unused=True), leaves))
    (got, leaves), (wanted, _) = results
    assert sum(t is not None for t in got) >= 3
    for a, b in zip(got, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close_in_norm(a, b, dtype=dtype, terms=dy_terms, roundings=8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_r1_penalty(kernel, dtype, layout):
    """`sum |dD/dx|^2`, differentiated by the parameters."""
    image = randn(2, 3, 8, 8, dtype=dtype, layout=layout)

    def penalty(leaves, impl):
        x = leaf(image.to(leaves[0].dtype))
        (gradient,) = torch.autograd.grad(discriminator_like(x, leaves, impl).sum(), x, create_graph=True)
        return gradient.square().sum([1, 2, 3]).mean()

    assert_same_second_derivatives(penalty, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_path_length_penalty(kernel, dtype):
    """`(|J^T y| - a)^2` with the Jacobian by the styles, differentiated by the parameters."""
    styles, direction = randn(2, 7, dtype=dtype), randn(2, 2, 8, 8, dtype=dtype)
    noise = [randn(8, 8, dtype=dtype), randn(2, 1, 8, 8, dtype=dtype)]

    def penalty(leaves, impl):
        kind = leaves[0].dtype
        s = leaf(styles.to(kind))
        image = generator_like(s, leaves, [t.to(kind) for t in noise], impl)
        (gradient,) = torch.autograd.grad((image * direction.to(kind)).sum(), s, create_graph=True)
        return (gradient.square().sum(1).sqrt() - 0.3).square().mean()

    assert_same_second_derivatives(penalty, dtype)


def test_second_derivatives_in_bfloat16_are_near(kernel):
    """R1 in 16 bits: rounded many times, but of the right size and direction."""
    image = randn(2, 3, 8, 8, dtype=torch.bfloat16)
    results = []
    for dtype, impl in ((torch.bfloat16, None), (torch.float64, "reference")):
        torch.manual_seed(5)
        leaves = [leaf(t.bfloat16().to(dtype)) for t in parameters(torch.float64)]
        x = leaf(image.to(dtype))
        (gradient,) = torch.autograd.grad(discriminator_like(x, leaves, impl).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), leaves[:3]))
    for a, b in zip(*results, strict=True):
        assert a.dtype == torch.bfloat16
        assert_close_in_norm(a, b, dtype=torch.bfloat16, terms=4000, roundings=24)


def convolutions(function):
    """How often the library's convolution is called: forward or conv^T, and weight gradients."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as p:
        function()
    counts = {event.key: event.count for event in p.key_averages()}
    return counts.get("aten::convolution", 0), counts.get("aten::convolution_backward", 0)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, (2, 1)),
        ({"down": 2, "resample_filter": BLUR}, (5, 1)),  # conv^T of stride 2 as four convolutions of a quarter each
        ({"up": 2, "resample_filter": BLUR, "flip_weight": False}, (5, 1)),
    ],
)
def test_a_step_costs_three_convolutions(native, kwargs, expected):
    """Forward, input gradient and weight gradient; the styles' gradient and the demodulation's are sums."""
    x, weight, styles, bias = (leaf(randn(*s, dtype=torch.float32)) for s in ((2, 3, 6, 6), (4, 3, 3, 3), (2, 3), (4,)))

    def step():
        modulated_conv2d(x, weight, styles, padding=1, bias=bias, act="lrelu", **kwargs).square().sum().backward()

    assert convolutions(step) == expected
    assert all(t.grad is not None for t in (x, weight, styles, bias))


@pytest.mark.parametrize("kwargs", [{}, {"up": 2, "resample_filter": BLUR, "flip_weight": False}])
def test_a_layer_keeps_its_input_and_its_output_only(native, kwargs):
    """Of all images: the convolution's own result is recovered from the output."""
    x, weight, styles, noise, bias = (leaf(randn(*s)) for s in ((2, 3, 16, 16), (4, 3, 3, 3), (2, 3), (1, 1, 16, 16), (4,)))
    if kwargs:
        noise = leaf(randn(1, 1, 32, 32))
    images = []

    def save(t):
        if t.numel() >= x.numel():
            images.append(t.data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(save, lambda t: t):
        y = modulated_conv2d(x, weight, styles, noise, padding=1, bias=bias, act="lrelu", clamp=1.0, **kwargs)
    assert sorted(images) == sorted([x.data_ptr(), y.data_ptr()])
    y.sum().backward()
    assert all(t.grad is not None for t in (x, weight, styles, noise, bias))


def test_a_linear_layer_without_a_scale_keeps_no_output(native):
    """Which may be added to in place, as the images of a network are."""
    inputs = x, weight, bias = leaf(randn(2, 3, 4, 5)), leaf(randn(4, 3, 1, 1)), leaf(randn(4))

    def function(x, weight, bias):
        return modulated_conv2d(x, weight, None, bias=bias, gain=3).add_(1)

    gradcheck(function, *inputs)
    gradgradcheck(function, *inputs)


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_from_the_recovered_convolution(kernel, act, layout):
    """To the second order, with noise, strength, bias and a clamp between the output and what it is recovered from."""
    torch.manual_seed(5)
    shapes = ((2, 3, 4, 5), (4, 3, 3, 3), (2, 3), (2, 1, 4, 5), (), (4,))
    inputs = [leaf(randn(*s, layout=layout if len(s) == 4 and s[0] == 2 else torch.contiguous_format)) for s in shapes]

    def function(x, weight, styles, noise, strength, bias):
        return modulated_conv2d(x, weight, styles, noise, noise_strength=strength, padding=1, bias=bias, act=act, clamp=2.5)

    gradcheck(function, *inputs)
    gradgradcheck(function, *inputs)


def test_second_derivatives_from_the_recovered_convolution_in_float64(kernel):
    """With a slope whose inverse float32 rounds."""
    shapes = ((2, 3, 4, 5), (4, 3, 3, 3), (2, 3), (2, 1, 4, 5), (4,))
    values = [randn(*shape) for shape in shapes]

    def second(impl):
        x, weight, styles, noise, bias = inputs = [leaf(v) for v in values]
        y = modulated_conv2d(x, weight, styles, noise, padding=1, bias=bias, act="lrelu", alpha=0.3, impl=impl)
        (ds,) = torch.autograd.grad(y.square().sum(), styles, create_graph=True)
        return torch.autograd.grad(ds.square().sum(), inputs)

    for got, wanted in zip(second(None), second("reference"), strict=True):
        assert_close_in_norm(got, wanted, dtype=torch.float64, terms=500, roundings=50)


def test_no_gradient_is_computed_that_nobody_asks_for(native):
    x, weight = randn(2, 3, 6, 6), randn(4, 3, 3, 3)
    assert convolutions(lambda: modulated_conv2d(leaf(x), weight, None).sum().backward()) == (2, 0)
    assert convolutions(lambda: modulated_conv2d(x, leaf(weight), None).sum().backward()) == (1, 1)
    assert convolutions(lambda: modulated_conv2d(x, weight, leaf(randn(2, 3)), demodulate=False).sum().backward()) == (2, 0)


def test_an_inference_kernel_refuses_to_be_differentiated(native):
    """It has no derivative, and says so instead of cutting the graph."""
    styles, scale = torch.ops.stylegan_ops.modulated_conv2d_styles(leaf(randn(1, 2, 3)), randn(12), None, [3], [4], [1], 1e-8)
    for result in (styles, scale):
        with pytest.raises(RuntimeError, match="modulated_conv2d_styles: has no derivative"):
            result.sum().backward()
