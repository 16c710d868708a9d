"""Resampling and PixelNorm: the modules around single operators."""

import torch

from stylegan_ops.layers import PixelNorm, Resampling


def test_filter_is_a_buffer_that_follows_the_module():
    module = Resampling((1, 3, 3, 1))
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    torch.testing.assert_close(module.resample_filter, taps.outer(taps))
    assert list(module.state_dict()) == ["resample_filter"]
    assert module.double().resample_filter.dtype == torch.float64
    with torch.device("meta"):
        assert Resampling((1, 3, 3, 1)).resample_filter.is_meta


def test_resampling_keeps_constants():
    module = Resampling((1, 3, 3, 1))
    image = torch.full([1, 2, 8, 8], 3.0)
    up, down = module.upsample(image), module.downsample(image)
    assert up.shape == (1, 2, 16, 16) and down.shape == (1, 2, 4, 4)
    for result in (up, down):
        torch.testing.assert_close(result[:, :, 1:-1, 1:-1], torch.full_like(result[:, :, 1:-1, 1:-1], 3.0))


def test_pixel_norm():
    x = torch.randn(2, 5, 3, 3)
    y = PixelNorm()(x)
    torch.testing.assert_close(y.square().mean(1), torch.ones(2, 3, 3))
    torch.testing.assert_close(y * x.square().mean(1, keepdim=True).sqrt(), x)
