"""Forward passes of StyleGAN2's generator and discriminator in inference mode, and how their cost grows with resolution and batch.

The outputs of all forms are compared before anything is timed. The baseline's fastest way is found by trying all of them, and its row
says which it was. GFLOP/s are those of the minimal arithmetic: no zero-inserted pixel is counted. The limit is a dense channels_last 3x3
convolution of PyTorch in the row's dtype.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch

from stylegan_ops import use_impl
from stylegan_ops.models.stylegan2 import Discriminator, Generator

from . import baseline
from .cases import DTYPES, FORMS, Case, Options, Work, dense_convolution
from .timing import Form, clock

KINDS = {"G": (Generator, baseline.Generator), "D": (Discriminator, baseline.Discriminator)}
RESOLUTIONS = (32, 64, 128, 256, 512, 1024)
BATCHES = (1, 2, 4, 8, 16, 32)
# How far a form may be from the first one: rounding of float32 through some thirty layers, and that of 16 bits.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}


def network(name: str, options: Options) -> torch.nn.Module:
    """A network whose biases and noise strengths are not zero, as after training."""
    net = KINDS[name][0](options.resolution, channel_base=options.width).to(options.device)
    with torch.no_grad():
        for parameter, p in net.named_parameters():
            if parameter.endswith(("bias", "noise_strength")):
                p.add_(torch.randn_like(p) * 0.1)
    return net


def sample(name: str, options: Options) -> torch.Tensor:
    """What a network takes: latent codes, or images."""
    size = (512,) if name == "G" else (3, options.resolution, options.resolution)
    return torch.randn(options.images, *size, device=options.device)


def flop(net: torch.nn.Module, batch: int) -> float:
    """Multiplications and additions of the convolutions: 2 per weight, sample and pixel, on the side that has fewer pixels."""
    total = 0
    for name, p in net.named_parameters():
        if p.ndim == 4:
            *_, block, layer, _ = name.split(".")
            resolution = int(block[1:])
            halved = layer == "conv0" if name.startswith("synthesis") else layer in ("conv1", "skip")
            total += 2 * batch * p.numel() * (resolution // 2 if halved else resolution) ** 2
    return total


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def fastest(ways: dict[str, Form], device: str) -> str:
    """The quickest of several forms, by the best of three runs in turns: the first one warms up."""
    tell = clock(device)
    rounds = [{way: tell(form) for way, form in ways.items()} for _ in range(3)]
    return min(ways, key=lambda way: min(times[way] for times in rounds))


def under(form: Form, dtype: str, device: str, impl: str = "auto") -> Form:
    """A forward pass in inference mode, under autocast unless in float32, by one implementation."""

    def run() -> torch.Tensor:
        narrow = dtype in ("bfloat16", "float16")
        with torch.inference_mode(), use_impl(impl), torch.autocast(torch.device(device).type, DTYPES[dtype], enabled=narrow):
            return form()

    return run


def same_noise(form: Form) -> torch.Tensor:
    torch.manual_seed(1)
    return form()


@functools.lru_cache
def fastest_way(name: str, options: Options) -> str:
    """The baseline's way through a network whose forward pass takes the least time in float32."""
    state, plain, x = network(name, options).state_dict(), KINDS[name][1], sample(name, options)
    ways = {way: plain(state, **how) for way, how in plain.WAYS.items()}
    return fastest({way: under(functools.partial(form, x), "float32", options.device) for way, form in ways.items()}, options.device)


def build(name: str, dtype: str, options: Options) -> Work:
    wide = DTYPES["float64" if dtype == "float64" else "float32"]
    net = network(name, options).eval().requires_grad_(False).to(wide)
    x = sample(name, options).to(wide)
    plain, device = KINDS[name][1], options.device
    facts: dict[str, Any] = {}
    chosen = None
    if set(options.compare) & {"baseline", "autocast", "compile"}:
        facts["baseline"] = fastest_way(name, options)
        chosen = plain(net.state_dict(), **plain.WAYS[facts["baseline"]])
    makers: dict[str, Callable[[], Form]] = {
        "native": lambda: under(lambda: net(x), dtype, device, "native"),
        "baseline": lambda: under(lambda: chosen(x), "float32", device),
        "autocast": lambda: under(lambda: chosen(x), dtype, device),
        "reference": lambda: under(lambda: net(x), dtype, device, "reference"),
        "compile": lambda: under(compiled(lambda: chosen(x)), "float32", device),
    }
    forms = {form: makers[form]() for form in FORMS if form in options.compare}
    outputs = {form: same_noise(run) for form, run in forms.items() if form != "compile"}  # which draws other noise
    truth = outputs.get("baseline", next(iter(outputs.values()), None))
    facts["errors"] = {form: relative_error(y, truth) for form, y in outputs.items() if y is not truth}
    for form, error in facts["errors"].items():
        if not error < TOLERANCE[dtype]:
            raise RuntimeError(f"{name} forward, {dtype}: {form} must agree with the others (relative error {error:.1e}); nothing is timed")
    return Work(forms, flop(net, len(x)), "GFLOP/s", dense_convolution(DTYPES[dtype], device), facts=facts)


def compiled(form: Form) -> Form:
    torch.compiler.reset()
    return torch.compile(form, dynamic=False)


def row(name: str, dtype: str, options: Options, section: str, label: str) -> Case:
    facts = {"dtype": dtype, "resolution": options.resolution, "batch": options.images, "channel_base": options.width, "pass": "forward"}
    facts["allocator"] = options.allocator
    text = f"{label}, {dtype}, {options.allocator}"
    return Case(section, f"{name} forward", text, lambda: build(name, dtype, options), facts, seconds=10)


def cases(options: Options) -> list[Case]:
    label = f"{options.resolution} px, batch {options.images}, channel_base {options.width}"
    found = [row(name, dtype, options, "models", label) for name in KINDS for dtype in options.dtypes_or("float32", "bfloat16")]
    return found + (scaling(options) if options.scaling else [])


def scaling(options: Options) -> list[Case]:
    """Batch 1 at every resolution, and every batch at one resolution; networks of the same channel_base throughout."""
    fixed = dataclasses.replace(options, channel_base=options.channel_base or 16384)
    points = [("by resolution", dataclasses.replace(fixed, resolution=r, batch=1)) for r in RESOLUTIONS]
    points += [("by batch", dataclasses.replace(fixed, batch=n)) for n in BATCHES]
    return [
        dataclasses.replace(case, facts={**case.facts, "scaling": kind}, seconds=2)
        for name in KINDS
        for dtype in options.dtypes_or("float32")
        for kind, point in points
        for case in [row(name, dtype, point, "scaling", f"{kind}: {point.resolution} px, batch {point.images}")]
    ]
