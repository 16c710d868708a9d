"""The CUDA kernels of the fused convolution, run on the host, against the definition in float64."""

from dataclasses import dataclass

import host
import numpy as np
import pytest
import torch
from closed_forms import CLOSED_FORMS, activate
from convolution import ACTIVATIONS, ARITHMETIC, STEEPEST, Geometry, packed, rounded, scaled
from epilogue_operands import COMBINATIONS, TERMS, Operands
from support import accumulate, assert_right, randn
from test_conv_epilogue_kernel import small_operands


@dataclass(frozen=True)
class Case:
    """A convolution, the device for which it is planned, and which of the epilogues is behind it."""

    geometry: Geometry
    multiprocessors: int
    shared_kib: int
    epilogue: int
    styled: bool = True

    @property
    def products(self):
        """How many a pixel of the result is the sum of."""
        return self.geometry.kernel**2 * self.geometry.channels[0]

    def on(self, arithmetic) -> host.Device:
        return host.Device(arithmetic.architecture, self.multiprocessors, self.shared_kib)


# Chosen for the blocks' shapes and splits that they get in one arithmetic or another: see test_cases_reach_every_kernel.
CASES = {
    "one product": Case(Geometry(1, (5, 7), (1, 8), 1, pad=(0, 0)), 2, 99, 0),  # shows a TF32 operand that is cut off, not rounded
    "1 x 1 to a picture": Case(Geometry(2, (9, 7), (33, 3), 1, pad=(0, 0)), 8, 99, 0),
    "picture": Case(Geometry(1, (17, 16), (8, 5)), 2, 64, 1),
    "small images": Case(Geometry(5, (4, 4), (33, 33)), 8, 227, 2),
    "small images, split": Case(Geometry(5, (4, 4), (33, 33)), 40, 99, 3),
    "small images, few channels": Case(Geometry(3, (4, 4), (8, 20)), 2, 64, 4, styled=False),
    "narrow": Case(Geometry(1, (16, 16), (32, 32)), 2, 64, 5),
    "medium": Case(Geometry(1, (16, 16), (32, 32)), 2, 99, 6, styled=False),
    "large": Case(Geometry(1, (20, 13), (32, 64)), 2, 64, 7),
    "odd images": Case(Geometry(3, (7, 7), (33, 40)), 8, 227, 8),
    "1 x 1": Case(Geometry(1, (8, 16), (32, 128), 1, pad=(0, 0)), 2, 64, 9),
    "1 x 1, split": Case(Geometry(1, (27, 26), (65, 33), 1, pad=(0, 0)), 1000, 99, 3),
    "stride 2": Case(Geometry(1, (9, 11), (33, 40), stride=2), 8, 99, 0),
    "stride 2, small images": Case(Geometry(3, (8, 8), (5, 33), stride=2), 2, 99, 4),
    "stride 2, 1 x 1": Case(Geometry(2, (9, 7), (40, 33), 1, stride=2, pad=(0, 0)), 40, 99, 6),
    "stride 2, no padding": Case(Geometry(2, (8, 6), (3, 8), stride=2, pad=(0, 2)), 2, 99, 1, styled=False),
    "transposed, 1 x 1": Case(Geometry(3, (5, 4), (33, 3), 1, stride=0, pad=(0, 0)), 40, 99, 2),
    "transposed, small images": Case(Geometry(2, (4, 4), (40, 33), stride=0, pad=(0, 0)), 2, 99, 3),
    "transposed, padded": Case(Geometry(3, (4, 5), (3, 33), stride=0, pad=(1, 0), extra=(1, 1)), 2, 99, 7, styled=False),
    "transposed, split": Case(Geometry(1, (4, 4), (64, 3), stride=0, pad=(0, 0)), 108, 99, 8),
    "transposed, a phase less in the last tile": Case(Geometry(2, (64, 1), (8, 64), stride=0, pad=(0, 0)), 32, 99, 1),
    "all phases of a picture": Case(Geometry(1, (16, 16), (33, 3), stride=0, pad=(0, 0)), 8, 99, 4),
    "all phases, split": Case(Geometry(1, (16, 16), (33, 3), stride=0, pad=(0, 0)), 40, 99, 1),
    "all phases, padded": Case(Geometry(1, (15, 18), (3, 20), stride=0, pad=(1, 1), extra=(1, 0)), 2, 64, 5),
    "all phases, many channels": Case(Geometry(1, (16, 17), (8, 64), stride=0, pad=(0, 1)), 8, 99, 9, styled=False),
}


