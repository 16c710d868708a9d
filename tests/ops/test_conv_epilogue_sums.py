"""The gradients of conv_epilogue's operands, each a sum over the image, and their independence of the number of threads."""

import pytest
import torch
from closed_forms import ACTS, Expected
from epilogue_operands import COMBINATIONS, SHAPES, TERMS, Operands
from support import DTYPES, LAYOUTS, accumulate, assert_right, grads, in_layout, leaf, randn

from stylegan_ops import bias_act, conv_epilogue, modulated_conv2d
from stylegan_ops.ops._registry import CPU_VARIANTS


def assert_gradients(operands, dtype, act, clamp, dout):
    """dy, dscale, dnoise, dstrength and dbias against their formulas."""
    leaves = [leaf(t) if isinstance(t, torch.Tensor) else t for t in operands.all]
    out = conv_epilogue(*leaves, act=act, clamp=clamp)
    tensors = [t if isinstance(t, torch.Tensor) else None for t in leaves]
    got = dict(zip(("y", "scale", "noise", "strength", "bias"), grads(out, tensors, dout), strict=True))

    z, size = operands.argument()
    y, scale, noise, strength, _ = operands.factors()
    expected, small, g = Expected(z, size, dtype, act, clamp=clamp), accumulate(dtype), dout.double()
    dz, inner, g = expected.slope * g, expected.slope_inner * g.abs(), g.abs()
    assert_right(
        got["y"],
        dz * scale,
        dtype=dtype,
        terms=TERMS,
        magnitude=expected.slope_size * g * abs(scale),
        inner=inner * abs(scale),
        where=~expected.doubtful,
    )

    # The sums are taken in A, of terms whose slope may be off by a rounding to T, or by all of it at the clamp.
    eps = torch.finfo(small).eps
    dz_size = (expected.slope_size + expected.slope_inner * torch.finfo(dtype).eps / eps + expected.jump / eps) * g
    for name, factor, dims in [
        ("scale", y, [2, 3]),
        ("noise", strength, None),
        ("strength", noise, [0, 1, 2, 3]),
        ("bias", 1.0, [0, 2, 3]),
    ]:
        if got[name] is None:
            continue
        shape = got[name].shape
        terms, sizes = dz * factor, dz_size * abs(factor)
        if dims is None:  # what broadcasting repeated
            shape = shape if len(shape) == 4 else (1, 1, *shape)
            wanted, magnitude = terms.sum_to_size(shape), sizes.sum_to_size(shape)
        else:
            wanted, magnitude = terms.sum(dims), sizes.sum(dims)
        wanted, magnitude = wanted.reshape(got[name].shape), magnitude.reshape(got[name].shape)
        assert got[name].dtype == small
        assert_right(got[name], wanted, dtype=small, terms=TERMS + z.numel() // wanted.numel(), magnitude=magnitude)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_formulas(kernel, shape, dtype):
    for i, (combination, act) in enumerate(zip(COMBINATIONS, (ACTS * 2)[: len(COMBINATIONS)], strict=True)):
        layout, dout_layout, clamp = LAYOUTS[i % 2], LAYOUTS[i // 2 % 2], (None, 0.75)[(i + len(shape)) % 3 == 0]
        assert_gradients(Operands(shape, dtype, layout, *combination), dtype, act, clamp, randn(*shape, dtype=dtype, layout=dout_layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTS)
def test_every_activation_with_every_operand(kernel, act, layout):
    for dtype in (torch.float32, torch.bfloat16):
        for clamp in (None, 0.75, 0.7):  # 0.7 is none of the 16-bit numbers
            operands = Operands((2, 7, 5, 3), dtype, layout, True, "per sample", "tensor", True)
            assert_gradients(operands, dtype, act, clamp, randn(2, 7, 5, 3, dtype=dtype, layout=layout))


def test_gradient_of_expanded_dout(kernel):
    """What sum().backward() hands over: one number with strides of zero."""
    operands = Operands((2, 3, 7, 5), torch.float32, torch.channels_last, True, "shared", "tensor", True)
    assert_gradients(operands, torch.float32, "lrelu", None, torch.ones(()).expand(2, 3, 7, 5))


def test_an_operand_that_asks_for_no_gradient_gets_none(native):
    tensors = [t for t in Operands((2, 3, 4, 5), torch.float32, torch.contiguous_format, True, "shared", "tensor", True).all]
    for wanted in range(5):
        leaves = [leaf(t) if i == wanted else t for i, t in enumerate(tensors)]
        conv_epilogue(*leaves, act="lrelu").sum().backward()
        assert [t.grad is not None for t in leaves] == [i == wanted for i in range(5)]


def all_bits(threads, dtype, layout):
    """Every op with a sum in its backward, on an image large enough for two threads to share it."""
    torch.manual_seed(3)
    torch.set_num_threads(threads)
    results = []
    for shape in ((2, 600, 13, 17), (4, 3, 129, 67), (3, 65, 33, 33)):
        n, c, h, w = shape
        y, dout = leaf(randn(*shape, dtype=dtype, layout=layout)), in_layout(randn(*shape, dtype=dtype), layout)
        small = [leaf(randn(*s, dtype=torch.float32)) for s in ((n, c), (1, 1, h, w), (1,), (c,))]
        out = conv_epilogue(y, *small, act="lrelu")
        results += [out, *grads(out, [y, *small], dout)]
        out = bias_act(y, small[3], act="tanh")
        results += [out, *grads(out, [y, small[3]], dout)]
    x, weight, styles, bias = randn(2, 8, 33, 33, dtype=dtype, layout=layout), randn(16, 8, 3, 3), randn(2, 8), randn(16)
    inputs = [leaf(x), *(leaf(t.float()) for t in (weight, styles, bias))]
    out = modulated_conv2d(*inputs[:3], padding=1, bias=inputs[3], act="lrelu")
    results += [out, *grads(out, [inputs[2], inputs[3]], torch.ones_like(out))]
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", CPU_VARIANTS, indirect=True)
def test_one_and_two_threads_give_the_same_bits(kernel, layout, dtype):
    for one, two in zip(all_bits(1, dtype, layout), all_bits(2, dtype, layout), strict=True):
        assert torch.equal(one, two)
