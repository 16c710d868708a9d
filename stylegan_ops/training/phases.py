"""One training step of StyleGAN2: up to four updates."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from .ema import ema_beta, update_ema
from .lazy import is_due
from .losses import discriminator_loss, generator_loss, r1_penalty
from .mixing import draw_crossovers, mix_styles
from .precision import autocast
from .processes import Processes
from .random import derive_seed, generator, normal_images
from .state import TrainingState


class TrainingStep:
    """The updates of one step, each with its own zero_grad, backward and optimiser step.

    1. G: non-saturating logistic loss, with style mixing.
    2. G, every `path_interval` steps: path-length penalty * path_weight * path_interval.
    3. D: logistic loss on real and generated images.
    4. D, every `r1_interval` steps: R1 * r1_interval.

    Then the average of G moves. Latents, mixing and path noise are drawn for the whole batch as functions of (seed, step, phase), and
    process r takes those of the images r, r + world_size, ...; so do its reals. A run of several processes therefore computes what one
    process would. The layers' own noise follows from (seed, step, rank).

    Args:
        state: what is trained.
        processes: this process among those of the run.

    Source: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, section 3.1 (lazy regularisation).
    """

    def __init__(self, state: TrainingState, processes: Processes) -> None:
        self.state, self.processes = state, processes
        config = state.config
        self.local_batch = config.batch_size // processes.world_size
        self.stats: dict[str, torch.Tensor] = {}
        # A compiled function cannot be differentiated twice: the regularisers call the modules themselves.
        self.synthesis = torch.compile(state.G.synthesis) if config.compile else state.G.synthesis
        self.discriminator = torch.compile(state.D) if config.compile else state.D

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run one step.

        Args:
            images: this process's share of the real images, uint8 [b, C, H, W].
            labels: their labels, float32 [b, c_dim]; the generated images get the same ones.

        Returns:
            Scalars by name, detached, of this process's share: the losses, the mean logits and, in their steps, the regularisers.
        """
        state, config = self.state, self.state.config
        torch.manual_seed(derive_seed(config.seed, state.step, "layers", self.processes.rank))
        reals = images.to(state.device, torch.float32, non_blocking=True).mul_(1 / 127.5).sub_(1)
        c = labels.to(state.device, non_blocking=True) if state.data["c_dim"] > 0 else None
        self.stats = {}
        self._train_generator(c)
        if is_due(state.step, state.path_interval):
            self._regularize_generator(c)
        self._train_discriminator(reals, c)
        if is_due(state.step, state.r1_interval):
            self._regularize_discriminator(reals, c)
        state.step += 1
        update_ema(state.G_ema, state.G, ema_beta(config.batch_size, state.images, config.ema_kimg, config.ema_rampup))
        return self.stats

    def _train_generator(self, c: torch.Tensor | None) -> None:
        state = self.state
        state.G.requires_grad_(True)
        state.D.requires_grad_(False)
        with self._autocast():
            fakes = self.synthesis(self._mixed_ws("G", c, update_w_avg=True), noise_mode=state.config.noise_mode)
            logits = self.discriminator(fakes, c)
        self.processes.average_(state.G.mapping.w_avg)
        loss = generator_loss(logits)
        self._update(state.g_optimizer, state.G.parameters(), loss)
        self.stats |= {"loss/G": loss.detach(), "logits/G": logits.detach().mean()}

    def _regularize_generator(self, c: torch.Tensor | None) -> None:
        state, config = self.state, self.state.config
        count = max(self.local_batch // config.path_batch_shrink, 1)
        indices = self._indices()[:count]
        z = torch.randn(config.batch_size, config.z_dim, generator=self._generator("path"))[indices].to(state.device)
        with self._autocast():
            ws = state.G.mapping(z, None if c is None else c[:count])
            fakes = state.G.synthesis(ws, noise_mode=config.noise_mode)
        noise = normal_images(fakes.shape[1:], indices, config.seed, state.step, "path noise").to(state.device)
        penalty = state.path_length(fakes, ws, noise, grad_scale=state.scaler.get_scale(), average=self.processes.average_)
        self._update(state.g_optimizer, state.G.parameters(), penalty * (config.path_weight * config.path_interval))
        self.stats |= {"path/penalty": penalty.detach(), "path/mean": state.path_length.mean.clone()}

    def _train_discriminator(self, reals: torch.Tensor, c: torch.Tensor | None) -> None:
        state = self.state
        state.G.requires_grad_(False)
        state.D.requires_grad_(True)
        with self._autocast():
            with torch.no_grad():
                fakes = self.synthesis(self._mixed_ws("D", c), noise_mode=state.config.noise_mode)
            fake_logits = self.discriminator(fakes, c)
            # Not one batch with the generated images: the minibatch standard deviation would compare across the two.
            real_logits = self.discriminator(reals, c)
        loss = discriminator_loss(real_logits, fake_logits)
        self._update(state.d_optimizer, state.D.parameters(), loss)
        self.stats |= {
            "loss/D": loss.detach(),
            "logits/real": real_logits.detach().mean(),
            "logits/fake": fake_logits.detach().mean(),
        }

    def _regularize_discriminator(self, reals: torch.Tensor, c: torch.Tensor | None) -> None:
        state, config = self.state, self.state.config
        reals = reals.detach().requires_grad_(True)
        with self._autocast():
            logits = state.D(reals, c)
        penalty = r1_penalty(logits, reals, config.r1_gamma, grad_scale=state.scaler.get_scale())
        self._update(state.d_optimizer, state.D.parameters(), penalty * config.r1_interval)
        self.stats |= {"r1/penalty": penalty.detach()}

    def _update(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], loss: torch.Tensor) -> None:
        scaler = self.state.scaler
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        self.processes.average_gradients(parameters)
        scaler.step(optimizer)
        scaler.update()

    def _mixed_ws(self, phase: str, c: torch.Tensor | None, *, update_w_avg: bool = False) -> torch.Tensor:
        config, G, device = self.state.config, self.state.G, self.state.device
        random = self._generator(phase)
        z = torch.randn(2, config.batch_size, config.z_dim, generator=random)
        crossovers = draw_crossovers(config.batch_size, G.num_ws, config.style_mixing, random)
        indices = self._indices()
        if config.style_mixing == 0:
            return G.mapping(z[0, indices].to(device), c, update_w_avg=update_w_avg)
        both = z[:, indices].flatten(0, 1).to(device)
        ws, other = G.mapping(both, None if c is None else c.repeat(2, 1), update_w_avg=update_w_avg).chunk(2)
        return mix_styles(ws, other, crossovers[indices].to(device))

    def _indices(self) -> list[int]:
        return list(range(self.processes.rank, self.state.config.batch_size, self.processes.world_size))

    def _generator(self, phase: str) -> torch.Generator:
        return generator(self.state.config.seed, self.state.step, phase)

    def _autocast(self) -> torch.autocast:
        return autocast(self.state.config.precision, self.state.device)
