"""Checkpoints of any layout as models of `stylegan_ops.models`, and the models in other layouts."""

from .karras2019 import from_karras2019, to_karras2019
from .load import WRITERS, convert, load_any
from .report import Report

__all__ = ["WRITERS", "Report", "convert", "from_karras2019", "load_any", "to_karras2019"]
