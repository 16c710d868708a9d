"""Read nested dicts of NumPy arrays from a pickle by following its few data instructions here: nothing it names is imported or called."""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_BYTES = 2**27  # of a file; the one known holds 59 MB
_MAX_STEPS = 100_000  # instructions; the one known has 1,000
_MAX_DIMS = 8
_SYMBOLS = {
    "numpy.core.multiarray._reconstruct": "reconstruct",
    "numpy._core.multiarray._reconstruct": "reconstruct",  # its name since NumPy 2
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
}


@dataclass(frozen=True)
class _Symbol:
    kind: str


@dataclass
class _DType:
    kind: str
    order: str = "="


@dataclass
class _Array:
    value: np.ndarray | None = None


class _Fault(Exception):
    """What is wrong with a pickle, without its name."""


def read_pickled_arrays(data: bytes, name: str) -> dict[str, Any]:
    """Read a pickle that holds arrays of floats in dicts, and nothing else.

    1. Go through the instructions, at most 100,000; one that builds anything but dicts, tuples, strings, bytes and numbers ends it.
    2. Of the symbols that a pickle can name, `numpy.ndarray`, `numpy.dtype` and NumPy's `_reconstruct` are known. They are markers here:
       an array is made from its bytes once its shape, its dtype and their number agree.

    Args:
        data: the pickle, protocol 2 to 4 as Python writes it for such arrays.
        name: of the file, for errors.

    Returns:
        dict of str to array (float16, float32 or float64, read-only) or to another such dict.

    Raises:
        ValueError: damaged, too large, or holding anything else; a symbol that is not allowed is named.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"pickle: {name} must be at most {MAX_BYTES} bytes ({len(data)})")
    try:
        return _tree(_run(data))
    except _Fault as fault:
        raise ValueError(f"pickle: {name} refused, {fault}; nothing of it was run") from None
    except Exception as error:  # a damaged pickle fails in as many ways as it has instructions
        raise ValueError(f"pickle: {name} is damaged or holds no arrays ({type(error).__name__}); nothing of it was run") from None


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}  # a dict: a list would grow to any index that the file names

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for step, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        if step >= _MAX_STEPS:
            raise _Fault(f"it has over {_MAX_STEPS} instructions")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                marks.append(len(stack))
            case "BININT" | "BININT1" | "BININT2" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = since_mark()
                _set_items(stack[-1], items)
            case "GLOBAL":
                stack.append(_symbol(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_symbol(f"{_text(module)}.{_text(attribute)}"))
            case "REDUCE":
                arguments, symbol = stack.pop(), stack.pop()
                stack.append(_reduce(symbol, arguments))
            case "BUILD":
                state = stack.pop()
                _build(stack[-1], state)
            case "STOP":
                return stack.pop()
            case other:
                raise _Fault(f"instruction {other} at byte {position} is not one of those that hold arrays")
    raise _Fault("it has no end")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Fault("a name in it is no string")
    return value


def _symbol(path: str) -> _Symbol:
    if path not in _SYMBOLS:
        raise _Fault(f"it asks for {path[:100]!r}, which is not allowed")
    return _Symbol(_SYMBOLS[path])


def _set_items(target: Any, items: list[Any]) -> None:
    if type(target) is not dict or len(items) % 2:
        raise _Fault("it fills something that is no dict")
    # Keys are strings, since the hash of nested tuples can take for ever.
    target.update({_text(key): value for key, value in zip(items[::2], items[1::2], strict=True)})


def _reduce(symbol: Any, arguments: Any) -> _Array | _DType:
    if symbol == _Symbol("reconstruct") and arguments[0] == _Symbol("ndarray"):
        return _Array()
    if symbol == _Symbol("dtype") and arguments[0] in ("f2", "f4", "f8"):
        return _DType(arguments[0])
    raise _Fault("it builds something else than an array of floats")


def _build(target: Any, state: Any) -> None:
    if isinstance(target, _DType):
        if state[1] not in ("<", ">"):
            raise _Fault("a dtype in it has no byte order")
        target.order = state[1]
        return
    if not isinstance(target, _Array):
        raise _Fault("it gives a state to something that is no array")
    _, shape, dtype, fortran, content = state
    if not isinstance(dtype, _DType) or type(content) is not bytes or type(fortran) is not bool:
        raise _Fault("the state of an array in it is wrong")
    if type(shape) is not tuple or len(shape) > _MAX_DIMS or not all(type(n) is int and n >= 0 for n in shape):
        raise _Fault("the shape of an array in it is wrong")
    kind = np.dtype(dtype.order + dtype.kind)
    if math.prod(shape) * kind.itemsize != len(content):
        raise _Fault(f"an array in it has shape {list(shape)} and dtype {kind}, but {len(content)} bytes")
    target.value = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


def _tree(root: Any) -> dict[str, Any]:
    """Put arrays in the place of their stand-ins."""
    seen: set[int] = set()

    def plain(value: Any) -> Any:
        if isinstance(value, _Array) and value.value is not None:
            return value.value
        # A dict that is in several places would be walked once for each, which nesting multiplies.
        if type(value) is not dict or id(value) in seen:
            raise _Fault("it must be dicts of arrays, each dict in one place")
        seen.add(id(value))
        return {key: plain(inner) for key, inner in value.items()}

    if type(root) is not dict:
        raise _Fault("it must be a dict")
    return plain(root)
