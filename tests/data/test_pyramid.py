"""Pyramids: what is written at each size, and data sets that read one level of it."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from images import encoded, picture, write_folder, write_zip
from PIL import Image

from stylegan_ops.cli.dataset import command
from stylegan_ops.data import ImageDataset, prepare, training_loader
from stylegan_ops.data.pyramid import box_averages, smaller_resolutions

LEVELS = (4, 8, 16, 32)


@pytest.fixture
def make_pyramid(tmp_path: Path):
    """make_pyramid(folder=False, mode="RGB") prepares 7 noisy images of two classes at 32 px with a pyramid."""

    def make(folder: bool = False, mode: str = "RGB") -> Path:
        rng = np.random.default_rng(0)
        members = {}
        for i in range(7):
            noisy = np.asarray(picture(i, (32, 32), "RGB")).astype(int) + rng.integers(-60, 60, (32, 32, 3))
            members[f"{'ab'[i % 2]}/{i}.png"] = encoded(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode))
        dest = tmp_path / ("set" if folder else "set.zip")
        report = prepare(write_folder(tmp_path / "source", members), dest, 32, pyramid=True)
        assert report.pyramid == [4, 8, 16]
        stored = [f.stat().st_size for f in dest.rglob("*") if f.is_file()] if folder else [dest.stat().st_size]
        assert report.size == sum(stored)
        return dest

    return make


def averaged(image: torch.Tensor, resolution: int) -> np.ndarray:
    """The means of the boxes of a [C, H, W] picture, one box at a time, exactly."""
    pixels, side = image.numpy().astype(np.float64), image.shape[1] // resolution
    means = np.empty((len(pixels), resolution, resolution))
    for y in range(resolution):
        for x in range(resolution):
            means[:, y, x] = pixels[:, y * side : (y + 1) * side, x * side : (x + 1) * side].sum((1, 2)) / side**2
    return np.rint(means)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_levels_are_box_averages_of_the_same_images(make_pyramid, folder: bool, mode: str) -> None:
    path = make_pyramid(folder, mode)
    full = ImageDataset(path)
    assert (full.resolution, full.resolutions, full.num_images) == (32, LEVELS, 7)
    for resolution in LEVELS:
        for level in (ImageDataset(path, resolution=resolution), full.at(resolution), full.at(4).at(resolution)):
            assert (level.resolution, level.resolutions, level.channels) == (resolution, LEVELS, full.channels)
            assert (len(level), level.c_dim, level.label_names) == (7, 2, ["a", "b"])
            for i in range(7):
                np.testing.assert_array_equal(level[i][0].numpy(), averaged(full[i][0], resolution))
                assert torch.equal(level[i][1], full[i][1])
    assert full.resolution == 32


def test_one_rounding_per_level() -> None:
    """Rounding level by level would give 2 here: 4 boxes with mean 1.75 and 12 with 1.25, and 1.375 in all."""
    box = {True: [[2, 2], [2, 1]], False: [[1, 1], [1, 2]]}
    pixels = np.block([[np.array(box[x == y]) for x in range(4)] for y in range(4)])
    pixels = np.tile(pixels, (4, 4))[:, :, None].astype(np.uint8)
    levels = dict(box_averages(pixels))
    assert list(levels) == [16, 8, 4] and levels[4].shape == (4, 4, 1)
    assert np.unique(levels[4]) == [1] and set(np.unique(levels[16])) == {1, 2}
    assert np.unique(dict(box_averages(np.full((1024, 1024, 3), 255, np.uint8)))[4]) == [255]


def test_smaller_resolutions() -> None:
    assert [smaller_resolutions(r) for r in (4, 8, 64)] == [[], [4], [4, 8, 16, 32]]


def test_xflip_and_no_labels_hold_for_levels(make_pyramid) -> None:
    level = ImageDataset(make_pyramid(), xflip=True, use_labels=False).at(8)
    assert len(level) == 14 and level.c_dim == 0
    assert torch.equal(level[9][0], level[2][0].flip(2))


def test_layout_and_equal_bytes(make_pyramid, tmp_path: Path) -> None:
    first = make_pyramid().read_bytes()
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        names, metadata = archive.namelist(), json.loads(archive.read("dataset.json"))
    (tmp_path / "set.zip").unlink()
    assert make_pyramid().read_bytes() == first
    assert sorted(names) == sorted(
        ["dataset.json"] + [f"{prefix}00000/img{i:08d}.png" for i in range(7) for prefix in ("", "pyramid/4/", "pyramid/8/", "pyramid/16/")]
    )
    assert metadata["pyramid"] == [4, 8, 16] and metadata["labels"][1] == ["00000/img00000001.png", 0]


def test_full_size_is_that_of_a_set_without_pyramid(make_pyramid, tmp_path: Path) -> None:
    path = make_pyramid()
    report = prepare(tmp_path / "source", tmp_path / "plain.zip", 32)
    assert report.pyramid is None and report.size < path.stat().st_size
    plain, full = ImageDataset(tmp_path / "plain.zip"), ImageDataset(path)
    assert plain.resolutions == (32,) and plain.at(32).resolution == 32
    assert all(torch.equal(plain[i][0], full[i][0]) and torch.equal(plain[i][1], full[i][1]) for i in range(7))


@pytest.mark.parametrize("folder", [False, True])
def test_a_prepared_pyramid_is_a_source_of_its_full_images(make_pyramid, tmp_path: Path, folder: bool) -> None:
    report = prepare(make_pyramid(folder), tmp_path / "again.zip", 16, pyramid=True)
    assert (report.count, report.classes, report.ignored, report.enlarged) == (7, ["a", "b"], 0, 0)
    assert ImageDataset(tmp_path / "again.zip").resolutions == (4, 8, 16)


@pytest.mark.parametrize("folder", [False, True])
def test_pickled_level_reads_on(make_pyramid, folder: bool) -> None:
    level = ImageDataset(make_pyramid(folder), resolution=8)
    copy = pickle.loads(pickle.dumps(level))
    assert torch.equal(copy[3][0], level[3][0]) and copy.at(16).resolution == 16


def test_training_loader_streams_a_level_in_the_same_order(make_pyramid) -> None:
    full = ImageDataset(make_pyramid())
    for workers in (0, 2):
        streams = [training_loader(full.at(r), 3, seed=5, start=4, num_workers=workers) for r in (32, 8)]
        for _ in range(4):
            (large, large_labels), (small, small_labels) = (next(stream) for stream in streams)
            np.testing.assert_array_equal(small.numpy(), np.stack([averaged(image, 8) for image in large]))
            assert torch.equal(large_labels, small_labels)
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("resolution", [4, 16, 64, 12])
def test_rejects_a_level_that_is_not_there(make_set, resolution: int) -> None:
    path = make_set(3)  # 8 px
    for opened in (lambda: ImageDataset(path, resolution=resolution), lambda: ImageDataset(path).at(resolution)):
        with pytest.raises(ValueError, match=rf"must be one of 8 \({resolution}\).*`stylegan-ops dataset SOURCE DEST --pyramid`"):
            opened()


def test_set_of_others_with_a_folder_called_pyramid(tmp_path: Path) -> None:
    members = {f"pyramid/4/{i}.png": encoded(picture(i, (8, 8))) for i in range(3)} | {"dataset.json": b"{}"}
    data = ImageDataset(write_zip(tmp_path / "set.zip", members))
    assert (len(data), data.resolutions) == (3, (8,))


def pyramid(**changes: bytes | None) -> dict[str, bytes]:
    """A set of two images at 16 px whose pyramid has one level."""
    sides = {"": 16, "pyramid/8/": 8}
    members = {f"{prefix}{i}.png": encoded(picture(i, (side, side))) for prefix, side in sides.items() for i in range(2)}
    members["dataset.json"] = json.dumps({"labels": [["0.png", 0], ["1.png", 1]], "resolution": 16, "channels": 3, "pyramid": [8]}).encode()
    return {name: content for name, content in {**members, **changes}.items() if content is not None}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pyramid/8/1.png", None, "must hold '1.png' at 16 and at 8 pixels, or at neither"),
        ("pyramid/8/2.png", encoded(picture(2, (8, 8))), "must hold '2.png' at 16 and at 8 pixels, or at neither"),
        ("pyramid/8/1.png", b"hello", "'pyramid/8/1.png' of .* is no PNG file"),
        ("pyramid/8/1.png", encoded(picture(1, (8, 8), "L")), "'pyramid/8/1.png' of .* must have the size and channels of the others"),
        ("pyramid/8/1.png", encoded(picture(1, (4, 4))), "'pyramid/8/1.png' of .* must have the size and channels of the others"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_damage_of_a_level_is_named_when_it_is_read(tmp_path: Path, name: str, content: bytes | None, message: str, zipped: bool) -> None:
    members = pyramid(**{name: content})
    path = write_zip(tmp_path / "set.zip", members) if zipped else write_folder(tmp_path / "set", members)
    full = ImageDataset(path)
    assert (len(full), full.resolutions) == (2, (8, 16))
    for opened in (lambda: full.at(8), lambda: ImageDataset(path, resolution=8)):
        with pytest.raises(ValueError, match=message):
            opened()


@pytest.mark.parametrize(("side", "mode", "rule"), [(4, "RGB", r"resolution .* 4 \(8\)"), (8, "L", r"channels .* 1 \(3\)")])
def test_rejects_a_level_of_another_size_or_kind(tmp_path: Path, side: int, mode: str, rule: str) -> None:
    members = pyramid(**{f"pyramid/8/{i}.png": encoded(picture(i, (side, side), mode)) for i in range(2)})
    path = write_zip(tmp_path / "set.zip", members)
    with pytest.raises(ValueError, match=rule):
        ImageDataset(path, resolution=8)


def test_damaged_pixels_of_a_level_are_named(tmp_path: Path) -> None:
    good = pyramid()["pyramid/8/1.png"]
    path = write_zip(tmp_path / "set.zip", pyramid())
    path.write_bytes(path.read_bytes().replace(good[40:], bytes(len(good) - 40)))
    level = ImageDataset(path, resolution=8)
    level[0]
    with pytest.raises(ValueError, match=r"'pyramid/8/1.png' of .*set.zip' cannot be decoded: its checksum is wrong"):
        level[1]


@pytest.mark.parametrize("levels", [8, "8", [16], [2], [8, 4], [4, 4], [8.5], ["8"], [[]], {"8": 1}])
def test_rejects_malformed_list_of_levels(tmp_path: Path, levels: object) -> None:
    metadata = json.dumps({"labels": None, "resolution": 16, "channels": 3, "pyramid": levels}).encode()
    path = write_zip(tmp_path / "set.zip", pyramid(**{"dataset.json": metadata}))
    for read in (ImageDataset, lambda source: prepare(source, tmp_path / "out.zip", 8)):
        with pytest.raises(ValueError, match="pyramid must list powers of two from 4 to half the resolution, 16"):
            read(path)


@pytest.mark.parametrize("full", [None, "16", 16.0, -8, 10])
def test_rejects_pyramid_without_a_full_size(tmp_path: Path, full: object) -> None:
    path = write_zip(tmp_path / "set.zip", pyramid(**{"dataset.json": json.dumps({"resolution": full, "pyramid": [8]}).encode()}))
    with pytest.raises(ValueError, match="pyramid must list powers of two|resolution must be that of the images"):
        ImageDataset(path)


def test_command_says_what_the_pyramid_holds(make_pyramid, tmp_path: Path) -> None:
    make_pyramid()
    result = CliRunner().invoke(command, [str(tmp_path / "source"), str(tmp_path / "out"), "--resolution", "32", "--pyramid"])
    assert result.exit_code == 0 and "7 images, 32x32 RGB and in a pyramid at 4, 8, 16 px, 2 classes" in result.output
    assert ImageDataset(tmp_path / "out").resolutions == LEVELS
    result = CliRunner().invoke(command, [str(tmp_path / "source"), str(tmp_path / "plain"), "--resolution", "32"])
    assert result.exit_code == 0 and "pyramid" not in result.output
    assert ImageDataset(tmp_path / "plain").resolutions == (32,)
