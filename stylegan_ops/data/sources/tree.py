"""Image files in a tree of folders: on the disk or in a zip."""

import os
import posixpath
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from stylegan_ops.data.archive import open_zip, read_member
from stylegan_ops.data.labels import read_labels, read_metadata
from stylegan_ops.data.pixels import open_image, readable_formats
from stylegan_ops.data.pyramid import FOLDER, read_pyramid
from stylegan_ops.data.sources.source import Source
from stylegan_ops.data.store import METADATA

MAX_FILE_SIZE = 2**28  # bytes of one image file, unpacked


class _TreeSource(Source):
    """Names and labels of a tree; a subclass lists and reads its files."""

    def _scan(self, where: str, found: Iterable[str]) -> None:
        """`found`: paths of all files, relative and with `/`."""
        self._formats, extensions = readable_formats()
        files = {name for name in found if not _is_hidden(name)}
        self.name = os.path.basename(where)
        self.names = sorted(name for name in files if posixpath.splitext(name)[1].lower() in extensions)
        if not self.names:
            raise ValueError(f"prepare: source must hold images ({where!r} has none among its {len(files)} files)")
        root = _top(self.names)
        metadata_file = next((base + METADATA for base in _levels(root) if base + METADATA in files), None)
        self.ignored = len(files) - len(self.names) - (metadata_file is not None)
        if metadata_file is None:
            self.labels, self.label_names = _labels_of_folders(self.names, root)
        else:
            about = f"{metadata_file} of {where!r}"
            metadata = read_metadata(self._read(metadata_file), about)
            base = metadata_file.removesuffix(METADATA)
            if read_pyramid(metadata, about):  # a prepared set: its smaller levels are the same images again
                self.names = [name for name in self.names if not name.startswith(f"{base}{FOLDER}/")]
            self.labels, self.label_names = read_labels(metadata, [name.removeprefix(base) for name in self.names], about)

    def open(self, index: int) -> Image.Image:
        return open_image(self._read(self.names[index]), self._formats)

    @abstractmethod
    def _read(self, name: str) -> bytes: ...


class FolderSource(_TreeSource):
    """A folder and all below it; links to files are followed, links to folders are not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = [os.path.join(folder, name) for folder, _, names in os.walk(path, onerror=_raise) for name in names]
        # A pipe or a device would never end.
        self._scan(str(path.resolve()), [os.path.relpath(file, path).replace(os.sep, "/") for file in found if os.path.isfile(file)])

    def _read(self, name: str) -> bytes:
        file = self._path / name
        _check_size(file.stat().st_size)
        return file.read_bytes()


class ZipSource(_TreeSource):
    """A zip; no member is ever written to the disk, so that its path is a name and nothing else."""

    def __init__(self, path: Path) -> None:
        self._archive, members = open_zip(path)
        self._open_files = (self._archive,)
        try:
            self._members = {info.filename: info for info in members}
            self._scan(str(path), self._members)
        except BaseException:
            self.close()
            raise

    def _read(self, name: str) -> bytes:
        _check_size(self._members[name].file_size)
        return read_member(self._archive, self._members[name])


def _check_size(size: int) -> None:
    if size > MAX_FILE_SIZE:
        raise ValueError(f"{size} bytes are over the limit of {MAX_FILE_SIZE}")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") or part == "__MACOSX" for part in name.split("/"))


def _top(names: list[str]) -> str:
    """The folder that holds all `names`, as a prefix: "" or "a/b/"."""
    folders = [posixpath.dirname(name) for name in names]
    common = posixpath.commonpath(folders) if all(folders) else ""
    return common + "/" if common else ""


def _levels(prefix: str) -> list[str]:
    """ "a/b/" has the levels "", "a/", "a/b/"."""
    parts = prefix.split("/")[:-1]
    return ["".join(part + "/" for part in parts[:depth]) for depth in range(len(parts) + 1)]


def _labels_of_folders(names: list[str], root: str) -> tuple[list[int] | None, list[str] | None]:
    """A class for each folder directly below `root`; none if an image lies outside of them."""
    paths = [name[len(root) :].split("/") for name in names]
    if any(len(path) == 1 for path in paths):
        return None, None
    classes = sorted({path[0] for path in paths})
    number = {name: i for i, name in enumerate(classes)}
    return [number[path[0]] for path in paths], classes


def _raise(error: OSError) -> None:
    raise error
