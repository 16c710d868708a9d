"""ImageDataset: checks when it opens, errors that name the file, pickling."""

import json
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from images import encoded, picture, write_folder, write_zip

from stylegan_ops.data import ImageDataset, prepare


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_items(make_set, folder: bool, mode: str) -> None:
    data = ImageDataset(make_set(6, labelled=True, folder=folder, mode=mode))
    channels = 1 if mode == "L" else 3
    assert (len(data), data.num_images, data.resolution, data.channels, data.c_dim) == (6, 6, 8, channels, 3)
    assert data.label_names == ["a", "b", "c"]
    for i in range(6):
        image, label = data[i]
        assert image.dtype == torch.uint8 and image.shape == (channels, 8, 8) and image.is_contiguous()
        assert label.dtype == torch.float32 and label.tolist() == [float(i // 2 == k) for k in range(3)]
    assert len({data[i][0].numpy().tobytes() for i in range(6)}) == 6


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_xflip(make_set, mode: str) -> None:
    path = make_set(3, labelled=True, mode=mode)
    data = ImageDataset(path, xflip=True)
    assert len(data) == 6 and data.num_images == 3
    for i in range(3):
        assert (data[i + 3][0] == data[i][0].flip(2)).all() and (data[i + 3][1] == data[i][1]).all()
        assert (data[i][0] == ImageDataset(path)[i][0]).all()


def test_without_labels(make_set) -> None:
    data = ImageDataset(make_set(3, labelled=True), use_labels=False)
    assert data.c_dim == 0 and data[0][1].shape == (0,) and data.label_names is None


@pytest.mark.parametrize("index", [-1, 3])
def test_rejects_index(make_set, index: int) -> None:
    with pytest.raises(IndexError, match="index must be in 0 to 2"):
        ImageDataset(make_set(3))[index]


@pytest.mark.parametrize("folder", [False, True])
def test_pickles(make_set, folder: bool) -> None:
    data = ImageDataset(make_set(3, labelled=True, folder=folder))
    data[0]
    copy = pickle.loads(pickle.dumps(data))
    assert all((copy[i][0] == data[i][0]).all() and (copy[i][1] == data[i][1]).all() for i in range(3))


def prepared(**changes: object) -> dict[str, bytes]:
    members = {f"00000/img{i:08d}.png": encoded(picture(i, (8, 8))) for i in range(3)}
    members["dataset.json"] = json.dumps({"labels": None, "resolution": 8, "channels": 3}).encode()
    return {name: content for name, content in {**members, **changes}.items() if content is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset.json": None}, "must hold PNG files and dataset.json"),
        ({"dataset.json": b'{"resolution": 16}'}, r"resolution must be that of the images, 8 \(16\)"),
        ({"dataset.json": b'{"channels": 1}'}, r"channels must be that of the images, 3 \(1\)"),
        ({"b.png": b"hello"}, "'b.png' of .* is no PNG file"),
        ({"b.png": b""}, "'b.png' of .* is no PNG file"),
        ({"b.png": encoded(picture(0), "JPEG")}, "'b.png' of .* is no PNG file"),
        ({"b.png": encoded(picture(0, (16, 16)))}, "'b.png' of .* must have the size and channels of the others"),
        ({"b.png": encoded(picture(0, (8, 8), "L"))}, "'b.png' of .* must have the size and channels of the others"),
        ({"b.png": encoded(picture(0, (8, 9)))}, "'b.png' of .* must be square, 8-bit"),
        ({"b.png": encoded(picture(0, (8, 8), "RGBA"))}, "'b.png' of .* must be square, 8-bit"),
        ({"b.png": encoded(picture(0, (8, 8), "I;16"))}, "'b.png' of .* must be square, 8-bit"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_rejects_when_opened(tmp_path: Path, changes: dict, message: str, zipped: bool) -> None:
    members = prepared(**changes)
    path = write_zip(tmp_path / "set.zip", members) if zipped else write_folder(tmp_path / "set", members)
    with pytest.raises(ValueError, match=message):
        ImageDataset(path)


def test_rejects_missing_path_and_empty_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path must exist"):
        ImageDataset(tmp_path / "none.zip")
    with pytest.raises(ValueError, match="must hold PNG files"):
        ImageDataset(tmp_path)


def test_rejects_compressed_zip(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be stored, not compressed"):
        ImageDataset(write_zip(tmp_path / "set.zip", prepared(), zipfile.ZIP_DEFLATED))


def test_rejects_wrong_local_header(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", prepared())
    path.write_bytes(b"PK\0\0" + path.read_bytes()[4:])
    with pytest.raises(ValueError, match="is damaged at member '00000/img00000000.png'"):
        ImageDataset(path)


def test_rejects_damaged_metadata(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", prepared())
    path.write_bytes(path.read_bytes().replace(b'{"labels', b'{"labelz'))
    for read in (ImageDataset, lambda source: prepare(source, tmp_path / "out.zip", 8)):
        with pytest.raises(ValueError, match=r"member 'dataset.json' of .*set.zip' is damaged"):
            read(path)


def test_random_damage_is_always_reported(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "set.zip", prepared()).read_bytes()
    rng = random.Random(0)
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data) - 700, len(data))] = rng.randrange(256)
        (tmp_path / "set.zip").write_bytes(data)
        try:
            items = ImageDataset(tmp_path / "set.zip")
            outcomes.add(len([items[i] for i in range(len(items))]))
        except ValueError:
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_image_is_named(tmp_path: Path, zipped: bool) -> None:
    name = "00000/img00000001.png"
    good = prepared()[name]
    if zipped:
        path = write_zip(tmp_path / "set.zip", prepared())
        path.write_bytes(path.read_bytes().replace(good[40:], bytes(len(good) - 40)))
    else:
        path = write_folder(tmp_path / "set", prepared(**{name: good[:60]}))
    data = ImageDataset(path)
    data[0], data[2]
    with pytest.raises(ValueError, match=rf"'{name}' of .*set.* cannot be decoded"):
        data[1]


def test_file_that_changed_is_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "set", prepared())
    data = ImageDataset(path)
    (path / "00000/img00000001.png").write_bytes(encoded(picture(0, (16, 16))))
    (path / "00000/img00000002.png").unlink()
    with pytest.raises(ValueError, match="img00000001.png' .* has changed"):
        data[1]
    with pytest.raises(ValueError, match="img00000002.png' .* cannot be decoded"):
        data[2]


def test_set_in_the_form_of_others_opens(tmp_path: Path) -> None:
    labels = [[f"00000/img{i:08d}.png", i] for i in range(3)]
    path = write_zip(tmp_path / "set.zip", prepared(**{"dataset.json": json.dumps({"labels": labels}).encode()}))
    data = ImageDataset(path)
    assert (data.resolution, data.channels, data.c_dim) == (8, 3, 3)
