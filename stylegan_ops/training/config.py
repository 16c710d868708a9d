"""Everything that a training run can be told, checked and in JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .path_length import default_path_weight
from .presets import PRESETS

ARCHITECTURES = ("orig", "skip", "resnet")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
NOISE_MODES = ("random", "const", "none")

# What a resumed run may be told anew: how long it goes on and what it writes when, not what it computes.
CHANGEABLE = frozenset({"kimg", "minutes", "snapshot_kimg", "snapshot_minutes", "log_seconds", "keep_checkpoints", "workers", "threads"})


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run. `TrainingConfig.for_resolution` fills in what depends on the image size.

    Args:
        preset: name of the preset that the values came from, or None.
        channel_base: channels of a layer times its resolution.
        channel_max: most channels of a layer.
        z_dim: size of the input latent.
        w_dim: size of the intermediate latent.
        mapping_layers: fully connected layers of the mapping network.
        g_architecture: "orig", "skip" or "resnet".
        d_architecture: "orig", "skip" or "resnet".
        mbstd_group_size: largest group of the minibatch standard deviation, images.
        conditional: use the data set's labels.
        xflip: show each image mirrored too.
        batch_size: images in one step, over all processes.
        g_lr: Adam's learning rate for G.
        d_lr: Adam's learning rate for D.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        r1_gamma: weight of R1; 0 turns it off.
        r1_interval: steps between R1 steps.
        path_weight: weight of the path-length penalty; 0 turns it off.
        path_interval: steps between path-length steps.
        path_decay: share of a new batch in the running mean of the path lengths.
        path_batch_shrink: the path-length step takes one image in so many.
        style_mixing: share of generated images with two styles.
        ema_kimg: half-life of G's average, thousands of images.
        ema_rampup: largest half-life as a share of the images seen; 0 for no ramp-up.
        noise_mode: noise inside G while training: "random", "const" or "none".
        precision: "float32", "bfloat16", "float16", or "auto" (bfloat16 where the device computes it fast, else float32).
        compile: compile the plain G and D steps with torch.compile.
        seed: of the weights, the latents, the noise and the order of the data.
        kimg: end of the training, thousands of real images in all; None for no such end.
        minutes: end of the training, minutes in all, counted over resumed runs; None for no such end.
        snapshot_kimg: thousands of images between snapshots (grid and checkpoint); None for none by this measure.
        snapshot_minutes: minutes between snapshots; None for none by this measure.
        log_seconds: seconds between lines of the log.
        keep_checkpoints: how many of the newest checkpoints stay.
        workers: processes that read images.
        threads: CPU threads of a training process; 0 leaves torch's choice.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: a value out of range.
    """

    preset: str | None = None
    channel_base: int = 16384
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    g_architecture: str = "skip"
    d_architecture: str = "resnet"
    mbstd_group_size: int = 4
    conditional: bool = False
    xflip: bool = False
    batch_size: int = 32
    g_lr: float = 0.0025
    d_lr: float = 0.0025
    beta1: float = 0.0
    beta2: float = 0.99
    r1_gamma: float = 1.0
    r1_interval: int = 16
    path_weight: float = 1.0
    path_interval: int = 4
    path_decay: float = 0.01
    path_batch_shrink: int = 2
    style_mixing: float = 0.9
    ema_kimg: float = 10.0
    ema_rampup: float = 0.05
    noise_mode: str = "random"
    precision: str = "auto"
    compile: bool = False
    seed: int = 0
    kimg: float | None = 25000.0
    minutes: float | None = None
    snapshot_kimg: float | None = None
    snapshot_minutes: float | None = 10.0
    log_seconds: float = 10.0
    keep_checkpoints: int = 2
    workers: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value, (kind, optional) = getattr(self, field.name), _plain_type(hints[field.name])
            if optional and value is None:
                continue
            if kind is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not kind:
                raise TypeError(f"TrainingConfig: {field.name} must be {kind.__name__}{' or None' if optional else ''} ({value!r})")
        for names, allowed, rule in _RULES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not allowed(value):
                    raise ValueError(f"TrainingConfig: {name} must be {rule} ({value!r})")

    @classmethod
    def for_resolution(cls, resolution: int, *, preset: str | None = None, **given: Any) -> TrainingConfig:
        """Fill in the defaults for one image size.

        1. R1: gamma = 0.0002 * r^2 / batch_size (Karras et al., Training Generative Adversarial Networks with Limited Data, 2020,
           appendix C); path length: `default_path_weight`.
        2. Smaller networks for smaller images; smaller batches for larger ones; G's half-life is 10 kimg at a batch of 32 and in
           proportion to it.
        3. The preset goes over these, and what is given goes over all. Of the two ends of a run, giving one removes the other.

        Args:
            resolution: width of the images, pixels, at least 4.
            preset: a key of `PRESETS`, or None.
            **given: any setting by its name; None stands for not given.

        Returns:
            TrainingConfig.

        Raises:
            TypeError: an unknown setting, or a value of the wrong type.
            ValueError: an unknown preset, or a value out of range.
        """
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"TrainingConfig: preset must be one of {', '.join(PRESETS)} ({preset!r})")
        chosen = {"preset": preset} | _with_alternatives(PRESETS.get(preset, {})) | _with_alternatives(given)
        small, large = resolution <= 64, resolution >= 512
        defaults = {
            "channel_base": 8192 if small else 32768 if large else 16384,
            "channel_max": 256 if small else 512,
            "batch_size": 8 if large else 32 if resolution <= 128 else 16,
            "g_lr": 0.002 if large else 0.0025,
            "d_lr": 0.002 if large else 0.0025,
            "path_weight": default_path_weight(resolution),
        }
        settings = defaults | chosen
        if "r1_gamma" not in settings and type(settings["batch_size"]) is int and settings["batch_size"] > 0:
            settings["r1_gamma"] = 0.0002 * resolution**2 / settings["batch_size"]
        if "ema_kimg" not in settings and type(settings["batch_size"]) is int:
            settings["ema_kimg"] = settings["batch_size"] * 10 / 32
        return cls(**settings)

    def to_json(self) -> dict[str, Any]:
        """Give the settings as a dict of plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> TrainingConfig:
        """Make the config from `to_json`'s dict.

        Raises:
            ValueError: a setting that this version does not know; TypeError and ValueError as for the class.
        """
        unknown = set(settings) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"TrainingConfig: settings must be known ({', '.join(sorted(unknown))})")
        return cls(**settings)

    def resumed_with(self, given: Mapping[str, Any]) -> TrainingConfig:
        """Give the config for continuing this run under the settings given now.

        Args:
            given: settings by name; None stands for not given.

        Returns:
            TrainingConfig.

        Raises:
            ValueError: a setting that alters the result differs from this run's.
        """
        given = _with_alternatives(given)
        for name, value in given.items():
            if name not in CHANGEABLE and value != getattr(self, name):
                raise ValueError(f"TrainingConfig: {name} must stay {getattr(self, name)!r} in a resumed run ({value!r})")
        return dataclasses.replace(self, **given)


def _with_alternatives(given: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what is not given (None); of two measures of one thing, giving one turns the other off."""
    chosen = {name: value for name, value in given.items() if value is not None}
    for pair in (("kimg", "minutes"), ("snapshot_kimg", "snapshot_minutes")):
        if any(name in chosen for name in pair):
            chosen = dict.fromkeys(pair) | chosen
    return chosen