def operands(case, arithmetic):
    g, dtype = case.geometry, arithmetic.dtype
    x, w = randn(g.samples, *g.size, g.channels[0], dtype=dtype), randn(*g.channels[::-1], g.kernel, g.kernel, dtype=dtype)
    styles = randn(g.samples, g.channels[0], dtype=accumulate(dtype)) if case.styled else None
    behind = Operands((g.samples, g.channels[1], *g.out_size), dtype, torch.contiguous_format, *COMBINATIONS[case.epilogue])
    return x, w, styles, behind


def fields(case, arithmetic, x, w, styles, behind):
    g, (act, clamp) = case.geometry, ACTIVATIONS[case.epilogue % len(ACTIVATIONS)]
    epilogue = small_operands(behind, g.samples) | {"channels": g.channels[1], "activation": host.activation(act, clamp=clamp)}
    y = host.output((g.samples, *g.out_size, g.channels[1]), arithmetic.dtype)
    given = {"x": x, "w": packed(w, arithmetic.dtype), "styles": styles, "y": y, "epilogue": epilogue}
    return given | g.fields() | arithmetic.fields() | {"transposed": g.stride == 0}


def convolved(case, arithmetic, x, w, styles):
    """The convolution [N, O, H', W'], the sum of its absolute terms, and of those that a rounding of styles * x to the dtype carries."""
    g, exact, weights = case.geometry, scaled(x, styles), w.double().numpy()
    inner = rounded(exact, arithmetic.dtype) if case.styled else np.zeros_like(exact)
    pairs = [(exact, weights), (np.abs(exact), np.abs(weights)), (inner, np.abs(weights))]
    return tuple(torch.from_numpy(g.convolve(x, w)).permute(0, 3, 1, 2) for x, w in pairs)


def assert_result_right(got, case, arithmetic, behind, convolution):
    """y [N, H', W', O], which stands behind what convolved() gave."""
    result, size, inner = convolution
    _, scale, *_ = behind.factors()
    behind.all = size, *behind.all[1:]
    size = behind.argument()[1]
    behind.all = result, *behind.all[1:]
    act, clamp = ACTIVATIONS[case.epilogue % len(ACTIVATIONS)]
    y, *_ = activate(behind.argument()[0], act, clamp=clamp)
    steepest = STEEPEST[act] * CLOSED_FORMS[act].gain
    terms = arithmetic.terms(case.products) + TERMS
    inner = steepest * inner * abs(scale)
    assert_right(got.permute(0, 3, 1, 2), y, dtype=arithmetic.dtype, terms=terms, magnitude=steepest * size, inner=inner)


def assert_launch_right(case, arithmetic, x, w, styles, behind, /, **changed):
    convolution = convolved(case, arithmetic, x, w, styles)
    for got in host.launch("fused_conv", case.on(arithmetic), **fields(case, arithmetic, x, w, styles, behind) | changed):
        assert_result_right(got["y"], case, arithmetic, behind, convolution)


@pytest.mark.parametrize("name", host.few(list(CASES), 5))
@pytest.mark.parametrize("kind", host.few(list(ARITHMETIC), 2))
def test_matches_float64_reference(kind, name):
    arithmetic, case = ARITHMETIC[kind], CASES[name]
    assert_launch_right(case, arithmetic, *operands(case, arithmetic))


