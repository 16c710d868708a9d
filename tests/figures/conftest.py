"""Tiny generators whose parameters are none of them zero, and a run's folder of untrained networks."""

import pytest
import torch

from stylegan_ops.models.stylegan2 import Generator
from stylegan_ops.training import TrainingConfig, TrainingState, save_checkpoint
from stylegan_ops.training.checkpoint import checkpoint_path


@pytest.fixture
def make_generator():
    """Returns a function `(img_resolution, img_channels, **more) -> G` in eval mode."""

    def make(img_resolution=16, img_channels=3, **more):
        sizes = {"channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 5, "num_layers": 2}
        G = Generator(img_resolution, img_channels, **sizes, **more).eval().requires_grad_(False)
        for name, parameter in G.named_parameters():
            if name.endswith(("noise_strength", "bias")) and "affine" not in name:
                parameter.normal_(std=0.1)
        G.mapping.w_avg.normal_()
        return G

    return make


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Three checkpoints of networks that differ, as if of one run: 8x8 pixels, RGB, two classes."""
    folder = tmp_path_factory.mktemp("run")
    settings = {"channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 5, "mapping_layers": 2, "precision": "float32", "workers": 0}
    for seed, images in enumerate((500, 1000, 2500)):
        config = TrainingConfig(**settings, seed=seed, conditional=True)
        state = TrainingState(config, {"resolution": 8, "channels": 3, "c_dim": 2, "num_images": 9}, torch.device("cpu"))
        save_checkpoint(checkpoint_path(folder, images), state.state_dict(), keep=3)
    return folder