def _plain_type(hint: Any) -> tuple[type, bool]:
    """Split a field's annotation into its type and whether None is allowed."""
    if isinstance(hint, types.UnionType):
        (kind,) = (part for part in typing.get_args(hint) if part is not type(None))
        return kind, True
    return hint, False


def _one_of(choices: tuple[str, ...]) -> tuple[Any, str]:
    return lambda value: value in choices, "one of " + ", ".join(choices)


_RULES: tuple[tuple[tuple[str, ...], Any, str], ...] = (
    (("channel_base", "channel_max", "z_dim", "w_dim", "mapping_layers", "mbstd_group_size"), lambda v: v >= 1, "at least 1"),
    (("batch_size", "r1_interval", "path_interval", "path_batch_shrink", "keep_checkpoints"), lambda v: v >= 1, "at least 1"),
    (("workers", "threads", "seed"), lambda v: v >= 0, "at least 0"),
    (("g_lr", "d_lr", "kimg", "minutes", "snapshot_kimg", "snapshot_minutes", "log_seconds"), lambda v: v > 0, "above 0"),
    (("r1_gamma", "path_weight", "ema_kimg", "ema_rampup"), lambda v: v >= 0, "at least 0"),
    (("beta1", "beta2"), lambda v: 0 <= v < 1, "at least 0 and below 1"),
    (("path_decay", "style_mixing"), lambda v: 0 <= v <= 1, "between 0 and 1"),
    (("g_architecture", "d_architecture"), *_one_of(ARCHITECTURES)),
    (("noise_mode",), *_one_of(NOISE_MODES)),
    (("precision",), *_one_of(PRECISIONS)),
    (("preset",), lambda v: v in PRESETS, "one of " + ", ".join(PRESETS)),
)
