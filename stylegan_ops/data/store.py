"""Read the PNG files of a prepared data set by index, from any process and thread: a zip or a folder."""

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stylegan_ops.data.archive import open_zip, read_member

METADATA = "dataset.json"


class FolderStore:
    """A folder tree; `names` are the sorted paths of its PNG files, relative and with `/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = (Path(folder, name) for folder, _, files in os.walk(path) for name in files)
        self.names = sorted(file.relative_to(path).as_posix() for file in found if file.suffix == ".png")

    def metadata(self) -> bytes | None:
        file = self.path / METADATA
        return file.read_bytes() if file.is_file() else None

    def head(self, index: int, size: int) -> bytes:
        with open(self.path / self.names[index], "rb") as file:
            return file.read(size)

    def read(self, index: int) -> bytes:
        return (self.path / self.names[index]).read_bytes()

    def checksum(self, index: int) -> tuple[int, int]:
        data = self.read(index)
        return len(data), zlib.crc32(data)


class ZipStore:
    """A zip of stored members: each is one range of the file, read with `pread`, which has no position that forked workers could share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        archive, members = open_zip(path)
        with archive:
            found = [info for info in members if info.filename == METADATA]
            self._metadata = read_member(archive, found[0]) if found else None
        members = sorted((info for info in members if info.filename.endswith(".png")), key=lambda info: info.filename)
        packed = next((info.filename for info in members if info.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            raise ValueError(f"ImageDataset: members of {str(path)!r} must be stored, not compressed ({packed!r}); prepare it again")
        self.names = [info.filename for info in members]
        self._length = path.stat().st_size
        for info in members:
            if not 0 <= info.header_offset <= self._length - info.file_size:
                raise ValueError(self._damaged(info.filename))
        self._size = np.array([info.file_size for info in members], dtype=np.int64)
        self._crc = np.array([info.CRC for info in members], dtype=np.int64)
        self._header = np.array([info.header_offset for info in members], dtype=np.int64)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None}  # an open file does not travel to a spawned worker; it opens its own

    def metadata(self) -> bytes | None:
        return self._metadata

    def head(self, index: int, size: int) -> bytes:
        return self._pread(min(size, int(self._size[index])), self._start(index))

    def read(self, index: int) -> bytes:
        data = self._pread(int(self._size[index]), self._start(index))
        if zlib.crc32(data) != self._crc[index]:
            raise ValueError("its checksum is wrong")
        return data

    def checksum(self, index: int) -> tuple[int, int]:
        return int(self._size[index]), int(self._crc[index])

    def _pread(self, size: int, start: int) -> bytes:
        if self._file is None:
            self._file = open(self.path, "rb")  # noqa: SIM115  kept for the life of the store
        return os.pread(self._file.fileno(), size, start)

    def _start(self, index: int) -> int:
        # The local header's variable part differs from the directory's, so its two lengths must be read.
        offset = int(self._header[index])
        header = self._pread(30, offset)
        if len(header) == 30 and header[:4] == b"PK\3\4":
            start = offset + 30 + sum(struct.unpack("<HH", header[26:30]))
            if start + int(self._size[index]) <= self._length:
                return start
        raise ValueError(self._damaged(self.names[index]))

    def _damaged(self, name: str) -> str:
        return f"ImageDataset: {str(self.path)!r} is damaged at member {name!r}"
