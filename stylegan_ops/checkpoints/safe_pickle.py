"""The restricted unpickler: a closed list of symbols, inert stand-ins for all of them, and an error that names any other.

What checkpoints hold beside numbers and tensors becomes a `Record`: the persistent classes and the networks of other code bases, whose own
unpickling would run code from the file, and settings. Nothing is imported, and nothing of the file is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from stylegan_ops._pickle_machine import Fault, Machine, PickledArray, PickledDType, Symbol

from .stored import Storage, Stored

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}


@dataclass
class Record:
    """An object of a class that is known by name alone: what its constructor was given, and its state."""

    path: str
    arguments: tuple
    state: Any = None

    def build(self, state: Any) -> None:
        """Keep the state."""
        self.state = state


class Mapping(dict):
    """An OrderedDict, EasyDict or defaultdict; attributes beside its items, such as `_metadata`, are dropped."""

    def build(self, state: Any) -> None:
        """Drop the state."""


@dataclass(frozen=True)
class _Call(Symbol):
    """A symbol and what a call of it makes: the name of a method of `SafePickle`."""

    method: str


def _calls() -> dict[str, Symbol]:
    symbols = {
        **dict.fromkeys(["collections.OrderedDict", "collections.defaultdict", "dnnlib.util.EasyDict", "dnnlib.EasyDict"], "_mapping"),
        **dict.fromkeys(["builtins.set", "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset"], "_set"),
        **dict.fromkeys(["argparse.Namespace", "torch_utils.persistence._reconstruct_persistent_obj"], "_record"),
        **dict.fromkeys([f"torch.nn.modules.container.{name}" for name in ("Sequential", "ModuleList", "ModuleDict")], "_record"),
        **dict.fromkeys(["dnnlib.tflib.network.Network", "torch.device"], "_record"),
        **dict.fromkeys([f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")], "_array"),
        **dict.fromkeys([f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")], "_scalar"),
        "numpy.dtype": "_dtype",
        "_codecs.encode": "_encode",
        "torch.Size": "_size",
        "torch._utils._rebuild_tensor_v2": "_tensor",
        "torch._utils._rebuild_parameter": "_parameter",
        "torch.storage._load_from_bytes": "_storage",
    }
    made: dict[str, Symbol] = {path: _Call(path, method) for path, method in symbols.items()}
    names = ["numpy.ndarray", "builtins.dict", "builtins.list", "__builtin__.dict", "__builtin__.list", "torch.storage.UntypedStorage"]
    names += [f"torch.{name}" for name in DTYPES]
    names += [f"torch.{str(dtype).removeprefix('torch.')}" for dtype in DTYPES.values()]
    return made | {path: Symbol(path) for path in names}


class SafePickle(Machine):
    """One pickle of a checkpoint. Tensors become `Stored`, arrays `Stored` by way of `plain`.

    Args:
        data: the pickle.
        start: byte at which it begins.
        persistent: makes a `Storage` of a persistent id.
        nested: this pickle was inside another one, and may hold none itself.
    """

    symbols = _calls()

    def __init__(self, data: bytes, start: int = 0, persistent: Any = None, nested: bool = False) -> None:
        super().__init__(data, start)
        self.persistent_id, self.nested = persistent, nested

    def persistent(self, key: Any) -> Any:
        return super().persistent(key) if self.persistent_id is None else self.persistent_id(key)

    def reduce(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Call) or type(arguments) is not tuple:
            called = f"{function.path!r}, which is not allowed" if isinstance(function, Symbol) else "what is no function"
            raise Fault(f"it calls {called}")
        return getattr(self, function.method)(function.path, arguments)

    def build(self, target: Any, state: Any) -> None:
        if not isinstance(target, (Record, Mapping, PickledArray, PickledDType)):
            raise Fault("it gives a state to something that has none")
        target.build(state)

    def _record(self, path: str, arguments: tuple) -> Record:
        return Record(path, arguments)

    def _mapping(self, path: str, arguments: tuple) -> Mapping:
        items = arguments[0] if arguments else ()
        if isinstance(items, Symbol):  # defaultdict's factory
            items = ()
        self.spend(64 * len(items))
        found = Mapping()
        self._set_items(found, [part for item in (items.items() if isinstance(items, dict) else items) for part in _pair(item)])
        return found

    def _set(self, path: str, arguments: tuple) -> set:
        items = arguments[0] if arguments else ()
        self.spend(64 * len(items))
        return set(map(self._key, items))

    def _array(self, path: str, arguments: tuple) -> PickledArray:
        if arguments[0] != Symbol("numpy.ndarray"):
            raise Fault("it builds an array of a class that is not NumPy's")
        return PickledArray()

    def _dtype(self, path: str, arguments: tuple) -> PickledDType:
        if type(arguments[0]) is not str or arguments[0] not in _KINDS:  # the hash of nested tuples can take for ever
            raise Fault("it holds an array of something else than numbers")
        return PickledDType(arguments[0])

    def _scalar(self, path: str, arguments: tuple) -> Any:
        array = PickledArray()
        array.build((1, (), arguments[0], False, arguments[1]))
        return array.value.item()

    def _encode(self, path: str, arguments: tuple) -> bytes:
        text, encoding = arguments
        if encoding not in ("latin1", "latin-1") or type(text) is not str:
            raise Fault("it encodes a text in another way than bytes are kept")
        self.spend(len(text))
        return text.encode("latin1")

    def _size(self, path: str, arguments: tuple) -> tuple:
        self.spend(8 * len(arguments[0]))
        return tuple(arguments[0])

    def _tensor(self, path: str, arguments: tuple) -> Stored:
        storage, offset, size, stride = arguments[:4]
        if not isinstance(storage, Storage):
            raise Fault("a tensor in it has no storage")
        return storage.tensor(offset, size, stride)

    def _parameter(self, path: str, arguments: tuple) -> Stored:
        if not isinstance(arguments[0], Stored):
            raise Fault("a parameter in it is no tensor")
        return arguments[0]

    def _storage(self, path: str, arguments: tuple) -> Storage:
        from .torch_files import read_legacy

        if self.nested:
            raise Fault("it holds files inside of files")
        content = arguments[0]
        self.spend(len(content))
        found = read_legacy(content, nested=True)
        if not isinstance(found, Storage):
            raise Fault("a storage in it is none")
        return found


def _pair(item: Any) -> tuple[Any, Any]:
    key, value = item
    return key, value


def plain(value: Any) -> Any:
    """An array as a `Stored`, everything else as it is."""
    return Stored.of_array(value.value) if isinstance(value, PickledArray) and value.value is not None else value
