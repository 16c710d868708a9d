"""The CUDA kernels of the fused convolution's weights, layout and gradient, run on the host, against the definition in float64."""

from dataclasses import dataclass

import host
import numpy as np
import pytest
import torch
from convolution import ARITHMETIC, Geometry, rounded, scaled
from support import DTYPES, accumulate, assert_right, randn

# 1. The layout


@pytest.mark.parametrize("dtype", host.few(DTYPES, 2))
@pytest.mark.parametrize("from_float32", [False, True])
def test_packs_weights_of_any_strides(from_float32, dtype):
    for o, i, ky, kx in [(1, 1, 1, 1), (5, 33, 3, 3), (3, 300, 1, 1), (4, 8, 1, 3)]:
        row = 64 // dtype.itemsize
        w = randn(o, i, ky, kx, dtype=torch.float32 if from_float32 else dtype)
        wanted = torch.zeros(ky * kx, o, -(-i // row) * row, dtype=dtype)
        wanted[:, :, :i] = w.permute(2, 3, 0, 1).flatten(0, 1)
        shape = {"in_channels": i, "out_channels": o, "kernel_y": ky, "kernel_x": kx, "from_float32": from_float32}
        reversed_taps, all_reversed = w.flip(2, 3), w.transpose(0, 1).contiguous().flip(0, 1, 2, 3)
        for memory, first, strides in [
            (w, 0, w.stride()),
            (w.transpose(0, 1).contiguous(), 0, (ky * kx, o * ky * kx, kx, 1)),
            (reversed_taps, ky * kx - 1, (i * ky * kx, ky * kx, -kx, -1)),
            (all_reversed, w.numel() - 1, (-ky * kx, -o * ky * kx, -kx, -1)),
        ]:
            given = shape | dict(zip(["stride_o", "stride_i", "stride_y", "stride_x"], strides, strict=True))
            given |= {"w": host.At(memory, first), "out": host.output(wanted), "dtype": host.DTYPES[dtype]}
            for got in host.launch("pack_weight", **given):
                assert torch.equal(got["out"], wanted)


# 2. The gradient


@dataclass(frozen=True)
class Case:
    """A strided convolution, the device for which it is planned, and which of both scales there are."""

    geometry: Geometry
    multiprocessors: int = 2
    shared_kib: int = 99
    styles: bool = True
    scale: bool = True

    def on(self, arithmetic) -> host.Device:
        return host.Device(arithmetic.architecture, self.multiprocessors, self.shared_kib)


CASES = {
    "one product": Case(Geometry(1, (1, 1), (33, 8), 1, pad=(0, 0))),  # shows a TF32 operand that is cut off, not rounded
    "one tile": Case(Geometry(1, (7, 5), (33, 40))),
    "small images": Case(Geometry(5, (4, 4), (33, 5))),
    "small images, split": Case(Geometry(9, (7, 7), (8, 3)), 40),
    "small images, 1 x 1": Case(Geometry(5, (4, 5), (33, 72), 1, pad=(0, 0)), scale=False),
    "samples": Case(Geometry(2, (17, 20), (3, 5)), 8),
    "samples, 1 x 1": Case(Geometry(3, (13, 16), (40, 33), 1, pad=(0, 0)), 40),
    "samples, one buffer": Case(Geometry(2, (17, 16), (5, 8)), 2, 56, styles=False),
    "stride 2": Case(Geometry(2, (33, 19), (5, 3), stride=2), 8),
    "stride 2, small images": Case(Geometry(3, (9, 8), (32, 64), stride=2)),
    "stride 2, 1 x 1": Case(Geometry(1, (8, 9), (33, 3), 1, stride=2, pad=(0, 0)), styles=False, scale=False),
    "as of a transposed one": Case(Geometry(2, (33, 9), (5, 33), stride=2, pad=(0, 0)), 8, styles=False),
}


def gradient_fields(case, arithmetic, dw):
    g, dtype = case.geometry, arithmetic.dtype
    n, (i, o), small = g.samples, g.channels, accumulate(arithmetic.dtype)
    given = {"x": randn(n, *g.size, i, dtype=dtype), "dy": randn(n, *g.out_size, o, dtype=dtype), "dw": host.output(dw, dtype)}
    given["styles"] = randn(n, i, dtype=small) if case.styles else None
    given["scale"] = randn(n, o, dtype=small) if case.scale else None
    strides = dict(zip(["stride_o", "stride_i", "stride_y", "stride_x"], dw.stride(), strict=True))
    return given | strides | g.fields() | arithmetic.fields()


def layouts(g):
    """Both orders of the channels: a transposed convolution has the other one."""
    shape = (*g.channels[::-1], g.kernel, g.kernel)
    return torch.empty(shape), torch.empty(shape).transpose(0, 1).contiguous().transpose(0, 1)


def assert_gradient_right(case, arithmetic, given, dw, **changed):
    g, dtype = case.geometry, arithmetic.dtype
    x, dy = scaled(given["x"], given["styles"]), scaled(given["dy"], given["scale"])
    sides = rounded(x, dtype), rounded(dy, dtype)
    truth, size, inner = (torch.from_numpy(g.weight_gradient(*pair)) for pair in [(x, dy), (np.abs(x), np.abs(dy)), sides])
    roundings = case.styles + case.scale  # of the operands; none where samples are apart
    carried = roundings * inner * (1 + torch.finfo(dtype).eps)
    terms = arithmetic.terms(g.samples * g.out_size[0] * g.out_size[1]) + 4
    for got in host.launch("fused_conv_weight", case.on(arithmetic), **given | changed):
        assert_right(got["dw"], truth, dtype=dtype, terms=terms, magnitude=size, inner=carried)


@pytest.mark.parametrize("name", host.few(list(CASES), 3))
@pytest.mark.parametrize("kind", host.few(list(ARITHMETIC), 2))
def test_gradient_matches_float64_reference(kind, name):
    arithmetic, case = ARITHMETIC[kind], CASES[name]
    for dw in layouts(case.geometry):
        assert_gradient_right(case, arithmetic, gradient_fields(case, arithmetic, dw), dw)


@pytest.mark.parametrize("kind", ["float16", "tf32", "float64"])
def test_gradient_of_images_at_any_address(kind):
    arithmetic, case = ARITHMETIC[kind], Case(Geometry(1, (4, 5), (8, 16)))
    dw = layouts(case.geometry)[0]
    given = gradient_fields(case, arithmetic, dw)
    for name in ("x", "dy"):
        moved = torch.cat([torch.zeros(1, dtype=arithmetic.dtype), given[name].flatten()])
        assert_gradient_right(case, arithmetic, given, dw, **{name: host.At(moved, 1)})


def test_gradient_refuses_too_little_shared_memory():
    case, arithmetic = CASES["one tile"], ARITHMETIC["float32"]
    with pytest.raises(RuntimeError, match="modulated_conv2d_weight: too little shared memory"):
        host.plan("fused_conv_weight", host.Device(shared_kib=2), **gradient_fields(case, arithmetic, layouts(case.geometry)[0]))


def test_cases_reach_every_kernel():
    reached = set()
    for arithmetic in ARITHMETIC.values():
        for case in CASES.values():
            given = gradient_fields(case, arithmetic, layouts(case.geometry)[0])
            reached |= {kernel for kernel, _ in host.plan("fused_conv_weight", case.on(arithmetic), **given)}
    every = host.instantiations("modulated_conv2d_weight_kernel") | host.instantiations("add_weight_splits_kernel")
    assert reached == every, f"no case reaches {host.readable(every - reached)}"
