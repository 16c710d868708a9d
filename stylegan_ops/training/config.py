"""Everything that a training run can be told, checked and in JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .growing import GrowthSchedule, parse_per_resolution
from .losses import LOSSES
from .path_length import default_path_weight
from .presets import MODEL_DEFAULTS, PRESETS, WGAN_GP

MODELS = ("progan", "stylegan", "stylegan2")
GROWING = ("progan", "stylegan")
ARCHITECTURES = ("orig", "skip", "resnet", "msg")
OPTIMIZERS = ("adam", "rmsprop")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
NOISE_MODES = ("random", "const", "none")

# What a resumed run may be told anew: how long it goes on and what it writes when, not what it computes.
CHANGEABLE = frozenset({"kimg", "minutes", "snapshot_kimg", "snapshot_minutes", "log_seconds", "keep_checkpoints", "workers", "threads"})


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run. `TrainingConfig.for_resolution` fills in what depends on the image size.

    Args:
        preset: name of the preset that the values came from, or None.
        model: "progan", "stylegan" or "stylegan2".
        channel_base: channels of a layer times its resolution.
        channel_max: most channels of a layer.
        z_dim: size of the input latent.
        w_dim: size of the intermediate latent.
        mapping_layers: fully connected layers of the mapping network.
        g_architecture: of a StyleGAN2: "orig", "skip", "resnet", or "msg" in both networks.
        d_architecture: the same for D.
        mbstd_group_size: largest group of the minibatch standard deviation, images.
        conditional: use the data set's labels.
        xflip: show each image mirrored too.
        grow: begin at 4 pixels and grow, if the model is one that does (progan, stylegan); the data set needs a pyramid then.
        stabilize_kimg: of a growing model: thousands of images at each resolution, once it is faded in.
        fade_kimg: thousands of images over which a resolution is faded in.
        batch_per_resolution: images in one step while growing, "4:256,8:128,..."; None, or a resolution left out: `batch_size` at the
            last one, and twice as many at each half of it, 256 at most.
        lr_per_resolution: G's learning rate while growing, "64:0.0015,..."; D's changes in proportion. None, or a resolution left out:
            `g_lr`.
        reset_optimizer: forget the optimisers' averages whenever a new resolution begins.
        batch_size: images in one step, over all processes.
        optimizer: "adam" or "rmsprop".
        g_lr: learning rate for G.
        d_lr: learning rate for D.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        loss: a name in `LOSSES`: "logistic", "minimax", "lsgan", "wasserstein", "hinge" or "rahinge".
        critic_steps: steps of D for each one of G, each on images of its own.
        weight_clip: D's weights, as they act (`clip_equalized`), are kept within so much of 0 after each of its steps; 0 for no clipping.
        drift: weight of the mean square of D's logits of real images, which keeps a critic's scores near 0.
        r1_gamma: weight of R1; 0 turns it off.
        r2_gamma: weight of R2, R1 on generated images; 0 turns it off.
        gp_weight: weight of WGAN-GP's gradient penalty; 0 turns it off.
        r1_interval: steps between those of D's penalties (R1, R2 and the gradient penalty); with 1 they are part of D's own steps.
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
    model: str = "stylegan2"
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
    grow: bool = True
    stabilize_kimg: float = 800.0
    fade_kimg: float = 800.0
    batch_per_resolution: str | None = None
    lr_per_resolution: str | None = None
    reset_optimizer: bool = False
    batch_size: int = 32
    optimizer: str = "adam"
    g_lr: float = 0.0025
    d_lr: float = 0.0025
    beta1: float = 0.0
    beta2: float = 0.99
    loss: str = "logistic"
    critic_steps: int = 1
    weight_clip: float = 0.0
    drift: float = 0.0
    r1_gamma: float = 1.0
    r2_gamma: float = 0.0
    gp_weight: float = 0.0
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
        if (self.g_architecture == "msg") != (self.d_architecture == "msg"):
            raise ValueError(
                f"TrainingConfig: g_architecture and d_architecture must both be msg ({self.g_architecture}, {self.d_architecture})"
            )
        growing = self.model in GROWING and self.grow
        for name in ("batch_per_resolution", "lr_per_resolution", "reset_optimizer"):
            if getattr(self, name) and not growing:
                raise ValueError(f"TrainingConfig: {name} needs a run that grows, of a {' or '.join(GROWING)} ({getattr(self, name)!r})")
        if self.model == "progan" and self.style_mixing > 0:
            raise ValueError(f"TrainingConfig: style_mixing must be 0 for a progan, which has no styles ({self.style_mixing})")

    def growth(self, resolution: int) -> GrowthSchedule | None:
        """The schedule of a run that grows to `resolution` pixels; None for one that does not grow.

        Raises:
            ValueError: a batch size or learning rate is malformed or for a resolution that the run does not have.
        """
        if self.model not in GROWING or not self.grow:
            return None
        schedule = GrowthSchedule.scaled_to(resolution, self.batch_size, stabilize_kimg=self.stabilize_kimg, fade_kimg=self.fade_kimg)
        if self.batch_per_resolution:
            schedule = schedule.with_batch_sizes(parse_per_resolution(self.batch_per_resolution, int, "batch_per_resolution"))
        if self.lr_per_resolution:
            rates = parse_per_resolution(self.lr_per_resolution, float, "lr_per_resolution")
            schedule = dataclasses.replace(schedule, lr_factors={r: rate / self.g_lr for r, rate in rates.items()})
        return schedule

    @classmethod
    def for_resolution(cls, resolution: int, *, preset: str | None = None, **given: Any) -> TrainingConfig:
        """Fill in the defaults for one image size.

        1. R1: gamma = 0.0002 * r^2 / batch_size (Karras et al., Training Generative Adversarial Networks with Limited Data, 2020,
           appendix C); path length: `default_path_weight`.
        2. Smaller networks for smaller images; smaller batches for larger ones; G's half-life is 10 kimg at a batch of 32 and in
           proportion to it.
        3. The preset goes over these, the model's own loss and regularisers (`MODEL_DEFAULTS`) over that, and what is given goes over
           all. Of the two ends of a run, giving one removes the other.

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
        model = given.get("model") or "stylegan2"
        for name in _FOREIGN.get(model, ()):
            if given.get(name) is not None:
                raise ValueError(f"TrainingConfig: {name} must be left out for a {model}, which has none ({given[name]!r})")
        of_model = MODEL_DEFAULTS.get(model, {})
        if model == "progan" and given.get("loss") in (None, "wasserstein") and not given.get("weight_clip"):
            of_model = of_model | WGAN_GP
        chosen = {"preset": preset} | _with_alternatives(PRESETS.get(preset, {})) | of_model | _with_alternatives(given)
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


