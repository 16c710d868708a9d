"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file so that a crash at any moment leaves either the old file or the new one.

    1. Write to a hidden temporary file in the same folder, of a name that no other process takes, flush and fsync it.
    2. Rename it over `path`; fsync the folder.

    Args:
        path: the file to write or replace; a symbolic link stays, and what it names is replaced. Its folder must exist.

    Yields:
        The open temporary file, binary. If the body raises, the temporary file is removed and `path` is untouched.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder must exist", str(path.parent))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
