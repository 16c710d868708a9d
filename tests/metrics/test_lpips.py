"""LPIPS."""

import numpy as np
import pytest
import torch

from stylegan_ops.metrics import LPIPS, VGG16


@pytest.fixture(scope="module")
def lpips(weights):
    return LPIPS(weights).double()


def pictures(size):
    """Two smooth pictures [1, 3, size, size] in [-1, 1], float32 numbers in float64, that any program can draw again."""
    y, x = np.mgrid[0:size, 0:size] / size
    first = np.stack([np.sin(7 * x + 3 * y), np.cos(5 * x * y + 1), np.sin(11 * y - 4 * x)])
    second = np.stack([np.sin(6 * x + 4 * y), np.cos(9 * x * y + 2), np.cos(8 * y - 2 * x)])
    return [torch.from_numpy(image)[None].float().double() for image in (first, second)]


def test_matches_the_formula_pixel_by_pixel(lpips, weights):
    """Equation 1 of the paper in loops over images, layers and pixels."""
    x, y = torch.rand(2, 2, 3, 32, 16, dtype=torch.float64) * 2 - 1
    vgg16 = VGG16(weights).double()
    found = lpips(x, y)
    for n in range(2):
        expected = 0.0
        for head, f, g in zip(weights.heads, vgg16(x[n : n + 1]), vgg16(y[n : n + 1]), strict=True):
            f, g, w = f[0].numpy(), g[0].numpy(), head.numpy().astype(float)
            terms = []
            for h in range(f.shape[1]):
                for v in range(f.shape[2]):
                    a = f[:, h, v] / (np.sqrt(np.dot(f[:, h, v], f[:, h, v])) + 1e-10)
                    b = g[:, h, v] / (np.sqrt(np.dot(g[:, h, v], g[:, h, v])) + 1e-10)
                    terms.append(np.dot(w, (a - b) ** 2))
            expected += np.mean(terms)
        assert found[n].item() == pytest.approx(expected, rel=1e-12)


def test_identities(lpips):
    x, y = (image.repeat(2, 1, 1, 1) for image in pictures(32))
    assert torch.equal(lpips(x, x), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(lpips(x, y), lpips(y, x), rtol=1e-13, atol=0)
    assert (lpips(x, y) > 0).all()
    grey = x[:, :1], y[:, :1]
    torch.testing.assert_close(lpips(*grey), lpips(*(image.repeat(1, 3, 1, 1) for image in grey)), rtol=0, atol=0)


def test_equal_features_of_another_length_have_no_distance(weights):
    """Features are compared by direction: doubling those of a pixel leaves the distance."""
    lpips = LPIPS(weights).double()
    x, y = pictures(16)
    features = lpips.vgg16(torch.cat([x, y]))
    lpips.vgg16.forward = lambda _: features
    before = lpips(x, y)
    lpips.vgg16.forward = lambda _: [f * torch.tensor([2.0, 0.5], dtype=torch.float64).view(2, 1, 1, 1) for f in features]
    torch.testing.assert_close(lpips(x, y), before, rtol=1e-8, atol=0)


def test_gradients(lpips):
    x, y = pictures(16)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(lpips(x, y).sum(), x)
    step = torch.randn_like(x) * 1e-8  # over a larger step some unit of the network changes its side of 0
    with torch.no_grad():
        change = lpips(x + step, y) - lpips(x - step, y)
    assert change.item() == pytest.approx(2 * (gradient * step).sum().item(), rel=1e-5)


def test_rejects_pairs_of_two_sizes(lpips):
    with pytest.raises(ValueError, match=r"LPIPS: x and y must have one shape \(got \(1, 3, 16, 16\) and \(1, 3, 32, 32\)\)"):
        lpips(pictures(16)[0], pictures(32)[0])


@pytest.mark.parametrize(
    ("size", "expected"), [(16, 0.3248740948471927), (32, 0.5222141022661348), (64, 0.6805421752591325), (100, 0.7457945989643039)]
)
def test_published_weights_give_the_values_of_the_package_lpips(real_weights, size, expected):
    """Recorded from lpips 0.1.4 in float64: LPIPS(net="vgg", pnet_rand=True) with its own heads, the published file's convolutions copied
    into its trunk (torchvision 0.28.0)."""
    assert LPIPS(real_weights).double()(*pictures(size)).item() == pytest.approx(expected, rel=1e-12)
    assert LPIPS(real_weights)(*(image.float() for image in pictures(size))).item() == pytest.approx(expected, rel=1e-5)
