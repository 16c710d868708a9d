"""A tiny data set, and a trainer on it."""

import numpy as np
import pytest
import torch
from PIL import Image
from training_helpers import TINY

from stylegan_ops.data import ImageDataset, prepare
from stylegan_ops.training import Processes, Trainer, TrainingConfig


@pytest.fixture(scope="session")
def data_path(tmp_path_factory):
    """24 RGB images of 8x8 pixels in two classes, with a pyramid, as `stylegan-ops dataset` writes them."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for label in ("dark", "light"):
        (folder / label).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 128, (8, 8, 3)) + (127 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{i}.png")
    path = folder.with_suffix(".zip")
    prepare(folder, path, 8, pyramid=True)
    return path


@pytest.fixture
def make_trainer(data_path):
    """Makes a Trainer on the tiny data set; keyword arguments are settings."""

    def make(outdir, resume=None, processes=None, **settings):
        config = TrainingConfig(**{**TINY, **settings})
        return Trainer(config, ImageDataset(data_path), outdir, processes or Processes(torch.device("cpu")), resume=resume)

    return make


@pytest.fixture
def keep_threads():
    """Puts the number of threads back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
