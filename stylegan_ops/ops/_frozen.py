"""What kernels need of weights that nobody trains, made once and kept until the weights change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch._guards import active_fake_mode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakIdKeyDictionary

_kept: WeakIdKeyDictionary = WeakIdKeyDictionary()


def is_frozen(*weights: torch.Tensor) -> bool:
    """Whether something may be kept for these weights: parameters without `requires_grad`, used where no gradients are recorded.

    Then whatever changes them in place counts up their version. A write through `.data`, NumPy or a collective (`torch.distributed`) does
    not: who writes so, as some training loops do to their moving average, leaves `requires_grad` on, which is its default.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing() or active_fake_mode() is not None:
        return False
    return all(type(w) is torch.nn.Parameter and not w.requires_grad and not w.is_inference() for w in weights)


def kept(what: Hashable, weights: Sequence[torch.Tensor], make: Callable[[], Any]) -> Any:
    """`make()` of the last call with the same `what` unless one of the frozen weights has changed since; as long as the first lives."""
    stamp = [(w._version, w.data_ptr()) for w in weights]
    entries = _kept.setdefault(weights[0], {})
    entry = entries.get(what)
    if entry is None or entry[0] != stamp or any(storage.expired() for storage in entry[1]):
        # A storage that has not expired still holds its memory: no later tensor has an address of the stamp.
        with torch.inference_mode(False), torch.no_grad():
            entry = entries[what] = (stamp, [StorageWeakRef(w.untyped_storage()) for w in weights], make())
    return entry[2]
