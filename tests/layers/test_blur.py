"""Blur against scipy's convolution with zeros outside the image."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from stylegan_ops.layers import Blur


@pytest.mark.parametrize("taps", [(1, 2, 1), (1, 4, 6, 4, 1), (1,), (1, 0, 3), tuple(range(1, 10))])
def test_filters_every_feature_map(taps):
    x = torch.randn(2, 3, 7, 10, dtype=torch.float64)
    kernel = np.outer(taps, taps) / sum(taps) ** 2
    expected = np.stack([[scipy.ndimage.convolve(plane, kernel, mode="constant") for plane in sample] for sample in x.numpy()])
    torch.testing.assert_close(Blur(taps).double()(x), torch.from_numpy(expected), rtol=1e-6, atol=1e-6)  # taps are made in float32


def test_default_is_the_papers():
    spike = torch.zeros(1, 1, 3, 3)
    spike[0, 0, 1, 1] = 16
    assert Blur()(spike)[0, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_keeps_dtype_layout_and_has_no_parameters():
    layer = Blur()
    assert list(layer.parameters()) == [] and list(layer.state_dict()) == ["resample_filter"]
    x = torch.randn(2, 8, 6, 6).bfloat16().contiguous(memory_format=torch.channels_last)
    y = layer(x)
    assert y.dtype == x.dtype and y.shape == x.shape and y.is_contiguous(memory_format=torch.channels_last)
    assert layer(x[:0]).shape == (0, 8, 6, 6)


def test_gradgradcheck():
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Blur().double(), x) and torch.autograd.gradgradcheck(Blur().double(), x)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1,) * 8])
def test_rejects_an_even_number_of_taps(taps):
    with pytest.raises(ValueError, match=rf"^Blur: taps must be an odd number of taps \(got {len(taps)}\)$"):
        Blur(taps)
