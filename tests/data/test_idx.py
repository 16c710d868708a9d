"""idx files, and the Debian package of Fashion-MNIST through stand-ins for its tools."""

import gzip
import hashlib
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest

from stylegan_ops.data import ImageDataset, prepare
from stylegan_ops.data.sources import fashion_mnist, idx
from stylegan_ops.data.sources.idx import read_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, packed: bool = True, labels: np.ndarray | None = LABELS, images: np.ndarray = IMAGES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        if array is not None:
            data = idx_bytes(array)
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_folder_of_idx_files(tmp_path: Path, packed: bool) -> None:
    report = prepare(write_idx(tmp_path / "in", packed), tmp_path / "out.zip", 32)
    assert (report.count, report.channels, report.classes) == (6, 1, [str(i) for i in range(10)])
    data = ImageDataset(tmp_path / "out.zip")
    for i in range(6):
        np.testing.assert_array_equal(data[i][0][0].numpy(), np.pad(IMAGES[i], 2))  # padded: not one pixel is resampled
        assert data[i][1].argmax() == LABELS[i]


@pytest.mark.parametrize("resolution", [16, 64])
def test_other_resolutions_are_resized(tmp_path: Path, resolution: int) -> None:
    prepare(write_idx(tmp_path / "in"), tmp_path / "out.zip", resolution)
    assert ImageDataset(tmp_path / "out.zip").resolution == resolution


def test_without_labels(tmp_path: Path) -> None:
    assert prepare(write_idx(tmp_path / "in", labels=None), tmp_path / "out.zip", 32).classes is None


def test_rejects_other_number_of_labels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must have a label for each of the 6 images \(5\)"):
        prepare(write_idx(tmp_path / "in", labels=LABELS[:5]), tmp_path / "out.zip", 32)


@pytest.mark.parametrize("shape", [(0, 28, 28), (2, 0, 28)])
def test_rejects_no_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be of 1 to"):
        prepare(write_idx(tmp_path / "in", images=np.zeros(shape, np.uint8)), tmp_path / "out.zip", 32)


GOOD = idx_bytes(IMAGES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must begin with 00 00 08 03"),
        (GOOD[:10], "must begin with 00 00 08 03"),
        (idx_bytes(LABELS), "must begin with 00 00 08 03"),
        (b"\0\0\x0d\3" + GOOD[4:], "must begin with 00 00 08 03"),
        (GOOD[:-1], "must have 4704 bytes, as its shape .* says"),
        (GOOD + b"x", r"must have 4704 bytes, .* \(more\)"),
        (b"\0\0\x08\3" + b"\xff" * 12, "is over the limit"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_rejects_idx(tmp_path: Path, data: bytes, message: str, packed: bool) -> None:
    file = tmp_path / ("a.gz" if packed else "a")
    file.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(ValueError, match=f"idx: .*/a.*{message}"):
        read_idx(file, 3)


@pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: d[:-8] + bytes(4) + d[-4:], lambda d: b"hello"])
def test_rejects_damaged_gzip(tmp_path: Path, damage) -> None:
    (tmp_path / "a.gz").write_bytes(damage(gzip.compress(GOOD)))
    with pytest.raises(ValueError, match="idx: .*a.gz' cannot be read"):
        read_idx(tmp_path / "a.gz", 3)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """tools(apt_get=..., dpkg_deb=...) puts scripts with these bodies in the place of the programs."""

    def install(**scripts: str) -> None:
        (tmp_path / "bin").mkdir()
        for name, body in scripts.items():
            file = tmp_path / "bin" / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{body}\n")
            file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin" if scripts else str(tmp_path / "bin"))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        (tmp_path / "temporary").mkdir()

    return install


def unpacks(folder: Path) -> str:
    return f'mkdir -p "$3/{fashion_mnist._FOLDER}" && cp {folder}/* "$3/{fashion_mnist._FOLDER}"'


DOWNLOADS = "echo package > dataset-fashion-mnist_1_all.deb"


def test_fashion_mnist(tmp_path: Path, tools, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(apt_get=DOWNLOADS, dpkg_deb=unpacks(write_idx(tmp_path / "data")))
    monkeypatch.setattr(fashion_mnist, "FASHION_IMAGES_SHA256", hashlib.sha256(GOOD).hexdigest())
    monkeypatch.setattr(idx, "FASHION_LABELS_SHA256", hashlib.sha256(idx_bytes(LABELS)).hexdigest())
    report = prepare("fashion-mnist", tmp_path / "out.zip", 32)
    assert (report.count, report.channels, report.classes[:2], len(report.classes)) == (6, 1, ["T-shirt", "trousers"], 10)
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("known", [False, True])
def test_fashion_mnist_with_other_content_is_refused(tmp_path: Path, tools, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    tools(apt_get=DOWNLOADS, dpkg_deb=unpacks(write_idx(tmp_path / "data")))
    if known:
        monkeypatch.setattr(fashion_mnist, "FASHION_IMAGES_SHA256", hashlib.sha256(GOOD).hexdigest())
    with pytest.raises(RuntimeError, match=f"does not hold the known {'labels' if known else 'images'}; or give a folder"):
        prepare("fashion-mnist", tmp_path / "out.zip", 32)
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ({}, "needs apt-get of Debian or Ubuntu"),
        ({"apt_get": "echo 'E: Unable to locate package dataset-fashion-mnist' >&2; exit 100"}, "run `apt-get update` as root first"),
        (
            {"apt_get": "echo 'W: something' >&2; echo 'E: Could not resolve deb.debian.org' >&2; exit 100"},
            "E: Could not resolve deb.debian.org",
        ),
        ({"apt_get": "exit 0"}, "downloaded no package"),
        ({"apt_get": DOWNLOADS, "dpkg_deb": "echo 'not an archive' >&2; exit 2"}, "`dpkg-deb -x .*` failed: not an archive"),
        ({"apt_get": DOWNLOADS, "dpkg_deb": "exit 0"}, "does not hold the known images"),
    ],
)
def test_fashion_mnist_says_what_to_do(tmp_path: Path, tools, scripts: dict[str, str], message: str) -> None:
    tools(**scripts)
    with pytest.raises(RuntimeError, match=f"fashion-mnist: .*{message}.*give a folder with train-images-idx3-ubyte.gz"):
        prepare("fashion-mnist", tmp_path / "out.zip", 32)
