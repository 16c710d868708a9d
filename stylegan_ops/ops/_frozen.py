"""Whether something made of a network's weights may be kept from call to call: its weights must neither train nor be about to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch._guards import active_fake_mode
from torch.multiprocessing.reductions import StorageWeakRef


def is_frozen(weights: Sequence[torch.Tensor]) -> bool:
    """Whether all are parameters without `requires_grad`, used where no gradients are recorded, and have versions to compare."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing() or active_fake_mode() is not None:
        return False
    if weights[0].is_cuda and torch.cuda.is_current_stream_capturing():
        return False  # the graph is to read the weights as they are when it is replayed
    return all(type(w) is torch.nn.Parameter and not w.requires_grad and not w.is_inference() for w in weights)


class Stamp:
    """The state of frozen weights, which fits them as long as none of them has been written to or replaced.

    It does not see a write through `.data`, NumPy or `torch.distributed`, nor one by a fused optimiser, which count up no version.
    """

    def __init__(self, weights: Sequence[torch.Tensor]):
        self._state = _state(weights)
        self._storages = [StorageWeakRef(w.untyped_storage()) for w in weights]

    def fits(self, weights: Sequence[torch.Tensor]) -> bool:
        # A storage that has not expired still holds its memory: no later tensor has an address of the stamp.
        return self._state == _state(weights) and not any(s.expired() for s in self._storages)


def _state(weights):
    return [(w._version, w.data_ptr(), w.dtype) for w in weights]
