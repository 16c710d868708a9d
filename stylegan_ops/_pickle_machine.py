"""Follow the instructions of a pickle here: what it builds is inert, and nothing that it names is imported or called."""

from __future__ import annotations

import io
import math
import pickletools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_MAX_DIMS = 8
_NUMBERS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class Fault(Exception):
    """What is wrong with a file, without its name."""


def is_size(value: Any) -> bool:
    """Whether a file's value can be a length or an offset; an integer without end would take for ever to multiply and to print."""
    return type(value) is int and 0 <= value < 2**63


@dataclass(frozen=True)
class Symbol:
    """What stands for a function or class that a pickle names."""

    path: str


class Machine(ABC):
    """Runs one pickle. A subclass says which symbols there are, and what a call of one and a state given to an object make.

    Memory is bounded by the file: nothing is allocated for a length or an index that the file merely claims, and what calls make out of
    the file's bytes is counted by `spend`.

    Args:
        data: the pickle.
        start: byte at which it begins.

    Attributes:
        end: byte behind its last instruction, after `run`.
    """

    symbols: Mapping[str, Any]  # path -> what stands for it, itself where None
    opcodes: frozenset[str] | None = None  # None: all that are known below
    keys: tuple[type, ...] = (str, int, float, bool, bytes, type(None))  # scalars, since the hash of nested tuples can take for ever
    max_steps = 1_000_000

    def __init__(self, data: bytes, start: int = 0) -> None:
        self.file = io.BytesIO(data)  # shares the bytes
        self.file.seek(start)
        self.end = start
        self.budget = 2 * len(data) + 2**16

    @abstractmethod
    def reduce(self, function: Any, arguments: Any) -> Any:
        """What calling `function`, or making an object of it, gives."""

    @abstractmethod
    def build(self, target: Any, state: Any) -> None:
        """Give an object its state."""

    def persistent(self, key: Any) -> Any:
        """What a persistent id stands for."""
        raise Fault("it refers to something outside itself")

    def spend(self, count: int) -> None:
        """Count bytes that a call makes."""
        self.budget -= count
        if self.budget < 0:
            raise Fault("it makes far more out of its bytes than they are")

    def run(self) -> Any:
        """The value that the pickle holds.

        Raises:
            Fault: it does something that is not allowed. Other exceptions: it is damaged.
        """
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}  # a dict: a list would grow to any index that the file names

        def since_mark() -> list[Any]:
            start = marks.pop()
            items = stack[start:]
            del stack[start:]
            return items

        for step, (opcode, argument, position) in enumerate(pickletools.genops(self.file)):
            if step >= self.max_steps:
                raise Fault(f"it has over {self.max_steps} instructions")
            name = opcode.name
            if self.opcodes is not None and name not in self.opcodes:
                raise _not_allowed(name, position)
            if name in _NUMBERS or name in _TEXTS or name in _BYTES:
                stack.append(bytes(argument) if name == "BYTEARRAY8" else argument)
                continue
            if name in _EMPTY:
                stack.append(_EMPTY[name]())
                continue
            if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
                continue
            match name:
                case "PROTO" | "FRAME":
                    pass
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE":
                    stack.append(tuple(since_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    size = int(name[-1])
                    stack[-size:] = [tuple(stack[-size:])]
                case "LIST":
                    stack.append(since_mark())
                case "DICT":
                    items = since_mark()
                    stack.append({})
                    self._set_items(stack[-1], items)
                case "APPEND" | "APPENDS":
                    items = [stack.pop()] if name == "APPEND" else since_mark()
                    if type(stack[-1]) is not list:
                        raise Fault("it appends to something that is no list")
                    stack[-1].extend(items)
                case "ADDITEMS":
                    items = since_mark()
                    if type(stack[-1]) is not set:
                        raise Fault("it adds to something that is no set")
                    stack[-1].update(map(self._key, items))
                case "FROZENSET":
                    stack.append(set(map(self._key, since_mark())))
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    self._set_items(stack[-1], [key, value])
                case "SETITEMS":
                    items = since_mark()
                    self._set_items(stack[-1], items)
                case "POP":
                    stack.pop()
                case "BINPUT" | "LONG_BINPUT" | "PUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET" | "GET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(self._symbol(argument.replace(" ", ".", 1)))
                case "STACK_GLOBAL":
                    attribute, module = stack.pop(), stack.pop()
                    stack.append(self._symbol(f"{_text(module)}.{_text(attribute)}"))
                case "REDUCE" | "NEWOBJ":
                    arguments, function = stack.pop(), stack.pop()
                    stack.append(self.reduce(function, arguments))
                case "BUILD":
                    state = stack.pop()
                    self.build(stack[-1], state)
                case "BINPERSID":
                    stack.append(self.persistent(stack.pop()))
                case "STOP":
                    self.end = position + 1
                    return stack.pop()
                case other:
                    raise _not_allowed(other, position)
        raise Fault("it has no end")

    def _symbol(self, path: str) -> Any:
        if path not in self.symbols:
            raise Fault(f"it asks for {path[:100]!r}, which is not allowed")
        stand_in = self.symbols[path]
        return Symbol(path) if stand_in is None else stand_in

    def _key(self, key: Any) -> Any:
        if type(key) not in self.keys:
            raise Fault("a name in it is no string" if self.keys == (str,) else "a key in it is neither a string nor a number")
        return key

    def _set_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise Fault("it fills something that is no dict")
        target.update({self._key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})


def _not_allowed(name: str, position: int) -> Fault:
    return Fault(f"instruction {name} at byte {position} is not one of those that hold data")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Fault("a name in it is no string")
    return value


@dataclass
class PickledDType:
    """What `numpy.dtype` makes."""

    kind: str
    order: str = "="

    def build(self, state: Any) -> None:
        """Take the byte order from the state of a dtype."""
        if state[1] not in ("<", ">", "|"):
            raise Fault("a dtype in it has no byte order")
        self.order = state[1]

    def numpy(self) -> np.dtype:
        """The dtype itself."""
        return np.dtype(self.order + self.kind)


@dataclass
class PickledArray:
    """What NumPy's `_reconstruct` makes: an array once its state is there, read-only."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Make the array once its shape, its dtype and the number of its bytes agree."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, PickledDType) or type(content) is not bytes or type(fortran) is not bool:
            raise Fault("the state of an array in it is wrong")
        if type(shape) is not tuple or len(shape) > _MAX_DIMS or not all(map(is_size, shape)):
            raise Fault("the shape of an array in it is wrong")
        kind = dtype.numpy()
        if math.prod(shape) * kind.itemsize != len(content):
            raise Fault(f"an array in it has shape {list(shape)} and dtype {kind}, but {len(content)} bytes")
        self.value = np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")
