"""Any checkpoint's file as a tree of dicts, recognised by its first bytes and never by its name."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, BinaryIO

import torch

from stylegan_ops._pickle_machine import Fault, is_size

from .native import from_safetensors
from .safe_pickle import SafePickle
from .stored import Stored
from .torch_files import is_legacy, read_legacy, read_zip

_MAX_HEADER = 2**24  # bytes of a safetensors header; that of three networks at 1024 px has 60 kB
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "U8": torch.uint8}


def read_tree(file: BinaryIO) -> Any:
    """What a file holds: dicts, lists, numbers, `Stored` tensors, `Record` objects. The file has to stay open for its tensors.

    Raises:
        Fault: it is of no known kind, or does something that is not allowed. Other exceptions: it is damaged.
    """
    start = file.read(16)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        return read_zip(file)
    if start[:1] == b"\x80" and 2 <= start[1] <= 5:
        data = file.read()
        return read_legacy(data) if is_legacy(data) else SafePickle(data).run()
    if start[8:9] == b"{":
        return _safetensors(file)
    raise Fault("it is neither a file of torch.save, nor a pickle, nor safetensors")


def _safetensors(file: BinaryIO) -> Any:
    """Eight bytes of length, a header in JSON, and the tensors' bytes: simple enough to need no package for reading."""
    size = file.seek(0, 2)
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(size, _MAX_HEADER):
        raise Fault(f"its header cannot have {length} bytes")
    try:
        header = json.loads(file.read(length))
    except (RecursionError, ValueError) as error:
        raise Fault(f"its header is damaged ({type(error).__name__})") from None
    metadata = header.pop("__metadata__", {})
    tensors = {name: _stored(file, name, about, 8 + length, size) for name, about in header.items()}
    if sum(x.numel() * x.dtype.itemsize for x in tensors.values()) > size:
        raise Fault("its tensors lie over each other")
    return from_safetensors(tensors, metadata)


def _stored(file: BinaryIO, name: str, about: dict[str, Any], base: int, size: int) -> Stored:
    dtype, shape, (first, behind) = _DTYPES.get(about["dtype"]), tuple(about["shape"]), about["data_offsets"]
    if dtype is None or not all(map(is_size, (*shape, first, behind))):
        raise Fault(f"{name} in it is no tensor of numbers")
    if behind - first != math.prod(shape) * dtype.itemsize or base + behind > size:
        raise Fault(f"{name} in it has shape {list(shape)}, but {behind - first} bytes")

    def read() -> torch.Tensor:
        file.seek(base + first)
        content = bytearray(file.read(behind - first))
        return torch.frombuffer(content, dtype=dtype).reshape(shape) if content else torch.empty(shape, dtype=dtype)

    return Stored(shape, dtype, read)
