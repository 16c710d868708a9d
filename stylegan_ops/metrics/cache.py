"""Arrays that are costly to make, kept in a folder under a hash of everything that made them."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..training.files import atomic_write


def default_cache() -> Path:
    """The folder `stylegan_ops` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylegan_ops"


def cached(key: dict[str, Any], compute: Callable[[], np.ndarray], folder: str | os.PathLike[str]) -> np.ndarray:
    """Give `compute()`, or what it gave for the same key before.

    1. The file is named after the sha256 of `key` as JSON.
    2. One that is there is used if it holds this key and its array has the sha256 that was stored with it; nothing in it is executed.
    3. Otherwise compute, and write it atomically (npz without pickles).

    Args:
        key: JSON values: everything that the result depends on.
        compute: makes the array, of numbers.
        folder: where the files are; it is made when needed.

    Returns:
        The array.

    Raises:
        OSError: the folder cannot be written.
    """
    text = json.dumps(key, sort_keys=True)
    path = Path(folder) / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"
    array = _read(path, text)
    if array is None:
        array = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.savez(file, key=np.array(text), array=array, sha256=np.array(_digest(array)))
    return array


def _read(path: Path, text: str) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            array = stored["array"]
            if str(stored["key"]) == text and str(stored["sha256"]) == _digest(array):
                return array
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        pass  # missing or damaged: it is made anew
    return None


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
