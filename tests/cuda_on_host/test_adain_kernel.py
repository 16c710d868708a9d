"""The CUDA kernels of adain, run on the host, against the formula in float64."""

import host
import pytest
import torch
from adain_definition import COMBINATIONS, EPS, SHAPES, Operands, Truth
from closed_forms import ACTS
from support import DTYPES, LAYOUTS, accumulate, assert_right, in_layout, randn

# A plane that no block holds in whole vectors and one that it holds in none, and few pixels of many channels
WIDE = [(1, 1, 129, 129), (1, 2, 160, 208), (3, 64, 2, 2)]


def fields_of(operands, act, gain, eps):
    x, scale, shift, noise, strength, bias = operands.all
    n, c, h, w = x.shape
    if noise is not None and strength is not None:
        strength = torch.as_tensor(strength, dtype=noise.dtype).expand(c).clone()
    shared = noise is None or noise.ndim == 2 or noise.shape[0] == 1
    fields = {"x": x, "scale": scale, "noise": noise, "strength": strength, "bias": bias, "noise_stride": 0 if shared else h * w}
    fields |= {"samples": n, "channels": c, "pixels": h * w, "eps": eps, "activation": host.activation(act, gain=gain)}
    fields |= {"layout": int(not x.is_contiguous()), "dtype": host.DTYPES[x.dtype]}
    return {name: value for name, value in fields.items() if value is not None}, shift


def cases(shape, dtype):
    """Half of the combinations for each shape and dtype, all of them for each of both; with act and layout."""
    shapes = [*SHAPES, *WIDE]
    for i, combination in enumerate(COMBINATIONS):
        which = i + shapes.index(shape) + DTYPES.index(dtype)
        if which % 2 == 0:
            yield Operands(shape, dtype, LAYOUTS[which // 2 % 2], *combination), ACTS[which % len(ACTS)], (EPS, 0.1)[i % 2]


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("shape", host.few([*SHAPES, *WIDE], 5))
def test_matches_float64_reference(shape, dtype):
    for operands, act, eps in cases(shape, dtype):
        truth = Truth(operands, act, 1.3, eps)
        fields, shift = fields_of(operands, act, 1.3, eps)
        given = {} if shift is None else {"shift": shift}
        for got in host.launch("adain", y=host.output(operands.all[0]), **fields, **given):
            assert_right(got["y"], truth.y, dtype=dtype, terms=truth.terms, magnitude=truth.y_size)


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("shape", host.few([*SHAPES, *WIDE], 5))
def test_backward_matches_formulas(shape, dtype):
    for i, (operands, act, eps) in enumerate(cases(shape, dtype)):
        x, small = operands.all[0], accumulate(dtype)
        (n, c, h, w), dy = x.shape, in_layout(randn(*shape, dtype=dtype), LAYOUTS[int(not x.is_contiguous())])
        expected = Truth(operands, act, 1.3, eps).gradients(dy)
        fields, _ = fields_of(operands, act, 1.3, eps)
        noises = n if fields["noise_stride"] else 1
        shapes = {"scale": (n, c), "shift": (n, c), "noise": (noises, h * w), "strength": (c,), "bias": (c,)}
        # Without the gradient of the noise, and of nothing but x, planes may end in registers.
        names = [name for name in shapes if name in fields or name == "shift"]
        for wanted in (names, [name for name in names if name != "noise"], [])[i % 2 :: 2]:
            outputs = {f"d{name}": host.output(shapes[name], small) for name in wanted}
            for got in host.launch("adain_backward", dy=dy, y=host.output(x), **fields, **outputs):
                terms = 3 * (2 * h * w + 40)
                assert_right(got["y"], expected["x"][0], dtype=dtype, terms=terms, magnitude=expected["x"][1])
                for name in wanted:
                    truth, size = (t.reshape(shapes[name]) for t in expected[name])
                    terms_here = terms + x.numel() // truth.numel()
                    assert_right(got[f"d{name}"], truth, dtype=small, terms=terms_here, magnitude=size)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", host.few([(2, 3, 33, 128), (1, 2, 160, 208), (1, 33, 17, 7)], 3))
def test_a_mean_far_beyond_the_deviation_does_not_cancel(shape, layout):
    """In planes in registers, in chunks of planes and in channels_last; an outlier is the reference of all sums."""
    x = randn(*shape, dtype=torch.float32) + 1000
    x[..., 0, :2] += 3000
    operands = Operands(shape, torch.float32, layout, False, False, None, None, False)
    operands.all = in_layout(x, layout), *operands.all[1:]
    fields, _ = fields_of(operands, "linear", 1.0, EPS)
    truth = Truth(operands, "linear").y
    for got in host.launch("adain", y=host.output(operands.all[0]), **fields):
        assert (got["y"] - truth).abs().max() < 32 * torch.finfo(torch.float32).eps * truth.abs().max()


def test_planes_are_read_once_where_a_block_holds_them():
    """How many launches a call is: one where a plane ends in registers, three with its moments, one more for sums of blocks."""
    counts = {}
    for shape in ((2, 3, 128, 128), (1, 2, 160, 256)):
        for layout in LAYOUTS:
            operands = Operands(shape, torch.float32, layout, True, True, "shared", "tensor", True)
            fields, _ = fields_of(operands, "lrelu", 1.0, EPS)
            y = host.output(operands.all[0])
            grad = {"dy": operands.all[0].clone(memory_format=torch.preserve_format), "y": y}
            small = {"dscale": host.output(shape[:2], torch.float32), "dbias": host.output(shape[1:2], torch.float32)}
            calls = host.plan("adain", y=y, **fields), host.plan("adain_backward", **grad, **fields, **small)
            counts[shape[2], layout] = tuple(map(len, calls))
    assert counts.pop((128, torch.contiguous_format)) == (1, 2)
    assert set(counts.values()) == {(3, 4)}
