"""Open a zip that may come from anywhere: refuse what no honest archive of images holds, before any member is read."""

import lzma
import posixpath
import re
import stat
import zipfile
import zlib
from pathlib import Path

MAX_RATIO = 200  # bytes out per byte in; photos are near 1, a flat bitmap may reach 100, a zip bomb has 1,000
SMALL_MEMBER = 2**20  # bytes; below it no ratio does harm

_DRIVE = re.compile(r"^[A-Za-z]:")


def open_zip(path: Path) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """Open `path` and return it with its file members (directories left out).

    Raises:
        ValueError: not a zip, damaged directory, absolute path, `..`, backslash, drive letter, link, duplicate name, encryption, or a
            compression ratio over `MAX_RATIO`; the message names the member.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise ValueError(f"zip: {str(path)!r} is damaged or no zip file ({error})") from None
    members = [info for info in archive.infolist() if not info.is_dir()]
    seen: set[str] = set()
    for info in members:
        fault = _fault(info)
        plain = posixpath.normpath(info.filename)
        if fault is None and plain in seen:
            fault = "appears twice"
        if fault is not None:
            archive.close()
            raise ValueError(f"zip: {str(path)!r} refused, member {info.orig_filename!r} {fault}")
        seen.add(plain)
    return archive, members


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack one member.

    Raises:
        ValueError: the member is damaged; the message names it.
    """
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"zip: member {info.filename!r} of {archive.filename!r} is damaged ({error or type(error).__name__})") from None


def _fault(info: zipfile.ZipInfo) -> str | None:
    name = info.orig_filename  # as stored: `filename` is cut at a NUL and has the platform's separators replaced
    if name.startswith("/") or _DRIVE.match(name):
        return "has an absolute path"
    if "\\" in name or "\0" in name:
        return "has a backslash or NUL in its path"
    if ".." in name.split("/"):
        return "leaves the archive with '..'"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):  # 0: written by a system without Unix modes
        return "is a link or a special file"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.file_size > SMALL_MEMBER and info.file_size > MAX_RATIO * info.compress_size:
        return f"unpacks to over {MAX_RATIO} times its size ({info.compress_size} to {info.file_size} bytes)"
    return None
