"""Gives the compiled operators their fakes and derivatives; without the compiled library there is nothing to register."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from .. import _library
from . import _autotune

_registered: dict[str, Callable] = {}


def native(name: str) -> Callable:
    """The registered operator `stylegan_ops::name`; where autotune is on, a convolution on the faster kernels."""
    op = _registered[name]
    return partial(_autotune.run, op) if name in _autotune.CONVOLUTIONS and _autotune.is_on() else op


def register(name: str, *, fake: Callable, backward: Callable, setup_context: Callable | None = None) -> None:
    """Registers the fake and the derivative of a compiled operator. Every operator has both: without a derivative it would silently cut the
    graph of a second derivative. A library without the operator is of an older package, and left out as a whole."""
    if not hasattr(torch.ops.stylegan_ops, name):
        _library.leave_out(f"it is of another version of the package: it lacks the operator {name}")
    if not _library.LIBRARIES["cpu"].loaded:
        return
    torch.library.register_fake(f"stylegan_ops::{name}", fake)
    torch.library.register_autograd(f"stylegan_ops::{name}", backward, setup_context=setup_context)
    _registered[name] = getattr(torch.ops.stylegan_ops, name).default


def refuses_derivative(name: str) -> Callable:
    """The derivative of an operator for inference: an error, instead of a graph that is silently cut."""

    def backward(ctx, *grads):
        raise RuntimeError(f"{name}: has no derivative; it is for inference")

    return backward


def cpu_variant(select: str | None = None) -> str:
    """The SIMD variant that the CPU kernels use: `baseline`, `avx2` or `avx512`.

    Args:
        select: switches to another variant, for tests and benchmarks; the fastest that this machine runs is the default.

    Raises:
        RuntimeError: where the compiled library is not loaded.
        ValueError: for a variant that is unknown, was not built or does not run on this machine.
    """
    library = _library.LIBRARIES["cpu"]
    if not library.loaded:
        raise RuntimeError(f"cpu_variant: the compiled CPU library is not loaded: {library.reason}")
    if select is not None:
        if select not in CPU_VARIANTS:
            raise ValueError(f"cpu_variant: select must be one of {', '.join(CPU_VARIANTS)} (got {select!r})")
        if not torch.ops.stylegan_ops.set_cpu_variant(CPU_VARIANTS.index(select)):
            raise ValueError(f"cpu_variant: select must be a variant that was built and that this machine runs (got {select!r})")
    return CPU_VARIANTS[torch.ops.stylegan_ops.cpu_variant()]


CPU_VARIANTS = ("baseline", "avx2", "avx512")
