"""autotune: which convolution of the CUDA library is the faster one is measured for each shape, instead of taken from the rule."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from ._checks import check_bool

CONVOLUTIONS = ("modulated_conv2d", "modulated_conv2d_input", "modulated_conv2d_layer", "modulated_conv2d_weight")
BY_RULE, CUDNN, OWN = 0, 1, 2  # as set_convolution takes them
PLAIN = (torch.Tensor, torch.nn.Parameter)
WARM_UPS, RUNS = 2, 5

_enabled = False
_choices: dict[tuple, int] = {}


def autotune(enabled: bool) -> None:
    """Switches measuring on or off: which convolution runs on CUDA tensors, cuDNN's between our passes or our own fused one.

    By default a rule decides by dtype, size and channels. With `autotune(True)` the first call for a device, dtype, layout and shape, of
    each convolution forward and backward, runs both several times and keeps the faster, for the rest of the process.

    Ranks of a process group make the same choices: the rank that measures a shape first leaves its choice in the group's store, where
    the others find it. That is no collective: no rank waits for another's call, and ranks may call different shapes.

    Nothing is measured while a CUDA graph is captured; what was measured before (a warm-up does it) holds there, else the rule. The rule
    alone decides within `torch.compile`, and in deterministic mode (`torch.use_deterministic_algorithms` or
    `torch.backends.cudnn.deterministic`), since the two convolutions round differently and another process may choose otherwise.
    Without the CUDA library, and for tensors on the CPU, it does nothing.

    Args:
        enabled: True measures, False goes back to the rule and keeps what was measured for the next time.

    Raises:
        TypeError: for anything but True or False.
    """
    global _enabled
    _enabled = check_bool("autotune", "enabled", enabled)


def is_on() -> bool:
    return (
        _enabled
        and not torch.compiler.is_compiling()
        and not torch.are_deterministic_algorithms_enabled()
        and not torch.backends.cudnn.deterministic
    )


def run(op: Callable, *args: Any) -> torch.Tensor:
    """Runs a registered convolution on what is faster for its arguments, or by the rule where that is unknown and cannot be measured."""
    # Tensors that are being traced have a type of their own.
    can_choose = args[0].is_cuda and all(type(a) in PLAIN for a in args if isinstance(a, torch.Tensor))
    return run_on(choose(op, args) if can_choose else BY_RULE, op, args)


def run_on(choice: int, op: Callable, args: tuple) -> torch.Tensor:
    if choice == BY_RULE:
        return op(*args)
    torch.ops.stylegan_ops.set_convolution(choice, True)
    try:
        return op(*args)
    finally:
        torch.ops.stylegan_ops.set_convolution(BY_RULE, True)


def choose(op: Callable, args: tuple) -> int:
    call = (str(op), *map(_kind, args))
    is_shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    key = (args[0].device, is_shared, call)  # what a process measured before it joined the others is not theirs
    if key not in _choices:
        if torch.cuda.is_current_stream_capturing():
            return BY_RULE
        choice = faster(op, args)
        _choices[key] = agree(repr(call), choice) if is_shared else choice
    return _choices[key]


def _kind(argument: Any) -> Any:
    """What of an argument the time depends on, and its value where that is a number."""
    if isinstance(argument, torch.Tensor):
        return str(argument.dtype), tuple(argument.shape), argument.stride()
    return tuple(argument) if isinstance(argument, list) else argument


def faster(op: Callable, args: tuple) -> int:
    with torch.no_grad():
        times = {choice: milliseconds(partial(run_on, choice, op, args), args[0].device) for choice in (CUDNN, OWN)}
    return min(times, key=times.__getitem__)


def milliseconds(function: Callable, device: torch.device) -> float:
    """The median time of some calls on the device's current stream, after some that fill the libraries' caches."""
    with torch.cuda.device(device):
        for _ in range(WARM_UPS):
            function()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(RUNS + 1)]
        events[0].record()
        for event in events[1:]:
            function()
            event.record()
        events[-1].synchronize()
        return statistics.median(begin.elapsed_time(end) for begin, end in pairwise(events))


def agree(call: str, choice: int) -> int:
    """The process group's choice for a call: that of the first rank to ask."""
    store = torch.distributed.group.WORLD.get_group_store()
    return int(store.compare_set(f"stylegan_ops autotune {call}", "", str(choice)))
