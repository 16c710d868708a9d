"""NoiseInjection: what it adds, and to what."""

import pytest
import torch

from stylegan_ops.layers import NoiseInjection


def make(channels=3, resolution=6):
    layer = NoiseInjection(channels, resolution).double()
    torch.nn.init.normal_(layer.strength)
    return layer


@pytest.mark.parametrize("noise_mode", ["random", "const", "none"])
def test_starts_as_identity(noise_mode):
    layer = NoiseInjection(3, 6)
    assert layer.strength.shape == (3,)
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(layer(x, noise_mode), x)


def test_every_channel_has_its_own_strength_of_the_same_noise():
    layer, x = make(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    added = layer(x) - x
    pictures = added / layer.strength[:, None, None]
    torch.testing.assert_close(pictures[:, 1:], pictures[:, :1].expand(-1, 2, -1, -1))
    assert not torch.allclose(pictures[0], pictures[1])  # a picture for each sample


def test_random_noise_is_standard_normal():
    layer = NoiseInjection(1, 64)
    torch.nn.init.ones_(layer.strength)
    noise = layer(torch.zeros(8, 1, 64, 64)).detach()
    n = noise.numel()
    assert abs(noise.mean()) < 5 / n**0.5 and abs(noise.var() - 1) < 5 * (2 / n) ** 0.5


def test_const_and_none():
    layer, x = make(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    assert layer.noise_const.shape == (6, 6) and list(layer.state_dict()) == ["strength", "noise_const"]
    torch.testing.assert_close(layer(x, "const"), x + torch.einsum("c,hw->chw", layer.strength, layer.noise_const))
    assert torch.equal(layer(x, "none"), x)


def test_the_strength_learns_where_the_noise_helps():
    layer, x = NoiseInjection(3, 6), torch.randn(2, 3, 6, 6)
    dy = torch.randn_like(x)
    (gradient,) = torch.autograd.grad(layer(x, "const"), layer.strength, dy)
    torch.testing.assert_close(gradient, (dy * layer.noise_const).sum((0, 2, 3)))


def test_keeps_dtype_and_layout():
    layer = NoiseInjection(3, 6)
    torch.nn.init.ones_(layer.strength)
    y = layer(torch.zeros(2, 3, 6, 6, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last))
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)


def test_rejects():
    layer = NoiseInjection(3, 6)
    for call, message in [
        (lambda: NoiseInjection(0, 6), r"channels must be at least 1 \(got 0\)"),
        (lambda: NoiseInjection(3, 0), r"resolution must be at least 1 \(got 0\)"),
        (lambda: layer(torch.zeros(2, 3, 6, 6), "fixed"), r"noise_mode must be one of random, const, none \(got 'fixed'\)"),
        (lambda: layer(torch.zeros(2, 3, 1, 1)), r"x must have shape \[N, 3, 6, 6\] \(got shape \(2, 3, 1, 1\)\)"),
        (lambda: layer(torch.zeros(2, 1, 6, 6)), r"x must have shape \[N, 3, 6, 6\] \(got shape \(2, 1, 6, 6\)\)"),
    ]:
        with pytest.raises(ValueError, match=f"^NoiseInjection: {message}$"):
            call()
