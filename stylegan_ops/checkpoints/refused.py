"""Layouts that are recognised, and refused with the reason."""

from __future__ import annotations

from typing import Any, NoReturn

from stylegan_ops._pickle_machine import Fault

from .layout import is_state_dict
from .report import Report

NAME = "refused"


def matches(tree: Any) -> bool:
    """lucidrains' files."""
    return _reason(tree) is not None


def read(tree: Any, report: Report) -> NoReturn:
    """Never returns.

    Raises:
        Fault: the reason.
    """
    raise Fault(_reason(tree) or "")


def _reason(tree: Any) -> str | None:
    state = tree.get("GAN") if isinstance(tree, dict) else None
    if is_state_dict(state) and "G.initial_block" in state:
        return "it is lucidrains' stylegan2_pytorch, whose layers are others than the paper's: no model here computes what it does"
    return None
