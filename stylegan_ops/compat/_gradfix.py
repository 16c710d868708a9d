"""What the `conv2d_gradfix` modules share: convolutions of torch's, whose weight gradients can be switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch


class WeightGate(torch.autograd.Function):
    """The identity on a weight. Its gradient ends here while the module's `weight_gradients_disabled` is set as the gradient passes."""

    @staticmethod
    def forward(ctx, weight, module):
        ctx.module = module
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx, dw):
        return (None if ctx.module.weight_gradients_disabled else dw), None


def gated(weight: torch.Tensor, module: ModuleType) -> torch.Tensor:
    """The weight, whose gradient the module's switch can stop."""
    if not (weight.requires_grad and torch.is_grad_enabled()):
        return weight
    if torch.compiler.is_compiling():  # what is traced has its derivative fixed: here the switch counts as the forward pass runs
        return weight.detach() if module.weight_gradients_disabled else weight
    return WeightGate.apply(weight, module)


@contextmanager
def weight_gradients_off(module: ModuleType, disable: bool) -> Iterator[None]:
    before = module.weight_gradients_disabled
    module.weight_gradients_disabled = before or disable
    try:
        yield
    finally:
        module.weight_gradients_disabled = before
