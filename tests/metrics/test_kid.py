"""The kernel inception distance, and its features."""

import numpy as np
import pytest
import torch

from stylegan_ops.data import ImageDataset
from stylegan_ops.metrics import VGG16, kid, kid_vgg16, polynomial_mmd2
from stylegan_ops.metrics import features as module
from stylegan_ops.metrics.features import dataset_features, generated_features, input_size, vgg16_features


def double_loop(x, y):
    def kernel(a, b):
        return (sum(float(p) * float(q) for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    total = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    total += sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return total - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n)


@pytest.mark.parametrize(("m", "n", "d"), [(2, 2, 1), (7, 5, 3), (12, 30, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_a_double_loop(m, n, d, dtype):
    x, y = torch.randn(m, d, dtype=dtype), torch.randn(n, d, dtype=dtype) + 0.5
    assert polynomial_mmd2(x, y) == pytest.approx(double_loop(x.numpy(), y.numpy()), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([[0], [0]], [[0], [0]], 0),  # 1 + 1 - 2
        ([[0], [0]], [[1], [1]], 7),  # 1 + 8 - 2
        ([[1], [2]], [[0], [3]], -176.5),  # 3^3 + 1 - 2 (1 + 4^3 + 1 + 7^3) / 4
        ([[1, 1], [1, 1]], [[1, -1], [1, -1]], 14),  # 8 + 8 - 2
        ([[2, 0], [0, 2], [0, 0]], [[0, 0], [0, 0]], 0),  # 1 + 1 - 2
    ],
)
def test_known_values(x, y, expected):
    assert polynomial_mmd2(torch.tensor(x), torch.tensor(y)) == expected


def test_is_unbiased():
    """For one distribution the mean is 0, though every sample is small; the biased form, with i = j, is far from it."""
    draws = torch.Generator().manual_seed(1)
    values, biased = [], []
    for _ in range(2000):
        x, y = torch.randn(2, 8, 4, generator=draws, dtype=torch.float64)
        values.append(polynomial_mmd2(x, y))
        xx, yy, xy = (((a @ b.T) / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        biased.append((xx.mean() + yy.mean() - 2 * xy.mean()).item())
    error = np.std(values) / len(values) ** 0.5
    assert abs(np.mean(values)) < 4 * error
    assert np.mean(biased) > 40 * error


def test_two_normal_distributions():
    """In one dimension, E k = E (xy + 1)^3 = m3 n3 + 3 m2 n2 + 3 m1 n1 + 1 in the moments; for N(0, 1) and N(1, 1) MMD^2 is 22."""
    # Moments of N(1, 1): 1, 2, 4. E k(x, x') = 0 + 3 + 0 + 1 = 4; E k(y, y') = 16 + 12 + 3 + 1 = 32; E k(x, y) = 0 + 6 + 0 + 1 = 7.
    draws = torch.Generator().manual_seed(2)
    x = torch.randn(40_000, 1, generator=draws)
    y = torch.randn(40_000, 1, generator=draws) + 1
    values = kid(x, y, subset_size=400)
    assert values.mean() == pytest.approx(22, abs=5 * values.std() / 10)
    assert values.std() < 10


def test_subsets():
    x, y = torch.randn(60, 3), torch.randn(50, 3) + 1
    values = kid(x, y)
    assert values.shape == (100,) and values.dtype == np.float64
    np.testing.assert_array_equal(values, kid(x, y, subset_size=25))
    np.testing.assert_array_equal(values, kid(x, y, seed=0))
    assert not np.array_equal(values, kid(x, y, seed=1))
    assert len(set(values)) == 100
    np.testing.assert_allclose(kid(x[:50], y, subset_size=50), polynomial_mmd2(x[:50], y), rtol=1e-12)  # whole sets, in any order
    assert values.mean() == pytest.approx(polynomial_mmd2(x, y), abs=4 * values.std() / 10)


@pytest.mark.parametrize("size", [1, 51])
def test_rejects_subset_sizes(size):
    with pytest.raises(ValueError, match=rf"kid: subset_size must be from 2 to the number of features, 50 \({size}\)"):
        kid(torch.randn(60, 3), torch.randn(50, 3), subset_size=size)


@pytest.mark.parametrize("shapes", [((4, 3), (4, 2)), ((1, 3), (4, 3)), ((4,), (4,))])
def test_rejects_features_of_other_shapes(shapes):
    with pytest.raises(ValueError, match=r"polynomial_mmd2: x and y must be \[m, d\] and \[n, d\], m and n at least 2"):
        polynomial_mmd2(*(torch.zeros(shape) for shape in shapes))


def test_input_size():
    assert [input_size(r) for r in (4, 32, 64, 128, 256, 1024)] == [64, 64, 64, 128, 224, 224]


def test_features_are_the_last_map_averaged(vgg16):
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    expected = vgg16(images.float() / 127.5 - 1)[4].mean(dim=(2, 3))
    torch.testing.assert_close(vgg16_features(vgg16, images, 32), expected)
    assert expected.shape == (3, 512) and expected.std() > 0
    grey = images[:, :1]
    torch.testing.assert_close(vgg16_features(vgg16, grey, 32), vgg16_features(vgg16, grey.repeat(1, 3, 1, 1), 32))


def test_images_are_resized(vgg16):
    """Halving with a triangle filter weighs (1, 3, 3, 1) / 8; a flat image stays as it is when it grows."""
    image = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    padded = torch.nn.functional.pad(image.float() / 127.5 - 1, (1, 1, 1, 1))
    smaller = torch.nn.functional.conv2d(padded, torch.outer(taps, taps)[None, None], stride=2)
    seen = []
    network = torch.nn.Module()
    network.shift = vgg16.shift
    network.forward = lambda x: seen.append(x) or vgg16(x)
    vgg16_features(network, image, 32)
    torch.testing.assert_close(seen[0][:, :, 1:-1, 1:-1], smaller[:, :, 1:-1, 1:-1], rtol=1e-5, atol=1e-5)
    vgg16_features(network, torch.full((1, 3, 16, 16), 51, dtype=torch.uint8), 64)
    torch.testing.assert_close(seen[1], torch.full((1, 3, 64, 64), 51 / 127.5 - 1))


@pytest.fixture
def small_input(monkeypatch):
    """16-pixel images stay 16 pixels, which takes milliseconds."""
    monkeypatch.setattr(module, "_SMALLEST", 16)


@pytest.fixture
def counted(monkeypatch):
    """The numbers of images that the network sees."""
    seen = []
    original = module.vgg16_features
    monkeypatch.setattr(module, "vgg16_features", lambda vgg16, images, size: seen.append(len(images)) or original(vgg16, images, size))
    return seen


def test_features_of_a_data_set_are_kept(small_input, counted, make_set, weights, vgg16, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    dataset = make_set()

    def features(data, samples=12, network=weights.sha256):
        before = len(counted)
        found = dataset_features(vgg16, network, data, samples, cache=cache)
        return found, len(counted) > before

    first, made = features(dataset)
    assert made and first.shape == (12, 512)
    again, made = features(dataset)
    assert not made and torch.equal(first, again)
    assert not features(ImageDataset(dataset.path, xflip=True))[1], "mirrored images have no part in it"
    assert not features(dataset, samples=1000)[1], "there are no more"
    # A folder of the same files is the same data set.
    assert not features(make_set("folder", folder=True))[1]
    some, made = features(dataset, samples=5)
    assert made and torch.equal(some, first[:5])
    assert features(dataset, network="0" * 64)[1]
    changed, made = features(make_set("changed", seed=1))
    assert made and not torch.equal(changed, first)
    assert features(make_set("fewer", count=11))[1]
    monkeypatch.setattr(module, "_FEATURES", "another way")
    assert features(dataset)[1]


def test_all_images_are_used_once(small_input, make_set, weights, vgg16, tmp_path):
    dataset = make_set()
    found = dataset_features(vgg16, weights.sha256, dataset, 12, cache=tmp_path)
    expected = vgg16_features(vgg16, torch.stack([dataset[i][0] for i in range(12)]), 16)
    order = torch.cdist(found, expected).argmin(dim=1)
    assert sorted(order.tolist()) == list(range(12)) and order.tolist() != list(range(12))
    torch.testing.assert_close(found, expected[order])


def test_a_damaged_cache_is_made_anew(small_input, counted, make_set, weights, vgg16, tmp_path):
    dataset = make_set()
    first = dataset_features(vgg16, weights.sha256, dataset, 12, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    calls = len(counted)
    assert torch.equal(dataset_features(vgg16, weights.sha256, dataset, 12, cache=tmp_path / "cache"), first)
    assert len(counted) == 2 * calls


def test_fingerprint(make_set, tmp_path):
    dataset = make_set()
    prints = {dataset.fingerprint(), make_set("folder", folder=True).fingerprint(), ImageDataset(dataset.path, xflip=True).fingerprint()}
    assert len(prints) == 1
    folder = make_set("changing", folder=True)
    first, second = sorted(folder.path.rglob("*.png"))[:2]
    one, two = first.read_bytes(), second.read_bytes()
    second.write_bytes(one)
    first.write_bytes(two)
    assert folder.fingerprint() not in prints, "two images have changed places"


def test_generated_features_do_not_depend_on_batches(small_input, counted, make_set, make_generator, vgg16, monkeypatch):
    G, dataset = make_generator(), make_set()
    every = generated_features(vgg16, G, dataset, 10, seed=3)
    assert counted == [10]
    monkeypatch.setattr("stylegan_ops.metrics.batches._IMAGES", 4)
    torch.testing.assert_close(generated_features(vgg16, G, dataset, 10, seed=3), every)
    assert counted == [10, 4, 4, 2]
    torch.testing.assert_close(generated_features(vgg16, G, dataset, 6, seed=3), every[:6])
    assert not torch.allclose(generated_features(vgg16, G, dataset, 10, seed=4), every)


def test_labels_are_as_frequent_as_in_the_data(small_input, make_set, make_generator, vgg16, monkeypatch):
    G, dataset = make_generator(c_dim=3), make_set(count=4, labelled=True)  # classes a, b, c, a
    labels = []
    original = G.mapping.forward
    monkeypatch.setattr(G.mapping, "forward", lambda z, c, **more: labels.append(c) or original(z, c, **more))
    monkeypatch.setattr(module, "vgg16_features", lambda vgg16, images, size: torch.zeros(len(images), 512))
    generated_features(vgg16, G, dataset, 400)
    share = torch.cat(labels).mean(dim=0)
    assert (share - torch.tensor([0.5, 0.25, 0.25])).abs().max() < 4 * (0.25 / 400) ** 0.5
    with pytest.raises(ValueError, match=r"kid_vgg16: dataset must have the generator's 3 classes \(0\)"):
        generated_features(vgg16, G, make_set("unlabelled"), 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_kid_of_a_generator(small_input, make_set, make_generator, weights, vgg16, tmp_path, channels):
    G, dataset = make_generator(channels=channels), make_set(mode="L" if channels == 1 else "RGB")
    result = kid_vgg16(G, dataset, weights, samples=20, seed=5, cache=tmp_path)
    real = dataset_features(vgg16, weights.sha256, dataset, 20, cache=tmp_path)
    values = kid(real, generated_features(vgg16, G, dataset, 20, seed=5), subset_size=6, seed=5)
    assert result == {
        **{"metric": "kid_vgg16", "mean": pytest.approx(values.mean()), "std": pytest.approx(values.std()), "samples": 20},
        **{"real_samples": 12, "subset_size": 6, "subsets": 100, "input_size": 16, "seed": 5, "vgg16_sha256": weights.sha256},
    }
    assert result["mean"] > 0
    with pytest.raises(ValueError, match=r"kid_vgg16: samples and the images of the data set must be at least 4 \(3 and 12\)"):
        kid_vgg16(G, dataset, weights, samples=3, cache=tmp_path)


def test_published_weights_tell_pictures_apart(real_weights):
    """Two halves of one set of blurred pictures have a KID of about 0; sharp ones are far from them."""
    from torch.nn.functional import avg_pool2d

    draws = torch.Generator().manual_seed(0)
    noise = torch.rand(120, 3, 38, 38, generator=draws)
    blurred = avg_pool2d(noise, 7, stride=1).mul(4).sub(1.5).clamp(0, 1).mul(255).byte()
    sharp = noise[:, :, :32, :32].mul(255).byte()
    network = VGG16(real_weights)
    a, b, c = (vgg16_features(network, images, 64) for images in (blurred[:60], blurred[60:], sharp[:60]))
    near, far = kid(a, b), kid(a, c)
    assert abs(near.mean()) < 3 * near.std()
    assert far.mean() > 20 * near.std()
