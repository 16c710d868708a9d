"""All that a training run is between two steps: what a checkpoint holds."""

from __future__ import annotations

import copy
from typing import Any

import torch

from stylegan_ops.models.stylegan2 import Discriminator, Generator

from .checkpoint import CheckpointError
from .config import TrainingConfig
from .lazy import lazy_adam
from .path_length import PathLengthRegularizer

# Where float16 layers are cut off; activations of a healthy network stay far below it.
FLOAT16_CLAMP = 256.0


class TrainingState:
    """Networks, their average, optimisers, loss scaler, path-length mean and counters.

    The weights are a function of the config's seed.

    Args:
        config: settings, with a resolved precision.
        data: {"resolution", "channels", "c_dim", "num_images"} of the data set; c_dim is 0 for an unconditional run.
        device: where everything lives.

    Attributes:
        G, D: the networks in training.
        G_ema: exponential moving average of G, in eval mode.
        g_optimizer, d_optimizer: Adam, corrected for lazy regularisation.
        path_length: PathLengthRegularizer with its running mean.
        scaler: torch.amp.GradScaler, active for float16 only.
        step: number of finished steps.
        seconds: training time so far, over all resumed runs.
    """

    def __init__(self, config: TrainingConfig, data: dict[str, int], device: torch.device) -> None:
        self.config, self.data, self.device = config, dict(data), device
        self.step = 0
        self.seconds = 0.0
        shared: dict[str, Any] = {
            "c_dim": data["c_dim"],
            "channel_base": config.channel_base,
            "channel_max": config.channel_max,
            "conv_clamp": FLOAT16_CLAMP if config.precision == "float16" else None,
        }
        torch.manual_seed(config.seed)
        self.G = Generator(
            data["resolution"],
            data["channels"],
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            num_layers=config.mapping_layers,
            architecture=config.g_architecture,
            **shared,
        ).to(device)
        self.D = Discriminator(
            data["resolution"],
            data["channels"],
            architecture=config.d_architecture,
            mbstd_group_size=config.mbstd_group_size,
            **shared,
        ).to(device)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        betas = (config.beta1, config.beta2)
        self.g_optimizer = lazy_adam(self.G.parameters(), lr=config.g_lr, betas=betas, interval=self.path_interval)
        self.d_optimizer = lazy_adam(self.D.parameters(), lr=config.d_lr, betas=betas, interval=self.r1_interval)
        self.path_length = PathLengthRegularizer(config.path_decay).to(device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")

    @property
    def path_interval(self) -> int | None:
        """Steps between path-length steps; None where the regulariser is off."""
        return self.config.path_interval if self.config.path_weight > 0 else None

    @property
    def r1_interval(self) -> int | None:
        """Steps between R1 steps; None where the regulariser is off."""
        return self.config.r1_interval if self.config.r1_gamma > 0 else None

    @property
    def images(self) -> int:
        """Real images shown to D so far, over all processes: the position in the data."""
        return self.step * self.config.batch_size

    def parameters_are_finite(self) -> bool:
        """Tell whether G, D and the average hold no NaN and no infinity."""
        parameters = [p.detach() for network in (self.G, self.D, self.G_ema) for p in network.parameters()]
        return bool(torch.stack(torch._foreach_norm(parameters, float("inf"))).isfinite().all())

    def state_dict(self) -> dict[str, Any]:
        """Give everything as tensors and plain Python values."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "config": self.config.to_json(),
            "data": self.data,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "random": random,
            "G_init_kwargs": self.G.init_kwargs,
            "D_init_kwargs": self.D.init_kwargs,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the settings stay those of this object.

        Raises:
            CheckpointError: a part does not fit the networks of these settings.
        """
        for name, part in self._parts().items():
            try:
                part.load_state_dict(state[name])
            except Exception as error:  # each part has errors of its own for what does not fit
                raise CheckpointError(f"checkpoint: {name} must fit the networks of the checkpoint's own config ({error})") from error
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["random"]["cpu"].cpu())
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), self.device)

    def _parts(self) -> dict[str, Any]:
        return {
            "G": self.G,
            "D": self.D,
            "G_ema": self.G_ema,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
            "path_length": self.path_length,
            "scaler": self.scaler,
        }
