"""A run's checkpoint of untrained networks for every family."""

import sys
from pathlib import Path

import pytest
import torch

from stylegan_ops.training import TrainingConfig, TrainingState, save_checkpoint
from stylegan_ops.training.checkpoint import checkpoint_path

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # the definition of StyleGAN

SIZES = {"channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 6, "mapping_layers": 3}
OTHERS = {"precision": "float32", "style_mixing": 0, "path_weight": 0}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Returns a function `(model, **settings) -> path`, each file made once."""
    made = {}

    def make(model="stylegan2", **settings):
        key = (model, *settings.items())
        if key not in made:
            state = TrainingState(
                TrainingConfig(**SIZES, **OTHERS, model=model, **settings),
                {"resolution": 16, "channels": 3, "c_dim": 0, "num_images": 9},
                torch.device("cpu"),
            )
            with torch.no_grad():
                for network in (state.G, state.D, state.G_ema):
                    for parameter in network.parameters():
                        parameter += 0.1 * torch.randn_like(parameter)
            made[key] = checkpoint_path(tmp_path_factory.mktemp(model), 0)
            save_checkpoint(made[key], state.state_dict(), keep=1)
        return made[key]

    return make
