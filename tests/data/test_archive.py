"""Zips from anywhere: every trick is refused with the member's name."""

import stat
import zipfile
from pathlib import Path

import pytest
from images import write_zip

from stylegan_ops.data.archive import open_zip


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("/etc/passwd.png", "absolute path"),
        ("C:/a.png", "absolute path"),
        ("../a.png", "leaves the archive"),
        ("a/../../b.png", "leaves the archive"),
        ("a\\b.png", "backslash"),
    ],
)
def test_rejects_paths(tmp_path: Path, name: str, fault: str) -> None:
    path = write_zip(tmp_path / "a.zip", {"good.png": b"x", name: b"x"})
    with pytest.raises(ValueError, match=f"a.zip.*refused, member .*{fault}"):
        open_zip(path)


def test_rejects_nul_in_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"good?.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"good?", b"good\0"))
    with pytest.raises(ValueError, match="NUL"):
        open_zip(path)


def test_rejects_links(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=r"'link.png' is a link"):
        open_zip(tmp_path / "a.zip")


@pytest.mark.parametrize("second", ["a.png", "./a.png", "b//../a.png"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_rejects_duplicates(tmp_path: Path, second: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"1")
        archive.writestr(second, b"2")
    with pytest.raises(ValueError, match="appears twice|leaves the archive"):
        open_zip(tmp_path / "a.zip")


def test_rejects_compression_bomb(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"zeros.bmp": bytes(2**22)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="'zeros.bmp' unpacks to over 200 times its size"):
        open_zip(path)


def test_rejects_encrypted(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is encrypted"):
        open_zip(path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "directory"])
def test_rejects_damaged(tmp_path: Path, damage: str) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{i}.png": bytes(100) for i in range(5)})
    data = path.read_bytes()
    at = data.index(b"PK\1\2")
    path.write_bytes(
        {"empty": b"", "text": b"hello", "cut": data[: len(data) // 2], "directory": data[:at] + bytes(20) + data[at + 20 :]}[damage]
    )
    with pytest.raises(ValueError, match="is damaged or no zip file"):
        open_zip(path)


def test_leaves_folders_out(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"ünï/": b"", "ünï/写真.png": b"x"})
    archive, members = open_zip(path)
    archive.close()
    assert [info.filename for info in members] == ["ünï/写真.png"]
