"""Labels: from folders and from dataset.json."""

import json
from pathlib import Path

import pytest
from images import encoded, picture, write_folder, write_zip

from stylegan_ops.data import ImageDataset, prepare

PNG = encoded(picture(0))


def labels_of(source: Path, dest: Path) -> tuple[list[int] | None, list[str] | None]:
    classes = prepare(source, dest, 8).classes
    data = ImageDataset(dest)
    return [int(data[i][1].argmax()) for i in range(len(data))] if data.c_dim else None, classes


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        (["cat/1.png", "dog/1.png", "cat/2.png"], [0, 0, 1], ["cat", "dog"]),
        (["all/cat/1.png", "all/dog/x/1.png"], [0, 1], ["cat", "dog"]),
        (["Ä/1.png", "猫/1.png"], [0, 1], ["Ä", "猫"]),
        (["cat/1.png", "2.png"], None, None),
        (["cat/1.png", "cat/2.png"], None, None),
        (["all/1.png", "all/dog/2.png"], None, None),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_folders(tmp_path: Path, names: list[str], labels: list[int] | None, classes: list[str] | None, zipped: bool) -> None:
    members = dict.fromkeys(names, PNG)
    source = write_zip(tmp_path / "in.zip", members) if zipped else write_folder(tmp_path / "in", members)
    assert labels_of(source, tmp_path / "out.zip") == (labels, classes)


@pytest.mark.parametrize("prefix", ["", "set/", "a/b/"])
def test_json_comes_before_folders(tmp_path: Path, prefix: str) -> None:
    text = json.dumps({"labels": [["x/2.png", 0], ["x/1.png", 4], ["y/3.png", 2]]}).encode()
    source = write_zip(
        tmp_path / "in.zip",
        {
            prefix + name: content
            for name, content in {**dict.fromkeys(["x/1.png", "x/2.png", "y/3.png"], PNG), "dataset.json": text}.items()
        },
    )
    assert labels_of(source, tmp_path / "out") == ([4, 0, 2], ["0", "1", "2", "3", "4"])


def test_json_without_labels(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", {"x/1.png": PNG, "y/2.png": PNG, "dataset.json": b'{"labels": null}'})
    assert labels_of(source, tmp_path / "out") == (None, None)


def test_left_out_image_takes_its_label_along(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", {"a/1.png": PNG, "a/2.png": b"?", "b/1.png": PNG, "c/1.png": PNG})
    assert labels_of(source, tmp_path / "out") == ([0, 1, 2], ["a", "b", "c"])


BAD = [
    (b"{", "must be JSON"),
    (b"\xff\xfe{}", "must be JSON"),
    (b"[" * 100_000, "must be JSON"),
    (b"[]", "must be a JSON object"),
    (b'{"labels": {}}', "labels must be a list"),
    (b'{"labels": [["1.png"]]}', r"each label must be \[path, class\]"),
    (b'{"labels": [["1.png", 1.5]]}', "integer class"),
    (b'{"labels": [["1.png", true]]}', "integer class"),
    (b'{"labels": [["1.png", -1]]}', "must be in 0 to 65535"),
    (b'{"labels": [["1.png", 65536]]}', "must be in 0 to 65535"),
    (b'{"labels": [["1.png", 2]], "label_names": ["a", "b"]}', "must be in 0 to 1"),
    (b'{"labels": [["1.png", 0]], "label_names": [1]}', "label_names must be a list of strings"),
    (b'{"labels": [["1.png", 0], ["1.png", 0]]}', "has two labels"),
    (b'{"labels": []}', "1 images have no label, the first is '1.png'"),
    (b'{"labels": [["1.png", 0], ["2.png", 0]]}', "1 labels are of files that are not there, the first is '2.png'"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_rejects_bad_json(tmp_path: Path, text: bytes, message: str) -> None:
    square = encoded(picture(0, (8, 8)))
    source = write_folder(tmp_path / "in", {"1.png": square, "dataset.json": text})
    with pytest.raises(ValueError, match=f"dataset.json of .*in'.*{message}"):
        prepare(source, tmp_path / "out.zip", 8)
    assert not (tmp_path / "out.zip").exists()
    with pytest.raises(ValueError, match=f"dataset.json of .*in'.*{message}"):
        ImageDataset(source)
