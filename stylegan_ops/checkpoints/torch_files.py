"""The files of `torch.save`, zip and older form, read without `torch.load`: the pickle by `SafePickle`, the numbers from the file."""

from __future__ import annotations

import struct
import zipfile
from typing import Any, BinaryIO

import torch

from stylegan_ops._pickle_machine import Fault, Symbol, is_size

from .safe_pickle import DTYPES, SafePickle
from .stored import Storage

_MAGIC = 0x1950A86A20F9469CFC6C  # with which the older form begins
_MAX_PICKLE = 2**28  # bytes of the instructions alone; those of a training at 1024 px are under 1 MB


def read_zip(file: BinaryIO) -> Any:
    """What `torch.save` wrote in its zip form; the tensors are read from `file` when they are asked for.

    Raises:
        Fault: no such file, members that are compressed or lie over each other, or data that does not fit.
    """
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise Fault(f"its zip archive is damaged ({error})") from None
    members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Fault("its zip archive is not one of torch.save")
    folder = pickles[0].removesuffix("data.pkl")
    size = file.seek(0, 2)
    # torch.save compresses nothing, so no member can be larger than the file, nor all of them together.
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in members.values()):
        raise Fault("a member of its zip archive is compressed")
    if sum(info.file_size for info in members.values()) > size:
        raise Fault("members of its zip archive lie over each other")
    if f"{folder}constants.pkl" in members:
        raise Fault("it is a TorchScript program, which holds code")
    if members[pickles[0]].file_size > _MAX_PICKLE:
        raise Fault(f"its data.pkl has over {_MAX_PICKLE} bytes")

    def content(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, EOFError, KeyError, OSError, NotImplementedError, RuntimeError) as error:
            raise Fault(f"{name} in it is damaged or missing ({error})") from None

    if f"{folder}byteorder" in members and content(f"{folder}byteorder") != b"little":
        raise Fault("its numbers are big-endian")

    known: dict[str, Storage] = {}

    def storage(key: Any) -> Storage:
        dtype, name, numel = _described(key)
        name = f"{folder}data/{name}"
        if name not in members or members[name].file_size != numel * dtype.itemsize:
            raise Fault(f"{name} in it must have {numel * dtype.itemsize} bytes")
        return _one(known, name, Storage(dtype, numel, lambda: _numbers(content(name), dtype)))

    return SafePickle(content(pickles[0]), persistent=storage).run()


def is_legacy(data: bytes) -> bool:
    """Whether a pickle is the first of those that `torch.save` wrote before the zip form."""
    return data[2:14] == b"\x8a\x0a" + _MAGIC.to_bytes(10, "little")


def read_legacy(data: bytes, nested: bool = False) -> Any:
    """What `torch.save` wrote in its older form: five pickles, then every storage's number of elements and their bytes.

    Args:
        data: the file.
        nested: it was inside a pickle, and may hold none itself.

    Raises:
        Fault: data that does not fit.
    """
    if not is_legacy(data):
        raise Fault("it is no file of torch.save")
    position = 0
    for _ in range(3):  # the magic number, the version and the machine
        machine = SafePickle(data, position, nested=True)
        found, position = machine.run(), machine.end
    if not (isinstance(found, dict) and found.get("little_endian") is True):
        raise Fault("its numbers are big-endian")
    claimed: dict[str, tuple[torch.dtype, int]] = {}
    where: dict[str, int] = {}
    known: dict[str, Storage] = {}

    def storage(key: Any) -> Storage:
        dtype, name, numel = _described(key)
        if claimed.setdefault(name, (dtype, numel)) != (dtype, numel) or numel * dtype.itemsize > len(data):
            raise Fault(f"storage {name} in it cannot have {numel} elements of {dtype}")
        size = numel * dtype.itemsize
        return _one(known, name, Storage(dtype, numel, lambda: _numbers(data[where[name] : where[name] + size], dtype)))

    machine = SafePickle(data, position, persistent=storage, nested=nested)
    tree = machine.run()
    machine = SafePickle(data, machine.end, nested=True)
    names, position = machine.run(), machine.end
    if type(names) is not list or len(names) != len(claimed) or set(names) != set(claimed):
        raise Fault("its storages are not those of its tensors")
    for name in names:
        dtype, numel = claimed[name]
        where[name] = position + 8
        if data[position : position + 8] != struct.pack("<q", numel) or len(data) < position + 8 + numel * dtype.itemsize:
            raise Fault(f"storage {name} in it must have {numel} elements")
        position += 8 + numel * dtype.itemsize
    return tree


def _one(known: dict[str, Storage], name: str, storage: Storage) -> Storage:
    """The storage of this name that there is already, which all its tensors then share."""
    if known.setdefault(name, storage).dtype != storage.dtype:
        raise Fault(f"storage {name} in it has two dtypes")
    return known[name]


def _described(key: Any) -> tuple[torch.dtype, str, int]:
    """dtype, name and number of elements of ("storage", class, name, device, number, ...)."""
    if type(key) is not tuple or len(key) < 5 or key[0] != "storage":
        raise Fault("a storage in it is not described as torch.save does")
    _, kind, name, _, numel = key[:5]
    kind = kind.path.rpartition(".")[2] if isinstance(kind, Symbol) else None
    if kind not in DTYPES or type(name) is not str or not is_size(numel) or key[5:] not in ((), (None,)):
        raise Fault("a storage in it is not described as torch.save does")
    return DTYPES[kind], name, numel


def _numbers(content: bytes, dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
