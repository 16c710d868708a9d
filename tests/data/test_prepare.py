"""Folders and zips of images become data sets; what is broken is named, what is refused leaves nothing behind."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from images import bomb, encoded, picture, write_folder, write_zip
from PIL import Image

from stylegan_ops.data import ImageDataset, prepare, writer

GOOD = {f"{i}.png": encoded(picture(i)) for i in range(3)}


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith((".part", ".old"))]


@pytest.mark.parametrize("dest", ["out.zip", "out"])
@pytest.mark.parametrize("zipped", [False, True])
def test_writes_a_set(tmp_path: Path, dest: str, zipped: bool) -> None:
    members = {**GOOD, "写真/ü.JPG": encoded(picture(7), "JPEG"), "notes.txt": b"hello", ".DS_Store": b"?", "__MACOSX/._0.png": b"?"}
    source = write_zip(tmp_path / "in.zip", members, zipfile.ZIP_DEFLATED) if zipped else write_folder(tmp_path / "in", members)
    report = prepare(source, tmp_path / dest, 8)
    assert (report.count, report.resolution, report.channels, report.classes, report.ignored) == (4, 8, 3, None, 1)
    assert not report.skipped and not leftovers(tmp_path)
    data = ImageDataset(tmp_path / dest)
    assert (len(data), data.resolution, data.channels, data.c_dim) == (4, 8, 3, 0)
    expected = picture(1).crop((2, 0, 18, 16)).resize((8, 8), Image.Resampling.LANCZOS, reducing_gap=3.0)
    np.testing.assert_array_equal(data[1][0].permute(1, 2, 0).numpy(), np.asarray(expected))


def test_layout(tmp_path: Path) -> None:
    prepare(write_folder(tmp_path / "in", GOOD), tmp_path / "out.zip", 8)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [f"00000/img0000000{i}.png" for i in range(3)] + ["dataset.json"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        metadata = json.loads(archive.read("dataset.json"))
    assert metadata == {"labels": None, "label_names": None, "resolution": 8, "channels": 3, "source": "in"}


def test_equal_sources_make_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name / "in", dict(sorted(GOOD.items(), reverse=name == "b")))
        prepare(tmp_path / name / "in", tmp_path / f"{name}.zip", 8)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_broken_images_are_named_and_left_out(tmp_path: Path) -> None:
    big = encoded(picture(2, (300, 300)), "PNG")
    members = {
        **GOOD,
        "bomb.png": bomb(9000),
        "bombs.png": bomb(12000),  # Pillow warns
        "bombss.png": bomb(30000),  # Pillow refuses
        "cut.png": big[: len(big) // 2],
        "cut.jpg": encoded(picture(2, (300, 300)), "JPEG")[:-900],
        "empty.png": b"",
        "text.png": b"this is no image",
    }
    report = prepare(write_folder(tmp_path / "in", members), tmp_path / "out.zip", 8)
    assert report.count == 3
    assert [line.split(":")[0] for line in report.skipped] == [
        "'bomb.png'",
        "'bombs.png'",
        "'bombss.png'",
        "'cut.jpg'",
        "'cut.png'",
        "'empty.png'",
        "'text.png'",
    ]
    assert len(ImageDataset(tmp_path / "out.zip")) == 3


def test_corrupt_member_of_a_zip_is_left_out(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "in.zip", GOOD)
    data = bytearray(source.read_bytes())
    data[data.index(GOOD["1.png"]) + 60] ^= 255
    source.write_bytes(data)
    report = prepare(source, tmp_path / "out.zip", 8)
    assert report.count == 2 and report.skipped[0].startswith("'1.png': ")


@pytest.mark.parametrize("members", [{}, {"a.txt": b"x"}, {"a.png": b"x"}, {"a.png": b""}])
def test_rejects_source_without_images(tmp_path: Path, members: dict[str, bytes]) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="source (must hold images|has no usable image)"):
        prepare(write_folder(tmp_path / "in", members), tmp_path / "out.zip", 8)
    assert os.listdir(tmp_path) == ["in"]


def test_rejects_source_that_is_missing_or_no_zip(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source must be a folder, a zip"):
        prepare(tmp_path / "in", tmp_path / "out.zip", 8)
    (tmp_path / "in.png").write_bytes(GOOD["0.png"])
    with pytest.raises(ValueError, match="in.png' is damaged or no zip file"):
        prepare(tmp_path / "in.png", tmp_path / "out.zip", 8)


def test_pipe_is_not_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", GOOD)
    os.mkfifo(tmp_path / "in" / "pipe.png")
    assert prepare(tmp_path / "in", tmp_path / "out.zip", 8).count == 3


@pytest.mark.parametrize(("modes", "channels"), [("LLL", 1), ("LRL", 3), ("RRR", 3), ("1LA", 1)])
def test_channels_of_the_source(tmp_path: Path, modes: str, channels: int) -> None:
    modes = [{"R": "RGB", "A": "LA"}.get(mode, mode) for mode in modes]
    members = {f"{i}.png": encoded(picture(i, mode=mode)) for i, mode in enumerate(modes)}
    report = prepare(write_folder(tmp_path / "in", members), tmp_path / "out.zip", 8)
    assert report.channels == channels == ImageDataset(tmp_path / "out.zip")[0][0].shape[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_as_told(tmp_path: Path, channels: int) -> None:
    source = write_folder(tmp_path / "in", {**GOOD, "grey.png": encoded(picture(0, mode="L"))})
    prepare(source, tmp_path / "out.zip", 8, channels=channels)
    assert ImageDataset(tmp_path / "out.zip").channels == channels


def test_count_takes_a_reproducible_part(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", {f"{i}.png": encoded(picture(i)) for i in range(20)})
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert prepare(source, tmp_path / f"{name}.zip", 8, count=5, seed=seed).count == 5
    a, b, c = ((tmp_path / f"{name}.zip").read_bytes() for name in "abc")
    assert a == b != c


def test_small_images_are_counted(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", {**GOOD, "dot.png": encoded(picture(0, (1, 1)))})
    assert prepare(source, tmp_path / "out.zip", 8).enlarged == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 48}, r"resolution must be a power of two from 4 to 4096 \(48\)"),
        ({"resolution": 2}, "resolution must be a power of two"),
        ({"resolution": 0}, "resolution must be a power of two"),
        ({"resolution": -8}, "resolution must be a power of two"),
        ({"channels": 4}, r"channels must be 'auto', 1 or 3 \(4\)"),
        ({"count": 0}, r"count must be at least 1 \(0\)"),
        ({"seed": -1}, r"seed must be at least 0 \(-1\)"),
        ({"labels": "hairColor"}, "labels names a trait of DiceBear"),
    ],
)
def test_rejects_arguments(tmp_path: Path, arguments: dict, message: str) -> None:
    source = write_folder(tmp_path / "in", GOOD)
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "out.zip", **{"resolution": 8, **arguments})
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("name", ["resolution", "count", "seed"])
def test_rejects_what_is_no_integer(tmp_path: Path, name: str) -> None:
    with pytest.raises(TypeError, match=f"prepare: {name} must be an integer \\(8.0\\)"):
        prepare(tmp_path, tmp_path / "out.zip", **{"resolution": 8, name: 8.0})


@pytest.mark.parametrize("dest", ["out.zip", "out"])
def test_replaces_only_by_force(tmp_path: Path, dest: str) -> None:
    source = write_folder(tmp_path / "in", GOOD)
    prepare(source, tmp_path / dest, 8)
    (source / "0.png").unlink()
    with pytest.raises(FileExistsError, match="dest exists"):
        prepare(source, tmp_path / dest, 8)
    assert len(ImageDataset(tmp_path / dest)) == 3
    prepare(source, tmp_path / dest, 8, force=True)
    assert len(ImageDataset(tmp_path / dest)) == 2 and not leftovers(tmp_path)


def test_force_spares_what_is_no_data_set(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", GOOD)
    home = write_folder(tmp_path / "home", {"letter.txt": b"dear"})
    with pytest.raises(ValueError, match="no prepared data set"):
        prepare(source, home, 8, force=True)
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(ValueError, match="is no file"):
        prepare(source, tmp_path / "folder.zip", 8, force=True)
    for dest in (source, tmp_path):
        with pytest.raises(ValueError, match="must not be, or hold, the source"):
            prepare(source, dest, 8, force=True)
    assert (home / "letter.txt").read_bytes() == b"dear" and len(os.listdir(source)) == 3


@pytest.mark.parametrize("dest", ["out.zip", "out"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dest: str, error: BaseException) -> None:
    source = write_folder(tmp_path / "in", GOOD)
    before = prepare(source, tmp_path / dest, 8)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(writer, "_rename", fail)
    with pytest.raises(type(error) if isinstance(error, OSError) else error):
        prepare(source, tmp_path / dest, 16, force=True)
    assert ImageDataset(tmp_path / dest).resolution == before.resolution and not leftovers(tmp_path)


def test_makes_the_folder_of_dest(tmp_path: Path) -> None:
    prepare(write_folder(tmp_path / "in", GOOD), tmp_path / "new" / "er" / "out.zip", 8)
    assert len(ImageDataset(tmp_path / "new" / "er" / "out.zip")) == 3


def test_a_prepared_set_is_a_source(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", {f"{'ab'[i % 2]}/{i}.png": encoded(picture(i, (16, 16))) for i in range(4)})
    prepare(source, tmp_path / "a.zip", 16)
    report = prepare(tmp_path / "a.zip", tmp_path / "b", 8)
    assert report.classes == ["a", "b"]
    prepare(source, tmp_path / "c", 8)
    for i in range(4):
        assert (ImageDataset(tmp_path / "b")[i][0] == ImageDataset(tmp_path / "c")[i][0]).all()
        assert (ImageDataset(tmp_path / "b")[i][1] == ImageDataset(tmp_path / "c")[i][1]).all()
