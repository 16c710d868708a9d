"""Write a set of files so that it appears at its place whole or not at all."""

import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stylegan_ops.data.store import METADATA

Add = Callable[[str, bytes], None]  # (name with `/`, content)


@contextmanager
def atomic_set(dest: Path, force: bool) -> Iterator[Add]:
    """Yield `add(name, content)`; at a clean exit the files stand at `dest`, after an exception nothing does.

    A name that ends in `.zip` becomes a zip of stored members without timestamps (equal files make equal bytes), any other a folder. The
    files are written beside `dest` under a temporary name, flushed to the disk and renamed.

    Raises:
        FileExistsError: `dest` exists and `force` is False.
        NotADirectoryError: what should hold `dest` is a file.
        ValueError: `dest` exists and is nothing that this function could have written.
    """
    _check(dest, force)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"prepare: dest must be in a folder, which {str(dest.parent)!r} is not") from None
    part = dest.with_name(f".{dest.name}.{secrets.token_hex(4)}.part")
    try:
        with (_zip if _is_zip(dest) else _folder)(part) as add:
            yield add
        _check(dest, force)
        _rename(part, dest)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _is_zip(dest: Path) -> bool:
    return dest.suffix.lower() == ".zip"


def _check(dest: Path, force: bool) -> None:
    if not os.path.lexists(dest):
        return
    if not force:
        raise FileExistsError(f"prepare: dest exists ({str(dest)!r}); give another name, or --force (force=True) to replace it")
    if _is_zip(dest) and not dest.is_file():
        raise ValueError(f"prepare: dest is no file, it is not replaced ({str(dest)!r})")
    if not _is_zip(dest) and (dest.is_symlink() or not (dest / METADATA).is_file()):
        raise ValueError(f"prepare: dest is no prepared data set, it is not replaced ({str(dest)!r})")


@contextmanager
def _zip(part: Path) -> Iterator[Add]:
    with open(part, "xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

            def add(name: str, content: bytes) -> None:
                info = zipfile.ZipInfo(name)  # its date is fixed, 1980-01-01
                info.external_attr = 0o644 << 16
                archive.writestr(info, content)

            yield add
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _folder(part: Path) -> Iterator[Add]:
    part.mkdir()

    def add(name: str, content: bytes) -> None:
        file = part / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    yield add
    os.sync()  # one for all files; an fsync of each would take longer than the images did


def _rename(part: Path, dest: Path) -> None:
    if dest.is_dir():  # a folder cannot be renamed over another: step it aside, and back if that fails
        aside = part.with_suffix(".old")
        dest.rename(aside)
        try:
            part.rename(dest)
        except BaseException:
            aside.rename(dest)
            raise
        shutil.rmtree(aside)
    else:
        os.replace(part, dest)
    folder = os.open(dest.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the new name itself durable
    finally:
        os.close(folder)
