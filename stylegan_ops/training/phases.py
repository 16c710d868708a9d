"""One training step: the updates of the generator and of the discriminator."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from .ema import ema_beta, update_ema
from .growing import fade_reals
from .lazy import is_due
from .losses import LOSSES
from .mixing import draw_crossovers, mix_styles
from .precision import autocast, widen
from .processes import Processes
from .random import derive_seed, generator, normal_images
from .regularizers import clip_equalized, gradient_penalty, r1_penalty, r2_penalty
from .state import TrainingState

# A batch of images, uint8 [b, C, H, W], and labels, float32 [b, c_dim].
Batch = tuple[torch.Tensor, torch.Tensor]


class TrainingStep:
    """The updates of one step, each with its own zero_grad, backward and optimiser step.

    1. G: the adversarial loss, with style mixing.
    2. G, every `path_interval` steps: path-length penalty * path_weight * path_interval.
    3. D: the adversarial loss on real and generated images, and the drift term.
    4. D, every `r1_interval` steps: the penalties on its gradients (R1, R2, WGAN-GP's) * r1_interval; with an interval of 1 they are part
       of 3, one update of the sum. An MSG-GAN's penalties look at the full-size image alone, of which D makes the smaller ones.
    5. D's weights are clipped, where that is asked for. With `critic_steps` above 1, 3 to 5 are repeated on further images.

    Then the average of G moves. Latents, mixing and path noise are drawn for the whole batch as functions of (seed, step, phase), and
    process r takes those of the images r, r + world_size, ...; so do its reals. A run of several processes therefore computes what one
    process would, but for the loss "rahinge", which compares with the mean of its own share. The layers' own noise follows from (seed,
    step, rank).

    Args:
        state: what is trained, at the stage of the step.
        processes: this process among those of the run.

    Source: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, section 3.1 (lazy regularisation).
    """

    def __init__(self, state: TrainingState, processes: Processes) -> None:
        self.state, self.processes = state, processes
        config = state.config
        self.loss = LOSSES[config.loss]
        self.stats: dict[str, torch.Tensor] = {}
        # A compiled function cannot be differentiated twice: the regularisers call the modules themselves.
        self.synthesis, self.discriminator = state.G.synthesis.images, state.D
        self.compiled_for = 0  # pixels

    def __call__(self, next_batch: Callable[[], Batch]) -> dict[str, torch.Tensor]:
        """Run one step.

        Args:
            next_batch: gives this process's share of the next real images and their labels; the generated images get the same labels.

        Returns:
            Scalars by name, detached, of this process's share: the losses, the mean logits and, in their steps, the regularisers.
        """
        state, config = self.state, self.state.config
        torch.manual_seed(derive_seed(config.seed, state.step, "layers", self.processes.rank))
        if config.compile and self.compiled_for != state.stage.resolution:
            torch.compiler.reset()  # graphs of another resolution count towards the limit of them
            self.synthesis, self.discriminator = torch.compile(state.G.synthesis.images), torch.compile(state.D)
            self.compiled_for = state.stage.resolution
        self.stats = {}
        if state.growth is not None:
            self.stats |= {"stage/resolution": torch.tensor(float(state.stage.resolution), device=state.device)}
            self.stats |= {"stage/alpha": torch.tensor(state.stage.alpha, device=state.device)}
        reals, c = self._real(*next_batch())
        self._train_generator(reals, c)
        if is_due(state.step, state.path_interval):
            self._regularize_generator(c)
        for k in range(config.critic_steps):
            if k > 0:
                reals, c = self._real(*next_batch())
            self._train_discriminator(reals, c, f"D{k or ''}")
            if is_due(state.step, state.r1_interval):
                self._regularize_discriminator(reals, c, f"penalty{k or ''}")
            if config.weight_clip > 0:
                clip_equalized(state.D, config.weight_clip)
        state.step += 1
        seen = state.stage.batch_size * config.critic_steps
        state.images += seen
        update_ema(state.G_ema, state.G, ema_beta(seen, state.images, config.ema_kimg, config.ema_rampup))
        return self.stats

    def _real(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        state = self.state
        reals = images.to(state.device, torch.float32, non_blocking=True).mul_(1 / 127.5).sub_(1)
        if state.stage.alpha < 1:
            reals = fade_reals(reals, state.stage.alpha)
        return reals, labels.to(state.device, non_blocking=True) if state.data["c_dim"] > 0 else None

    def _train_generator(self, reals: torch.Tensor, c: torch.Tensor | None) -> None:
        state = self.state
        state.G.requires_grad_(True)
        state.D.requires_grad_(False)
        with self._autocast():
            fakes = self.synthesis(self._mixed_ws("G", c, update_w_avg=True), noise_mode=state.config.noise_mode)
            logits = self.discriminator(fakes, c)
            real_logits = self.discriminator(reals, c) if self.loss.uses_reals else None
        w_avg = getattr(state.G.mapping, "w_avg", None)
        if w_avg is not None:
            self.processes.average_(w_avg)
        loss = self.loss.generator(logits, real_logits)
        self._update(state.g_optimizer, state.G.parameters(), loss)
        self.stats |= {"loss/G": loss.detach(), "logits/G": logits.detach().mean()}

    def _regularize_generator(self, c: torch.Tensor | None) -> None:
        state, config = self.state, self.state.config
        indices = self._indices()
        indices = indices[: max(len(indices) // config.path_batch_shrink, 1)]
        z = torch.randn(state.stage.batch_size, config.z_dim, generator=self._generator("path"))[indices].to(state.device)
        with self._autocast():
            ws = state.G.mapping(z, None if c is None else c[: len(indices)])
            if not ws.requires_grad:  # a ProGAN has no parameters in front of its code
                ws.requires_grad_(True)
            fakes = state.G.synthesis(ws, noise_mode=config.noise_mode)
        noise = normal_images(fakes.shape[1:], indices, config.seed, state.step, "path noise").to(state.device)
        layers = state.G.synthesis.num_ws_in_use
        penalty = state.path_length(fakes, ws, noise, layers, grad_scale=state.scaler.get_scale(), average=self.processes.average_)
        self._update(state.g_optimizer, state.G.parameters(), penalty * (config.path_weight * config.path_interval))
        self.stats |= {"path/penalty": penalty.detach(), "path/mean": state.path_length.mean.clone()}

    def _train_discriminator(self, reals: torch.Tensor, c: torch.Tensor | None, phase: str) -> None:
        state, config = self.state, self.state.config
        state.D.requires_grad_(True)
        fakes = self._fakes(c, phase)
        with self._autocast():
            fake_logits = self.discriminator(fakes, c)
            # Not one batch with the generated images: the minibatch standard deviation would compare across the two.
            real_logits = self.discriminator(reals, c)
        loss = self.loss.discriminator(real_logits, fake_logits)
        self.stats |= {
            "loss/D": loss.detach(),
            "logits/real": real_logits.detach().mean(),
            "logits/fake": fake_logits.detach().mean(),
        }
        if config.drift > 0:
            loss = loss + config.drift * widen(real_logits).square().mean()
        if config.r1_interval == 1:
            loss = loss + self._penalty(reals, fakes[-1], c, phase)
        self._update(state.d_optimizer, state.D.parameters(), loss)

    def _regularize_discriminator(self, reals: torch.Tensor, c: torch.Tensor | None, phase: str) -> None:
        state, config = self.state, self.state.config
        fakes = self._fakes(c, phase)[-1] if config.r2_gamma > 0 or config.gp_weight > 0 else reals
        self._update(state.d_optimizer, state.D.parameters(), self._penalty(reals, fakes, c, phase) * config.r1_interval)

    def _penalty(self, reals: torch.Tensor, fakes: torch.Tensor, c: torch.Tensor | None, phase: str) -> torch.Tensor | float:
        """The sum of the penalties on D's gradients, 0 where there are none."""
        state, config = self.state, self.state.config
        scale = state.scaler.get_scale()

        def judge(images: torch.Tensor) -> torch.Tensor:
            with self._autocast():
                return state.D(images, c)

        penalties = {}
        if config.r1_gamma > 0:
            reals = reals.detach().requires_grad_(True)
            penalties["r1/penalty"] = r1_penalty(judge(reals), reals, config.r1_gamma, grad_scale=scale)
        if config.r2_gamma > 0:
            fakes = fakes.detach().requires_grad_(True)
            penalties["r2/penalty"] = r2_penalty(judge(fakes), fakes, config.r2_gamma, grad_scale=scale)
        if config.gp_weight > 0:
            between = torch.rand(state.stage.batch_size, 1, 1, 1, generator=self._generator(f"{phase} between"))
            between = between[self._indices()].to(state.device)
            penalties["gp/penalty"] = gradient_penalty(judge, reals, fakes, config.gp_weight, between, grad_scale=scale)
        self.stats |= {name: penalty.detach() for name, penalty in penalties.items()}
        return sum(penalties.values())

    @torch.no_grad()
    def _fakes(self, c: torch.Tensor | None, phase: str) -> list[torch.Tensor]:
        """Generated images to judge, without a graph: of a network that makes one of every resolution, all of them."""
        self.state.G.requires_grad_(False)
        with self._autocast():
            return self.synthesis(self._mixed_ws(phase, c), noise_mode=self.state.config.noise_mode)

    def _update(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], loss: torch.Tensor) -> None:
        scaler = self.state.scaler
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        self.processes.average_gradients(parameters)
        scaler.step(optimizer)
        scaler.update()

    def _mixed_ws(self, phase: str, c: torch.Tensor | None, **mapping_kwargs: bool) -> torch.Tensor:
        config, G, device = self.state.config, self.state.G, self.state.device
        random, batch_size, indices = self._generator(phase), self.state.stage.batch_size, self._indices()
        z = torch.randn(2, batch_size, config.z_dim, generator=random)
        crossovers = draw_crossovers(batch_size, G.synthesis.num_ws_in_use, config.style_mixing, random)
        if config.style_mixing == 0:
            return G.mapping(z[0, indices].to(device), c, **mapping_kwargs)
        both = z[:, indices].flatten(0, 1).to(device)
        ws, other = G.mapping(both, None if c is None else c.repeat(2, 1), **mapping_kwargs).chunk(2)
        return mix_styles(ws, other, crossovers[indices].to(device))

    def _indices(self) -> list[int]:
        return list(range(self.processes.rank, self.state.stage.batch_size, self.processes.world_size))

    def _generator(self, phase: str) -> torch.Generator:
        return generator(self.state.config.seed, self.state.step, phase)

    def _autocast(self) -> torch.autocast:
        return autocast(self.state.config.precision, self.state.device)
