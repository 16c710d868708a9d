"""Checkpoints of other layouts, renamed to those of the models here and back."""

from .karras2019 import from_karras2019, to_karras2019

__all__ = ["from_karras2019", "to_karras2019"]
