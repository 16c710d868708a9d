"""Perceptual path length, on generators whose paths are known."""

import numpy as np
import pytest
import torch
from torch import nn

from stylegan_ops.metrics import LPIPS, perceptual_path_length
from stylegan_ops.metrics.ppl import reject_outliers, slerp


class Linear(nn.Module):
    """Images [N, 1, 4, 4] = A w and w = B z in float64, so that a path in w is straight and one in z an ellipse."""

    def __init__(self, scale_w=1.0):
        super().__init__()
        draws = torch.Generator().manual_seed(3)
        self.A = nn.Parameter(torch.randn(16, 5, generator=draws, dtype=torch.float64), requires_grad=False)
        self.B = scale_w * torch.eye(5, dtype=torch.float64)
        self.z_dim, self.c_dim, self.w_dim, self.num_ws, self.img_resolution, self.img_channels = 5, 0, 5, 2, 4, 1
        self.latents = []

    def mapping(self, z, c):
        self.latents.append(z)
        return (z @ self.B.T)[:, None].repeat(1, self.num_ws, 1)

    def synthesis(self, ws, noise_mode):
        assert noise_mode == "const"
        assert torch.equal(ws[:, 0], ws[:, 1])
        return (ws[:, 0] @ self.A.T).view(-1, 1, 4, 4)


def squared(x, y):
    return (x - y).square().sum(dim=(1, 2, 3))


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_straight_path(sampling):
    """In w a linear generator moves by A (w2 - w1) for every t: the distances are ||A (w2 - w1)||^2, whatever t and epsilon are."""
    G = Linear(scale_w=0.5)
    found = perceptual_path_length(G, squared, space="w", sampling=sampling, samples=300)
    z1, z2 = torch.cat(G.latents[0::2]), torch.cat(G.latents[1::2])
    expected = (0.5 * (z2 - z1) @ G.A.T).square().sum(dim=1).numpy()
    np.testing.assert_allclose(found.distances, expected, rtol=1e-7)
    assert found.mean == pytest.approx(np.mean(np.sort(expected)[2:-2]), rel=1e-7)  # 1 % of 300, as reject_outliers counts it
    other = perceptual_path_length(G, squared, space="w", sampling=sampling, samples=300, epsilon=0.5)
    np.testing.assert_allclose(other.distances, expected, rtol=1e-10)


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_great_circle(sampling):
    """In z, with A orthogonal, the step is a chord of the sphere of radius sqrt(d): (2 sqrt(d) sin(omega epsilon / 2) / epsilon)^2."""
    G = Linear()
    G.A = nn.Parameter(torch.linalg.qr(G.A).Q, requires_grad=False)
    from stylegan_ops.training.random import normal_images

    z1, z2 = normal_images([2, 5], range(200), 7, "ppl latents").double().unbind(1)
    omega = torch.arccos(nn.functional.cosine_similarity(z1, z2)).numpy()
    for epsilon in (1e-4, 0.3):
        found = perceptual_path_length(G, squared, space="z", sampling=sampling, samples=200, seed=7, epsilon=epsilon)
        expected = 5 * (2 * np.sin(omega * epsilon / 2) / epsilon) ** 2
        np.testing.assert_allclose(found.distances, expected, rtol=1e-6)


def test_full_covers_the_path_and_end_its_start():
    G = Linear()
    perceptual_path_length(G, squared, space="z", sampling="end", samples=200)
    starts = torch.cat(G.latents[0::2])
    G.latents.clear()
    perceptual_path_length(G, squared, space="z", sampling="full", samples=200)
    points = torch.cat(G.latents[0::2])
    G.latents.clear()
    perceptual_path_length(G, squared, space="w", samples=200)
    z1, z2 = torch.cat(G.latents[0::2]), torch.cat(G.latents[1::2])
    on_sphere = nn.functional.normalize(z1) * 5**0.5
    torch.testing.assert_close(starts, on_sphere)
    angle = torch.arccos(nn.functional.cosine_similarity(points, z1))
    share = (angle / torch.arccos(nn.functional.cosine_similarity(z1, z2))).sort().values
    # Kolmogorov-Smirnov against U(0, 1), at about one in a thousand.
    assert (share - (torch.arange(200) + 0.5) / 200).abs().max() < 1.95 / 200**0.5


def test_slerp():
    a, b = torch.randn(2, 50, 6, dtype=torch.float64)
    ends = [slerp(a, b, torch.full((50, 1), t, dtype=torch.float64)) for t in (0.0, 1.0)]
    for end, direction in zip(ends, (a, b), strict=True):
        torch.testing.assert_close(end, direction / direction.norm(dim=1, keepdim=True) * 6**0.5)
    t = torch.rand(50, 1, dtype=torch.float64)
    omega = torch.arccos(nn.functional.cosine_similarity(a, b))[:, None]
    expected = (torch.sin((1 - t) * omega) * ends[0] + torch.sin(t * omega) * ends[1]) / torch.sin(omega)  # Shoemake's formula
    torch.testing.assert_close(slerp(a, b, t), expected)
    assert torch.equal(slerp(a, a, t).isfinite(), torch.ones(50, 6, dtype=torch.bool))


