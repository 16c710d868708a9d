"""Small images and sets of files for the tests of this folder."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def picture(index: int, size: tuple[int, int] = (20, 16), mode: str = "RGB") -> Image.Image:
    """A smooth image that differs for each index."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    planes = [127.5 + 127.5 * np.sin(x * (index + 1) + y * (channel + 2) + index) for channel in range(3)]
    return Image.fromarray(np.stack(planes, axis=2).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises `side` x `side` pixels."""
    data = bytearray(encoded(picture(0)))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_folder(path: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
