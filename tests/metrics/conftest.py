"""Weights, a network and a data set that need no download."""

import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from vgg16_files import write_weights

from stylegan_ops.metrics import VGG16, load_vgg16

collect_ignore_glob = [] if find_spec("PIL") and find_spec("tqdm") else ["test_*.py"]  # the extra `train` is not installed


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path_factory):
    """No test reads the user's weights or writes to the user's cache."""
    monkeypatch.delenv("STYLEGAN_OPS_VGG16", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def weights_path(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("vgg16") / "vgg16.ckpt")


@pytest.fixture(scope="session")
def weights(weights_path):
    return load_vgg16(weights_path)


@pytest.fixture(scope="session")
def vgg16(weights):
    return VGG16(weights)


REAL = os.environ.get("STYLEGAN_OPS_VGG16")


@pytest.fixture(scope="session")
def real_weights():
    """The published weights, where the environment names them."""
    if not REAL:
        pytest.skip("needs the published weights in STYLEGAN_OPS_VGG16")
    return load_vgg16(REAL)


@pytest.fixture
def make_set(tmp_path):
    """make_set(name, count, seed, folder, mode) prepares random images of 16x16 pixels, every third in each of three classes."""
    from PIL import Image

    from stylegan_ops.data import ImageDataset, prepare

    def make(name="set", count=12, seed=0, folder=False, labelled=False, mode="RGB"):
        rng = np.random.default_rng(seed)
        source = tmp_path / f"{name}-source"
        for i in range(count):
            file = source / ("abc"[i % 3] if labelled else "all") / f"{i:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).convert(mode).save(file)
        dest = tmp_path / (name if folder else f"{name}.zip")
        prepare(source, dest, 16)
        return ImageDataset(dest)

    return make


@pytest.fixture(scope="session")
def make_generator():
    """make_generator(c_dim, channels) is a small StyleGAN2 of 16x16 pixels."""
    from stylegan_ops.models.stylegan2 import Generator

    def make(c_dim=0, channels=3):
        torch.manual_seed(1)
        G = Generator(16, channels, z_dim=8, w_dim=8, c_dim=c_dim, num_layers=2, channel_base=128, channel_max=8)
        return G.eval().requires_grad_(False)

    return make
