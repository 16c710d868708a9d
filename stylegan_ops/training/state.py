"""All that a training run is between two steps: what a checkpoint holds."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import nn

from .checkpoint import CheckpointError
from .config import TrainingConfig
from .growing import Stage
from .lazy import lazy_adam, lazy_rmsprop
from .networks import build_networks, grow
from .path_length import PathLengthRegularizer


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
        g_optimizer, d_optimizer: Adam or RMSprop, corrected for lazy regularisation.
        path_length: PathLengthRegularizer with its running mean.
        scaler: torch.amp.GradScaler, active for float16 only.
        step: number of finished steps.
        images: real images shown to D so far, over all processes: the position in the data.
        stage: resolution, fade-in, batch size and learning rates of the last step, or of the first one to come.
        seconds: training time so far, over all resumed runs.
    """

    def __init__(self, config: TrainingConfig, data: dict[str, int], device: torch.device) -> None:
        self.config, self.data, self.device = config, dict(data), device
        self.step = self.images = 0
        self.seconds = 0.0
        torch.manual_seed(config.seed)
        self.G, self.D = (network.to(device) for network in build_networks(config, data))
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.g_optimizer = self._optimizer(self.G, config.g_lr, self.path_interval)
        self.d_optimizer = self._optimizer(self.D, config.d_lr, self.r1_interval)
        self._full_rates = [optimizer.param_groups[0]["lr"] for optimizer in (self.g_optimizer, self.d_optimizer)]
        self.path_length = PathLengthRegularizer(config.path_decay).to(device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.growth = config.growth(data["resolution"])
        self.stage = self.stage_to_come()
        self._apply_stage()

    @property
    def path_interval(self) -> int | None:
        """Steps between path-length steps; None where the regulariser is off."""
        return self.config.path_interval if self.config.path_weight > 0 else None

    @property
    def r1_interval(self) -> int | None:
        """Steps between updates of D's penalties alone; None where all are off, or part of each step (an interval of 1)."""
        penalties = (self.config.r1_gamma, self.config.r2_gamma, self.config.gp_weight)
        return self.config.r1_interval if max(penalties) > 0 and self.config.r1_interval > 1 else None

    def stage_to_come(self) -> Stage:
        """The stage of the next step, a function of the images seen."""
        if self.growth is None:
            return Stage(self.data["resolution"], 1.0, self.config.batch_size, 1.0)
        return self.growth.stage_at(self.images)

    def enter(self, stage: Stage) -> None:
        """Bring networks and optimisers to a stage."""
        if stage.resolution != self.stage.resolution and self.config.reset_optimizer:
            self.g_optimizer.state.clear()
            self.d_optimizer.state.clear()
        self.stage = stage
        self._apply_stage()

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
            "stage": dataclasses.asdict(self.stage),
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
        self.step, self.images, self.seconds = state["step"], state["images"], state["seconds"]
        self.stage = Stage(**state["stage"])
        self._apply_stage()
        torch.set_rng_state(state["random"]["cpu"].cpu())
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), self.device)

    def _optimizer(self, network: nn.Module, lr: float, interval: int | None) -> torch.optim.Optimizer:
        if self.config.optimizer == "rmsprop":
            return lazy_rmsprop(network.parameters(), lr=lr, interval=interval)
        return lazy_adam(network.parameters(), lr=lr, betas=(self.config.beta1, self.config.beta2), interval=interval)

    def _apply_stage(self) -> None:
        for network in (self.G, self.D, self.G_ema):
            grow(network, self.stage.resolution, self.stage.alpha)
        for optimizer, rate in zip((self.g_optimizer, self.d_optimizer), self._full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * self.stage.lr_factor

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