def with_products(case, arithmetic):
    """The fields of a second image and of the sums that go with it."""
    g, dtype = case.geometry, arithmetic.dtype
    factor = randn(g.samples, *g.out_size, g.channels[1], dtype=dtype)
    return {"factor": factor, "products": host.output(factor[:, 0, 0], accumulate(dtype))}


@pytest.mark.parametrize("name", host.few(list(CASES), 5))
@pytest.mark.parametrize("kind", host.few(list(ARITHMETIC), 2))
def test_products(kind, name):
    """Sums over the pixels of factor and the convolution before anything behind it; each case and arithmetic with y and without."""
    arithmetic, case = ARITHMETIC[kind], CASES[name]
    given, more = operands(case, arithmetic), with_products(case, arithmetic)
    result, size, inner = convolution = convolved(case, arithmetic, *given[:3])
    factor, small = more["factor"].permute(0, 3, 1, 2).double(), accumulate(arithmetic.dtype)
    terms = arithmetic.terms(case.products) + factor[0, 0].numel()
    lost = inner * torch.finfo(arithmetic.dtype).eps / 2 / (terms * torch.finfo(small).eps)
    truth, magnitude = (result * factor).sum([2, 3]), ((size + lost) * factor.abs()).sum([2, 3])
    if (list(ARITHMETIC).index(kind) + list(CASES).index(name)) % 2 == 0:
        more["y"] = None
    for got in host.launch("fused_conv", case.on(arithmetic), **fields(case, arithmetic, *given) | more):
        assert_right(got["products"], truth, dtype=small, terms=terms, magnitude=magnitude)
        if "y" not in more:
            assert_result_right(got["y"], case, arithmetic, given[3], convolution)


@pytest.mark.parametrize("kind", ["float16", "tf32", "float64"])
def test_images_at_any_address(kind):
    arithmetic, case = ARITHMETIC[kind], CASES["small images, few channels"]
    x, *others = operands(case, arithmetic)
    moved = torch.cat([torch.zeros(1, dtype=x.dtype), x.flatten()])
    assert_launch_right(case, arithmetic, x, *others, x=host.At(moved, 1))


def test_refuses_too_little_shared_memory():
    case, arithmetic = CASES["picture"], ARITHMETIC["float32"]
    with pytest.raises(RuntimeError, match="modulated_conv2d: too little shared memory"):
        host.plan("fused_conv", host.Device(shared_kib=2), **fields(case, arithmetic, *operands(case, arithmetic)))


def test_cases_reach_every_kernel():
    reached, splits = set(), {}
    for kind, arithmetic in ARITHMETIC.items():
        for case in CASES.values():
            for kernel, grid in host.plan("fused_conv", case.on(arithmetic), **fields(case, arithmetic, *operands(case, arithmetic))):
                reached.add(kernel)
                splits.setdefault(kind, set()).add(grid[1] > 1)
    every = host.instantiations("modulated_conv2d_kernel") | host.instantiations("add_splits_kernel")
    assert reached == every, f"no case reaches {host.readable(every - reached)}"
    assert all(both == {False, True} for both in splits.values())


def test_cases_reach_every_way_to_the_products():
    """Left by the kernel, or by the second stage of samples that share a tile or of splits; whole, or to be added up."""
    names = {"modulated_conv2d_kernel": "conv", "add_splits_kernel": "second", "sums_kernel": "sums"}
    for arithmetic in ARITHMETIC.values():
        ways = set()
        for case in CASES.values():
            given = fields(case, arithmetic, *operands(case, arithmetic)) | with_products(case, arithmetic)
            plan = host.plan("fused_conv", case.on(arithmetic), **given)
            kernels = [names[name] for symbol, _ in plan for name in names if name in symbol]
            ways.add((*kernels, plan[0][1][1] > 1))
        whole, split = {("conv",), ("conv", "sums"), ("conv", "second")}, {("conv", "second"), ("conv", "second", "sums")}
        wanted = {(*way, False) for way in whole} | {(*way, True) for way in split}
        assert ways >= wanted, f"no case goes {wanted - ways}"