# What a model has not, and must not be given.
_FOREIGN = {
    "progan": ("g_architecture", "d_architecture", "w_dim", "mapping_layers"),
    "stylegan": ("g_architecture", "d_architecture"),
}


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
    (("critic_steps",), lambda v: v >= 1, "at least 1"),
    (("workers", "threads", "seed"), lambda v: v >= 0, "at least 0"),
    (("g_lr", "d_lr", "kimg", "minutes", "snapshot_kimg", "snapshot_minutes", "log_seconds"), lambda v: v > 0, "above 0"),
    (("r1_gamma", "path_weight", "ema_kimg", "ema_rampup"), lambda v: v >= 0, "at least 0"),
    (("r2_gamma", "gp_weight", "weight_clip", "drift", "fade_kimg"), lambda v: v >= 0, "at least 0"),
    (("stabilize_kimg",), lambda v: v >= 0.001, "at least 0.001, one image"),
    (("beta1", "beta2"), lambda v: 0 <= v < 1, "at least 0 and below 1"),
    (("path_decay", "style_mixing"), lambda v: 0 <= v <= 1, "between 0 and 1"),
    (("g_architecture", "d_architecture"), *_one_of(ARCHITECTURES)),
    (("model",), *_one_of(MODELS)),
    (("loss",), *_one_of(tuple(LOSSES))),
    (("optimizer",), *_one_of(OPTIMIZERS)),
    (("noise_mode",), *_one_of(NOISE_MODES)),
    (("precision",), *_one_of(PRECISIONS)),
    (("preset",), lambda v: v in PRESETS, "one of " + ", ".join(PRESETS)),
)
