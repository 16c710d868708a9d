"""Read nested dicts of NumPy arrays from a pickle by following its few data instructions here: nothing it names is imported or called."""

from __future__ import annotations

from typing import Any

from stylegan_ops._pickle_machine import Fault, Machine, PickledArray, PickledDType, Symbol

MAX_BYTES = 2**27  # of a file; the one known holds 59 MB
_RECONSTRUCT = Symbol("numpy.core.multiarray._reconstruct")
_NDARRAY = Symbol("numpy.ndarray")
_DTYPE = Symbol("numpy.dtype")


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
        return _tree(_ArrayPickle(data).run())
    except Fault as fault:
        raise ValueError(f"pickle: {name} refused, {fault}; nothing of it was run") from None
    except Exception as error:  # a damaged pickle fails in as many ways as it has instructions
        raise ValueError(f"pickle: {name} is damaged or holds no arrays ({type(error).__name__}); nothing of it was run") from None


class _ArrayPickle(Machine):
    """A pickle of dicts, tuples, strings, bytes, numbers and arrays."""

    symbols = {
        "numpy.core.multiarray._reconstruct": _RECONSTRUCT,
        "numpy._core.multiarray._reconstruct": _RECONSTRUCT,  # its name since NumPy 2
        "numpy.ndarray": _NDARRAY,
        "numpy.dtype": _DTYPE,
    }
    opcodes = frozenset(
        [
            *("PROTO", "FRAME", "MARK", "STOP", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "NONE", "NEWTRUE", "NEWFALSE"),
            *("BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
            *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
            *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
        ]
    )
    keys = (str,)
    max_steps = 100_000  # the one known has 1,000

    def reduce(self, function: Any, arguments: Any) -> PickledArray | PickledDType:
        if function == _RECONSTRUCT and arguments[0] == _NDARRAY:
            return PickledArray()
        if function == _DTYPE and arguments[0] in ("f2", "f4", "f8"):
            return PickledDType(arguments[0])
        raise Fault("it builds something else than an array of floats")

    def build(self, target: Any, state: Any) -> None:
        if not isinstance(target, (PickledArray, PickledDType)):
            raise Fault("it gives a state to something that is no array")
        target.build(state)


def _tree(root: Any) -> dict[str, Any]:
    """Put arrays in the place of their stand-ins."""
    seen: set[int] = set()

    def plain(value: Any) -> Any:
        if isinstance(value, PickledArray) and value.value is not None:
            return value.value
        # A dict that is in several places would be walked once for each, which nesting multiplies.
        if type(value) is not dict or id(value) in seen:
            raise Fault("it must be dicts of arrays, each dict in one place")
        seen.add(id(value))
        return {key: plain(inner) for key, inner in value.items()}

    if type(root) is not dict:
        raise Fault("it must be a dict")
    return plain(root)
