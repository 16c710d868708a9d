"""The CUDA kernels of conv_epilogue, run on the host, against float64."""

import host
import pytest
import torch
from closed_forms import ACTS, Expected
from epilogue_operands import COMBINATIONS, SHAPES, TERMS, Operands
from support import DTYPES, LAYOUTS, accumulate, assert_right, in_layout, randn


def small_operands(operands, n):
    """The fields of scale, noise, strength and bias."""
    y, scale, noise, strength, bias = operands.all
    pixels = y.shape[2] * y.shape[3]
    shared = noise is None or noise.ndim == 2 or noise.shape[0] == 1
    if isinstance(strength, float):
        strength = torch.tensor(strength, dtype=noise.dtype)
    return {"scale": scale, "noise": noise, "strength": strength, "bias": bias, "noise_stride": 0 if shared else pixels}


def cases(shape, dtype):
    """Operands and activations with their numbers: half of them for each shape and dtype, all of them for each of both."""
    pairs = zip(COMBINATIONS, (ACTS * 2)[: len(COMBINATIONS)], strict=True)
    return [(i, pair) for i, pair in enumerate(pairs) if (i + SHAPES.index(shape) + DTYPES.index(dtype)) % 2 == 0]


def image_fields(y):
    return {"samples": y.shape[0], "pixels": y.shape[2] * y.shape[3], "layout": int(not y.is_contiguous()), "dtype": host.DTYPES[y.dtype]}


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("shape", host.few(SHAPES, 5))
def test_matches_float64_reference(shape, dtype):
    for i, (combination, act) in cases(shape, dtype):
        operands, clamp = Operands(shape, dtype, LAYOUTS[i % 2], *combination), (None, 0.7)[i // 2 % 2]
        y = operands.all[0]
        fields = small_operands(operands, y.shape[0]) | {"channels": y.shape[1], "activation": host.activation(act, clamp=clamp)}
        z, size = operands.argument()
        expected = Expected(z, size, dtype, act, clamp=clamp)
        for got in host.launch("conv_epilogue", y=y, out=host.output(y), operands=fields, **image_fields(y)):
            assert_right(got["out"], expected.y, dtype=dtype, terms=TERMS, magnitude=expected.y_size)


def sums_of(terms, shapes):
    """The sums that the gradients of scale, bias, strength and noise are, of terms as large as the image."""
    dims = {"dscale": [2, 3], "dbias": [0, 2, 3], "dstrength": [0, 1, 2, 3], "dnoise": [1] if shapes["dnoise"][0] > 1 else [0, 1]}
    return {name: terms[name].sum(dims[name]).reshape(shapes[name]) for name in terms}


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("shape", host.few(SHAPES, 5))
def test_backward_matches_formulas(shape, dtype):
    (n, c, h, w), small = shape, accumulate(dtype)
    for i, (combination, act) in cases(shape, dtype):
        layout, clamp = LAYOUTS[i % 2], (None, 0.75)[i // 2 % 2]
        operands = Operands(shape, dtype, layout, *combination)
        z, size = operands.argument()
        expected, dout = Expected(z, size, dtype, act, clamp=clamp), randn(*shape, dtype=dtype, layout=layout)
        ref = None if act == "linear" and clamp is None else in_layout((z if act == "swish" else expected.y).to(dtype), layout)
        fields = small_operands(operands, n)
        shapes = {"dscale": (n, c), "dbias": (c,), "dstrength": (), "dnoise": (n if fields["noise_stride"] else 1, h * w)}
        given = {"dscale": fields["scale"], "dbias": fields.pop("bias"), "dstrength": fields["noise"], "dnoise": fields["noise"]}
        wanted = {name: host.output(shapes[name], small) for name in shapes if given[name] is not None}

        y, scale, noise, strength, _ = operands.factors()
        g = dout.double()
        dz, magnitude, inner = expected.slope * g, expected.slope_size * g.abs(), expected.slope_inner * g.abs()
        # The sums are taken in A, of terms whose slope may be off by a rounding to T, or by all of it at the clamp.
        eps = torch.finfo(small).eps
        loose = magnitude + (inner * torch.finfo(dtype).eps + expected.jump * g.abs()) / eps
        factors = {"dscale": y, "dbias": 1.0, "dstrength": noise, "dnoise": strength}
        truth = sums_of({name: dz * factors[name] for name in wanted}, shapes)
        sizes = sums_of({name: loose * abs(factors[name]) for name in wanted}, shapes)

        fields |= image_fields(dout) | {"channels": c, "activation": host.activation(act, clamp=clamp)}
        fields |= {"dout": dout, "ref": ref, "y": operands.all[0], "dy": host.output(dout)}
        for got in host.launch("conv_epilogue_backward", **fields, **wanted):
            assert_right(
                got["dy"],
                dz * scale,
                dtype=dtype,
                terms=TERMS,
                magnitude=magnitude * abs(scale),
                inner=inner * abs(scale),
                where=~expected.doubtful,
            )
            for name in wanted:
                terms = TERMS + z.numel() // truth[name].numel()
                assert_right(got[name], truth[name], dtype=small, terms=terms, magnitude=sizes[name])


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("shape", host.few(SHAPES, 5))
def test_backward_recovers_its_input_from_the_output(shape, dtype, act):
    """dscale without y: `y = (act^-1(out / gain) - noise strength - bias) / scale` wherever the slope is not 0."""
    (n, c, h, w), small = shape, accumulate(dtype)
    for i, layout in enumerate(LAYOUTS):
        clamp = (None, 0.75)[i]
        operands = Operands(shape, dtype, layout, True, "per sample", "tensor", True)
        z, size = operands.argument()
        out, dout = in_layout(Expected(z, size, dtype, act, clamp=clamp).y.to(dtype), layout), randn(*shape, dtype=dtype, layout=layout)
        _, scale, noise, strength, bias = operands.factors()
        gain = 1.0 if act == "linear" else 2**0.5
        u = out.double() / gain
        slope = torch.ones_like(u).where(u > 0, {"linear": 1.0, "relu": 0.0, "lrelu": 0.2}[act])
        recovered = torch.where(slope > 0, u / slope.clamp(min=0.1), 0.0)
        dz = dout.double() * gain * slope * (out.double().abs() < (clamp or torch.inf))
        behind = noise * strength + bias
        truth = (dz * (recovered - behind) / scale).sum([2, 3])
        magnitude = (dz.abs() * (recovered.abs() + (noise * strength).abs() + abs(bias)) / abs(scale)).sum([2, 3])
        fields = small_operands(operands, n) | image_fields(dout)
        fields |= {"channels": c, "activation": host.activation(act, clamp=clamp), "recovers": True}
        fields |= {"dout": dout, "ref": out, "dy": host.output(dout), "dscale": host.output((n, c), small)}
        for got in host.launch("conv_epilogue_backward", **fields):
            assert_right(got["dscale"], truth, dtype=small, terms=TERMS + h * w, magnitude=magnitude)
