"""Whether something made of a network's weights may be kept from call to call: its weights must neither train nor be about to."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def is_frozen(weights: Sequence[torch.Tensor]) -> bool:
    """Whether all are parameters without `requires_grad`, used where no gradients are recorded, and have versions to compare."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return all(type(w) is torch.nn.Parameter and not w.requires_grad and not w.is_inference() for w in weights)


class Stamp:
    """The state of frozen weights, equal to a later one as long as none of them has been written to or replaced.

    It does not see a write through `.data` or NumPy, nor one by a fused optimiser, which count up no version. It holds the weights' memory,
    so that no other tensor can come to lie at one of its addresses.
    """

    def __init__(self, weights: Sequence[torch.Tensor]):
        self._state = [(w._version, w.data_ptr(), w.dtype) for w in weights]
        self._memory = [w.detach() for w in weights]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stamp) and self._state == other._state

    __hash__ = None
