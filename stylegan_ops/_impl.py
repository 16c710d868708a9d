"""The one place where an implementation is chosen: `auto`, `native` or `reference`.

The device is not an implementation: a tensor's device and dtype decide, through PyTorch's dispatcher, which native kernel runs.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.autograd import forward_ad

from . import _architectures, _library

NAMES = ("auto", "native", "reference")
BFLOAT16_TENSOR_CORES = (8, 0)  # the first compute capability that has them
NATIVE_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_default = "auto"  # a module global, not a ContextVar: Dynamo can trace it
_warned: set[str] = set()


def check_name(where: str, name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"{where}: impl must be one of {', '.join(NAMES)} (got {name!r})")


@contextmanager
def use_impl(name: str) -> Iterator[None]:
    """Sets the implementation of every op called inside a `with` block, in all threads; a call's own `impl=` wins.

    Args:
        name: `"auto"` (native where there is a kernel for device and dtype, else reference, with one warning), `"native"` (an error where
            there is none) or `"reference"` (plain PyTorch).

    Raises:
        ValueError: for another name.
    """
    global _default
    check_name("use_impl", name)
    before, _default = _default, name
    try:
        yield
    finally:
        _default = before


def why_not_native(x: torch.Tensor) -> str | None:
    """The reason why no native kernel serves this tensor, with its remedy; None when one does."""
    if x.dtype not in NATIVE_DTYPES:
        return f"there is no kernel for {x.dtype}; use float64, float32, bfloat16 or float16"
    found = _library.compiled(x.device.type)
    if found.loaded and x.device.type == "cuda":
        found = _architectures.fit_of_device(x.device.index)
    if found.reason is None:
        return None
    return f"{found.reason}; {found.remedy}" if found.remedy else found.reason


def is_native(op: str, impl: str | None, x: torch.Tensor) -> bool:
    """Decides whether `op` runs natively on `x`; warns once per reason when `auto` has to fall back."""
    name = _default if impl is None else impl
    if forward_ad._current_level >= 0:  # the kernels have no forward-mode derivative: without a word, tangents would be 0
        check_name(op, name)
        if name == "native":
            raise RuntimeError(f"{op}: impl='native' has no forward-mode derivative (torch.func.jvp, torch.autograd.forward_ad)")
        return False
    if name != "reference" and x.is_cpu and x.dtype in NATIVE_DTYPES and _library.LIBRARIES["cpu"].loaded:
        check_name(op, name)
        return True
    if name == "auto" and why_not_native(x) is None:
        return True
    check_name(op, name)
    if name == "reference":
        return False
    reason = why_not_native(x)
    if reason is None:
        return True
    if name == "native":
        raise RuntimeError(f"{op}: impl='native' has no kernel for {x.dtype} on {x.device.type}: {reason}")
    if reason not in _warned and not x.is_meta and not torch.compiler.is_compiling():  # meta tensors have nothing to be slow about
        _warned.add(reason)
        warnings.warn(f"{op} runs on the PyTorch reference: {reason}", RuntimeWarning, stacklevel=_callers_level())
    return False


def _callers_level() -> int:
    """The stacklevel, as seen from this function's caller, of the first line outside the package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    return level


def explain(op_name: str, *tensors: torch.Tensor) -> str:
    """Says in one sentence which implementation a call of an op would use now, and why.

    Args:
        op_name: one of the public ops, e.g. `"upfirdn2d"`.
        *tensors: the tensors of the call, the image first; without any, a float32 CPU tensor is meant.

    Returns:
        A sentence that begins with `native` or `reference`.

    Raises:
        ValueError: for an unknown op.
        TypeError: where the first of the tensors is none.
    """
    from . import ops

    if op_name not in ops.NAMES:
        raise ValueError(f"explain: op_name must be one of {', '.join(ops.NAMES)} (got {op_name!r})")
    x = tensors[0] if tensors else torch.empty(0)
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"explain: tensors must be tensors (got {x!r})")
    kind = f"{str(x.dtype).removeprefix('torch.')} on {x.device.type}"
    if _default == "reference":
        return f"reference: use_impl('reference') is in force ({kind})"
    reason = why_not_native(x)
    if reason is not None:
        return f"reference: {reason} ({kind})"
    if x.device.type == "cpu":
        return f"native: {kind}, {ops.cpu_variant()} kernels"
    code = _architectures.fit_of_device(x.device.index).code
    how = f", {code} kernels" if code else ""
    if op_name == "modulated_conv2d" and x.dtype == torch.bfloat16 and code and code.capability < BFLOAT16_TENSOR_CORES:
        how += ", whose own convolution runs on the ordinary pipes: there are no bfloat16 tensor cores"
    if op_name == "modulated_conv2d" and ops._autotune.is_on():
        how += ", the convolution chosen by autotune"
    return f"native: {kind}{how}"
