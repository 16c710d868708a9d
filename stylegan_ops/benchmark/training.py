"""One training iteration of StyleGAN2, averaged over its lazy schedule: native against baseline, phase by phase.

1. G and D: non-saturating logistic losses, every iteration.
2. R1: every 16th. 3. Path length: every 4th, on half of the batch.

Every phase has its Adam step. Both forms run the same phases, on networks that start from the same weights; their gradients are compared
before anything is timed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from stylegan_ops import use_impl
from stylegan_ops.training.lazy import lazy_adam
from stylegan_ops.training.losses import discriminator_loss, generator_loss
from stylegan_ops.training.path_length import PathLengthRegularizer, default_path_weight
from stylegan_ops.training.regularizers import r1_penalty

from . import baseline
from .cases import DTYPES, FORMS, Case, Options, Row, Work
from .models import fastest, network, sample
from .timing import Form, Spread

PHASES = {"G": 1.0, "path length": 1 / 4, "D": 1.0, "R1": 1 / 16}  # share of the iterations that have it
# Relative errors in float32: of a phase's whole gradient, and of a single parameter's beside its own norm or a tenth of the whole. Where an
# activation lies so near its kink that rounding decides on which side, one pixel's gradient is another: 1e-7 becomes up to 5e-4 at 32 px.
TOLERANCE, TOLERANCE_OF_ONE = 1e-3, 2e-2
# So small that the weights stay what they are: Adam takes as long with any rate.
LEARNING_RATE = 1e-6
COMPARED = ("native", "baseline", "autocast", "reference")


@dataclass(frozen=True)
class Networks:
    """A generator and a discriminator as the phases see them."""

    mapping: Callable[[torch.Tensor], torch.Tensor]
    synthesis: Callable[..., torch.Tensor]  # (ws, noise_mode=...)
    judge: Callable[[torch.Tensor], torch.Tensor]
    g: dict[str, torch.Tensor]  # parameters by name
    d: dict[str, torch.Tensor]


class Iteration:
    """The phases of one iteration, each on its own: `step(phase)` computes the gradients and moves the weights.

    Args:
        networks: what is trained.
        dtype: "float32", or the dtype of autocast.
        options: device, resolution and batch.
        impl: the implementation of the ops.
        noise_mode: the generator's noise.
    """

    def __init__(self, networks: Networks, dtype: str, options: Options, impl: str = "auto", noise_mode: str = "random") -> None:
        self.networks, self.dtype, self.options, self.impl, self.noise_mode = networks, dtype, options, impl, noise_mode
        self.z, self.reals = sample("G", options), sample("D", options)
        betas = (0.0, 0.99)
        self.g_optimizer = lazy_adam(networks.g.values(), lr=LEARNING_RATE, betas=betas, interval=4)
        self.d_optimizer = lazy_adam(networks.d.values(), lr=LEARNING_RATE, betas=betas, interval=16)
        self.path_length = PathLengthRegularizer().to(options.device)
        self.losses = {"G": self._generator, "path length": self._path_length, "D": self._discriminator, "R1": self._r1}

    def step(self, phase: str) -> None:
        self.gradients(phase)
        self._optimizer(phase).step()

    def gradients(self, phase: str) -> dict[str, torch.Tensor]:
        """The gradients of one phase by the parameter's name, left in `.grad` as well."""
        mine = self.members(phase)
        for members in (self.networks.g, self.networks.d):
            for p in members.values():
                p.requires_grad_(members is mine)
        self._optimizer(phase).zero_grad(set_to_none=True)
        with use_impl(self.impl):
            self.losses[phase]().backward()
        return {name: p.grad for name, p in mine.items() if p.grad is not None}

    def members(self, phase: str) -> dict[str, torch.Tensor]:
        """The parameters that a phase trains."""
        return self.networks.g if phase in ("G", "path length") else self.networks.d

    def _optimizer(self, phase: str) -> torch.optim.Optimizer:
        return self.g_optimizer if self.members(phase) is self.networks.g else self.d_optimizer

    def _autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.options.device).type, DTYPES[self.dtype], enabled=self.dtype != "float32")

    def _generator(self) -> torch.Tensor:
        n = self.networks
        with self._autocast():
            logits = n.judge(n.synthesis(n.mapping(self.z), noise_mode=self.noise_mode))
        return generator_loss(logits)

    def _path_length(self) -> torch.Tensor:
        n = self.networks
        with self._autocast():
            ws = n.mapping(self.z[: max(len(self.z) // 2, 1)])
            images = n.synthesis(ws, noise_mode=self.noise_mode)
        return self.path_length(images, ws, torch.randn(images.shape, device=images.device)) * (
            default_path_weight(self.options.resolution) * 4
        )

    def _discriminator(self) -> torch.Tensor:
        n = self.networks
        with self._autocast():
            with torch.no_grad():
                images = n.synthesis(n.mapping(self.z), noise_mode=self.noise_mode)
            return discriminator_loss(n.judge(self.reals), n.judge(images))

    def _r1(self) -> torch.Tensor:
        reals = self.reals.detach().requires_grad_()
        with self._autocast():
            logits = self.networks.judge(reals)
        return r1_penalty(logits, reals, gamma=0.0002 * self.options.resolution**2 / len(reals)) * 16


def modules(options: Options) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The networks that both forms start from, the same for every call."""
    torch.manual_seed(0)
    return network("G", options), network("D", options)


def native_networks(options: Options) -> Networks:
    G, D = modules(options)
    return Networks(G.mapping, G.synthesis, D, dict(G.named_parameters()), dict(D.named_parameters()))


def baseline_networks(options: Options, ways: tuple[str, str]) -> Networks:
    """The baseline with parameters of its own; `ways` names those of G and D in their `WAYS`."""
    found = []
    for net, plain, way in zip(modules(options), (baseline.Generator, baseline.Discriminator), ways, strict=True):
        parameters = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
        found.append((plain({**dict(net.named_buffers()), **parameters}, **plain.WAYS[way]), parameters))
    (G, g), (D, d) = found
    return Networks(G.mapping, G.synthesis, D, g, d)


def iteration(form: str, dtype: str, options: Options, ways: tuple[str, str] | None, noise_mode: str = "random") -> Iteration:
    plain = form in ("baseline", "autocast")
    networks = baseline_networks(options, ways) if plain else native_networks(options)
    torch.manual_seed(1)  # the same latents and images for all
    return Iteration(networks, "float32" if form == "baseline" else dtype, options, "auto" if plain else form, noise_mode)


@functools.lru_cache(maxsize=1)
def fastest_ways(options: Options) -> tuple[str, str]:
    """The baseline's ways through G and through D whose forward and backward pass take the least time."""
    found = []
    for name, plain in (("G", baseline.Generator), ("D", baseline.Discriminator)):
        net = network(name, options)
        x, state = sample(name, options), {**dict(net.named_buffers()), **dict(net.named_parameters())}
        ways = {way: plain(state, **how) for way, how in plain.WAYS.items()}
        forms = {way: functools.partial(lambda form, x: form(x).sum().backward(), form, x) for way, form in ways.items()}
        found.append(fastest(forms, options.device))
    return found[0], found[1]


def compare(options: Options, ways: tuple[str, str]) -> dict[str, float]:
    """The relative error between the gradients of native and baseline in float32, phase by phase; an error where they do not agree."""
    forms = [iteration(form, "float32", options, ways, noise_mode="const") for form in ("auto", "baseline")]
    return {phase: disagreement(phase, *forms) for phase in PHASES}


def disagreement(phase: str, form: Iteration, truth: Iteration) -> float:
    found = []
    for one in (form, truth):
        torch.manual_seed(2)  # the path length's noise
        gradients, members = one.gradients(phase), one.members(phase)
        found.append({name: gradients.get(name, torch.zeros_like(p)) for name, p in members.items()})
    wanted = found[1]
    norms = {name: float(g.norm()) for name, g in wanted.items()}
    errors = {name: float((g - wanted[name]).norm()) for name, g in found[0].items()}
    whole = math.hypot(*norms.values())
    of_one = {name: error / max(norms[name], 0.1 * whole) for name, error in errors.items()}
    worst = max(of_one, key=lambda name: of_one[name])
    error = math.hypot(*errors.values()) / whole
    if not (error < TOLERANCE and of_one[worst] < TOLERANCE_OF_ONE):
        text = f"relative error {error:.1e}, of {worst} {of_one[worst]:.1e}"
        raise RuntimeError(f"training, {phase}: the gradients of native and baseline must agree ({text}); nothing is timed")
    return error


def ways_for(options: Options) -> tuple[str, str] | None:
    """The baseline's ways; None where the caller asks for no form of it."""
    return fastest_ways(options) if {"baseline", "autocast"} & set(options.compare) else None


@functools.lru_cache(maxsize=1)
def contest(dtype: str, options: Options) -> tuple[dict[str, Iteration], dict[str, Any]]:
    """The forms that the caller asks for, their gradients compared, and what was found out on the way."""
    ways = ways_for(options)
    facts = {"baseline": f"G {ways[0]}, D {ways[1]}", "errors": compare(options, ways)} if ways else {}
    return {form: iteration(form, dtype, options, ways) for form in FORMS if form in options.compare}, facts


def build(phase: str, dtype: str, options: Options) -> Work:
    forms, facts = contest(dtype, options)
    steps: dict[str, Form] = {name: functools.partial(form.step, phase) for name, form in forms.items()}
    return Work(steps, facts=facts)


def describe(options: Options, dtype: str) -> str:
    return f"{options.resolution} px, batch {options.images}, channel_base {options.width}, {dtype}, {options.allocator}"


def cases(options: Options) -> list[Case]:
    """The phases, for each dtype; those of one dtype follow each other."""
    common = {"resolution": options.resolution, "batch": options.images, "channel_base": options.width, "allocator": options.allocator}
    return [
        Case(
            "training",
            f"{phase} phase",
            describe(options, dtype),
            functools.partial(build, phase, dtype, options),
            {**common, "dtype": dtype, "pass": phase},
            seconds=10,
        )
        for dtype in options.dtypes_or("float32", "bfloat16")
        for phase in PHASES
    ]


def average(dtype: str, options: Options, rows: list[Row]) -> Row | None:
    """The iteration: the phases' times, weighted by how often each runs; None where one of them was not measured."""
    phases = {row.facts["pass"]: row for row in rows if row.section == "training" and row.facts["dtype"] == dtype and row.measure == "s"}
    if set(phases) != set(PHASES):
        return None

    def weighted(form: str, quantile: str) -> float:
        return sum(share * getattr(phases[phase].values[form], quantile) for phase, share in PHASES.items())

    facts = {key: value for key, value in phases["G"].facts.items() if key != "pass"}
    rounds = {form: min(row.values[form].rounds for row in phases.values()) for form in phases["G"].values}
    values = {form: Spread(*(weighted(form, q) for q in ("median", "low", "high")), count) for form, count in rounds.items()}
    return Row("training", "iteration, G + D + R1 / 16 + path length / 4", describe(options, dtype), values, facts=facts)
