"""MinibatchStddev against its definition in loops."""

import pytest
import torch

from stylegan_ops.layers import MinibatchStddev


def definition(x, group_size, maps):
    n, c, h, w = x.shape
    group = max(g for g in range(1, group_size + 1) if n % g == 0)
    groups = n // group
    y = torch.zeros(n, maps, h, w, dtype=x.dtype)
    for k in range(groups):
        members = [i for i in range(n) if i % groups == k]
        assert len(members) == group
        std = torch.sqrt(x[members].var(dim=0, correction=0) + 1e-8)
        for m in range(maps):
            y[members, m] = std[m * c // maps : (m + 1) * c // maps].mean()
    return torch.cat([x, y], dim=1)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12])
@pytest.mark.parametrize("maps", [1, 2])
def test_matches_definition_for_any_batch(n, maps):
    x = torch.randn(n, 4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(MinibatchStddev(4, maps)(x), definition(x, 4, maps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "group"), [(7, 1), (9, 3), (6, 3), (10, 2), (8, 4)])
def test_takes_the_largest_group_that_divides_the_batch(n, group):
    x = torch.randn(n, 2, 1, 1)
    levels = MinibatchStddev(4)(x)[:, -1].flatten()
    assert len(levels.unique()) == (1 if group == 1 else n // group)
    if group == 1:
        torch.testing.assert_close(levels, torch.full([n], 1e-4))


def test_strided_slices_see_the_groups_of_the_whole_batch():
    x = torch.randn(16, 3, 4, 4, dtype=torch.float64)
    layer = MinibatchStddev(4)
    whole = layer(x)
    for rank in range(2):
        torch.testing.assert_close(layer(x[rank::2]), whole[rank::2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_dtype_and_layout_and_computes_in_float32(memory_format):
    x = (torch.randn(4, 6, 4, 4) + 100).bfloat16().to(memory_format=memory_format)
    y = MinibatchStddev()(x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=memory_format)
    assert torch.equal(y, definition(x.double(), 4, 1).bfloat16())


def test_empty_batch():
    assert MinibatchStddev()(torch.zeros(0, 4, 4, 4)).shape == (0, 5, 4, 4)


def test_gradients():
    x = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MinibatchStddev(2), x)
    assert torch.autograd.gradgradcheck(MinibatchStddev(2), x)


def test_gradients_are_finite_when_samples_agree():
    x = torch.ones(4, 2, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(MinibatchStddev()(x).sum(), x)
    assert gradient.isfinite().all()


def test_rejects_bad_arguments():
    with pytest.raises(ValueError, match=r"^MinibatchStddev: group_size must be at least 1 \(got 0\)$"):
        MinibatchStddev(0)
    with pytest.raises(ValueError, match=r"^MinibatchStddev: num_channels must be at least 1 \(got 0\)$"):
        MinibatchStddev(4, 0)
    with pytest.raises(ValueError, match=r"^MinibatchStddev: x must have a multiple of num_channels=2 channels \(got 3\)$"):
        MinibatchStddev(4, 2)(torch.zeros(4, 3, 2, 2))
