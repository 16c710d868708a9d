"""Argument checks shared by the rooms: every message names op, argument, rule and value.

On small images they are a good part of a call: what is right as Python's own type is let through before numbers' abstract classes, which
are slow to ask.
"""

from __future__ import annotations

import numbers
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which an op computes: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def to_accumulate(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A small operand in the dtype in which an op computes on x; a call of `to` that changes nothing is not free either."""
    dtype = accumulate_dtype(x.dtype)
    return t if t.dtype == dtype else t.to(dtype)


def no_autocast(device: torch.device) -> AbstractContextManager:
    """Leaves autocast for what stays in float32; the meta device has none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def check_image(op: str, name: str, x: torch.Tensor, ndim: int | None = None) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{op}: {name} must be a tensor (got {type(x).__name__})")
    if not x.dtype.is_floating_point:
        raise TypeError(f"{op}: {name} must be of a floating-point dtype (got {x.dtype})")
    if ndim is not None and x.ndim != ndim:
        raise ValueError(f"{op}: {name} must have {ndim} dimensions (got shape {tuple(x.shape)})")


def check_vector(op: str, name: str, v: torch.Tensor, length: int, x: torch.Tensor, along: str) -> None:
    check_image(op, name, v)
    if v.ndim != 1 or v.shape[0] != length:
        raise ValueError(f"{op}: {name} must have shape [{length}], the length of {along} (got shape {tuple(v.shape)})")
    check_device(op, name, v, x)


def check_device(op: str, name: str, v: torch.Tensor, x: torch.Tensor) -> None:
    if v.device != x.device:
        raise ValueError(f"{op}: {name} must be on the device of the image, {x.device} (got {v.device})")


def check_real(op: str, name: str, value: float) -> float:
    if type(value) is float:
        return value
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise TypeError(f"{op}: {name} must be a real number (got {value!r})")
    return float(value)


def check_bool(op: str, name: str, value: bool) -> bool:
    if value is True or value is False:
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name} must be True or False (got {value!r})")
    return bool(value)


def check_int(op: str, name: str, value: int) -> int:
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{op}: {name} must be an integer (got {value!r})")
    return int(value)


def check_positive_int(op: str, name: str, value: int) -> int:
    value = check_int(op, name, value)
    if value < 1:
        raise ValueError(f"{op}: {name} must be at least 1 (got {value})")
    return value