def test_rejection():
    values = np.random.default_rng(0).permutation(np.arange(1001.0))
    assert sorted(values[~reject_outliers(values)]) == [*range(10), *range(991, 1001)]
    assert reject_outliers(np.ones(5)).all() and reject_outliers(np.arange(50.0)).all()
    outlier = np.append(np.ones(500), [1e9])
    assert outlier[reject_outliers(outlier)].max() == 1


@pytest.mark.parametrize("space", ["z", "w"])
def test_the_seed_decides(space, monkeypatch):
    G = Linear()
    first, again, other = (perceptual_path_length(G, squared, space=space, samples=20, seed=seed).distances for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    torch.rand(3)
    monkeypatch.setattr("stylegan_ops.metrics.batches._IMAGES", 3)
    np.testing.assert_allclose(perceptual_path_length(G, squared, space=space, samples=20).distances, first, rtol=1e-6)


def test_crop_and_size():
    """A generator of large images: the middle half, averaged down to 256 pixels."""
    shapes = []

    def record(x, y):
        shapes.append(x)
        return x.mean(dim=(1, 2, 3))

    G = Linear()
    ramp = torch.arange(1024.0, dtype=torch.float64).expand(1, 1, 1024, 1024)
    G.synthesis = lambda ws, noise_mode: ramp.expand(len(ws), -1, -1, -1)
    perceptual_path_length(G, record, samples=2)
    perceptual_path_length(G, record, samples=2, crop=True)
    assert [list(x.shape) for x in shapes] == [[2, 1, 256, 256]] * 2
    torch.testing.assert_close(shapes[0][0, 0, 3], torch.arange(256.0, dtype=torch.float64) * 4 + 1.5)
    torch.testing.assert_close(shapes[1][0, 0, 3], torch.arange(256.0, dtype=torch.float64) * 2 + 256.5)
    small = ramp[:, :, :16, :16]
    G.synthesis = lambda ws, noise_mode: small.expand(len(ws), -1, -1, -1)
    perceptual_path_length(G, record, samples=1)
    perceptual_path_length(G, record, samples=1, crop=True)
    assert torch.equal(shapes[2], small) and torch.equal(shapes[3], small[:, :, 4:12, 4:12])


@pytest.mark.parametrize("space", ["z", "w"])
@pytest.mark.parametrize(("c_dim", "channels"), [(0, 1), (3, 3)])
def test_stylegan2_over_lpips(make_generator, weights, space, c_dim, channels):
    """Noise is the same in both images: with the step gone the distance is 0."""
    G, distance = make_generator(c_dim, channels), LPIPS(weights)
    with torch.no_grad():  # a new network has no noise yet
        for name, parameter in G.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(1)
    found = perceptual_path_length(G, distance, space=space, samples=6)
    assert found.distances.shape == (6,) and (found.distances > 0).all() and np.isfinite(found.mean)
    still = perceptual_path_length(G, distance, space=space, samples=6, epsilon=1e-30)
    assert (still.distances == 0).all()


def test_labels_are_of_all_classes_and_shared_by_a_path(make_generator, monkeypatch):
    G = make_generator(c_dim=3)
    labels = []
    original = G.mapping.forward
    monkeypatch.setattr(G.mapping, "forward", lambda z, c: labels.append(c) or original(z, c))
    perceptual_path_length(G, squared, space="z", samples=60)
    first, second = torch.cat(labels[0::2]), torch.cat(labels[1::2])
    assert torch.equal(first, second)
    assert (first.sum(dim=1) == 1).all() and (first.sum(dim=0) > 8).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": "x"}, "space must be one of z, w \\('x'\\)"),
        ({"sampling": "half"}, "sampling must be one of full, end \\('half'\\)"),
        ({"samples": 0}, "samples must be at least 1 and epsilon positive \\(0 and 0.0001\\)"),
        ({"epsilon": 0}, "samples must be at least 1 and epsilon positive"),
    ],
)
def test_rejects_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match="perceptual_path_length: " + message):
        perceptual_path_length(Linear(), squared, **arguments)


def test_published_weights_agree_on_the_step(make_generator, real_weights):
    """d / epsilon^2 has a limit: steps of 1e-4 and 1e-3 give nearly the same figure, in float64 so that rounding has no part in it."""
    G, distance = make_generator(), LPIPS(real_weights)
    with torch.no_grad():
        fine, coarse = (perceptual_path_length(G, distance, samples=20, epsilon=epsilon).mean for epsilon in (1e-3, 4e-3))
    assert fine == pytest.approx(coarse, rel=0.1)
