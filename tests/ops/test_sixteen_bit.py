"""The conversions from and to bfloat16 and float16: every bit pattern, every SIMD variant and the tails of their loops."""

import pytest
import torch
from support import SIXTEEN_BIT

from stylegan_ops import bias_act, conv_epilogue


def all_patterns(dtype):
    return torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)


def assert_same_numbers(got, wanted):
    assert got.dtype == wanted.dtype
    assert torch.equal(got.isnan(), wanted.isnan())
    assert torch.equal(got[~got.isnan()], wanted[~wanted.isnan()])


@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
def test_every_pattern_round_trips(kernel, dtype):
    """Also subnormal numbers and infinity; NaN stays NaN."""
    x = all_patterns(dtype)
    assert_same_numbers(bias_act(x, dim=0), x)
    assert_same_numbers(conv_epilogue(x.reshape(1, 2, 128, 256)), x.reshape(1, 2, 128, 256))


@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
def test_every_pattern_as_a_float(kernel, dtype):
    """A difference to a float32 bias is exact enough to see a wrong conversion: x - x is 0."""
    x = all_patterns(dtype)
    x = x[x.isfinite()]
    assert torch.equal(bias_act(x[None], -x.float()), torch.zeros_like(x)[None])


def test_floats_round_to_nearest_even(kernel):
    """0 + b in 16 bits is b rounded; b is each kind of float32: random bits, ties and their neighbours, subnormal, too large."""
    bits = torch.randint(-(2**31), 2**31, (40001,), dtype=torch.int64)
    for dtype, shift in zip(SIXTEEN_BIT, (16, 13), strict=True):
        exact = all_patterns(dtype).float()
        exact = exact[exact.isfinite()]
        ties = (exact.view(torch.int32).long() + (1 << (shift - 1)))[:, None] + torch.tensor([-1, 0, 1])
        subnormal = exact[exact.abs() < 2 * torch.finfo(dtype).tiny]
        between = ((subnormal[1:] + subnormal[:-1]) / 2).view(torch.int32).long()[:, None] + torch.tensor([-1, 0, 1])
        halves = torch.cat([bits, ties.flatten(), between.flatten()]).to(torch.int32).view(torch.float32)
        if dtype == torch.float16:  # random bits are mostly out of its range
            halves = torch.cat([halves, torch.randn(20001) * 1e-5, torch.randn(20001) * 3e4])
        assert_same_numbers(bias_act(torch.zeros(1, len(halves), dtype=dtype), halves), halves.to(dtype)[None])


@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
def test_short_rows(kernel, dtype):
    """Loops of 8 or 16 elements and the rest after them."""
    for n in range(1, 36):
        x = (torch.randn(3, n) * 100).to(dtype)
        wanted = (x.float() + 0.3).to(dtype)
        assert torch.equal(bias_act(x, torch.full([n], 0.3)), wanted)
        assert torch.equal(bias_act(x, torch.full([3], 0.3), dim=0), wanted)
