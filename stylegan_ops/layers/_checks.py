"""Argument checks shared by the layers and models: every message names class, argument, rule and value."""

from __future__ import annotations

import torch

from ..ops._checks import check_image, check_int, check_positive_int, check_real, no_autocast

__all__ = [
    "check_choice",
    "check_clamp",
    "check_image",
    "check_int",
    "check_labels",
    "check_positive_int",
    "check_real",
    "check_shape",
    "no_autocast",
]


def check_choice(owner: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(choices)} (got {value!r})")


def check_clamp(owner: str, value: float | None) -> float | None:
    if value is None:
        return None
    value = check_real(owner, "conv_clamp", value)
    if not value >= 0:
        raise ValueError(f"{owner}: conv_clamp must be None or at least 0 (got {value})")
    return value


def check_shape(owner: str, name: str, x: torch.Tensor, shape: tuple[int | None, ...], rule: str) -> None:
    """Checks that x is a floating-point tensor of the given shape; None stands for any length."""
    check_image(owner, name, x)
    if x.ndim != len(shape) or any(want is not None and have != want for have, want in zip(x.shape, shape, strict=True)):
        raise ValueError(f"{owner}: {name} must have shape {rule} (got shape {tuple(x.shape)})")


def check_labels(owner: str, c: torch.Tensor | None, n: int | None, c_dim: int) -> None:
    """Checks labels c against the batch size n (None: any); an unconditional network takes None or zero columns."""
    if c is None:
        if c_dim > 0:
            raise ValueError(f"{owner}: c must be given as labels [N, {c_dim}], since c_dim is {c_dim} (got None)")
    else:
        check_shape(owner, "c", c, (n, c_dim), f"[{'N' if n is None else n}, {c_dim}], the batch size and c_dim")
