"""Kept arrays, and what they are kept under."""

import os

import numpy as np
import pytest

from stylegan_ops.metrics.cache import cached, default_cache


class Maker:
    def __init__(self, array=None):
        self.array = np.arange(6, dtype=np.float32).reshape(2, 3) if array is None else array
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.array


def test_made_once(tmp_path):
    make = Maker()
    for _ in range(3):
        found = cached({"a": 1}, make, tmp_path / "new" / "folder")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, make.array)
    assert make.calls == 1
    (name,) = os.listdir(tmp_path / "new" / "folder")
    assert name.endswith(".npz")


def test_another_key_is_made_anew(tmp_path):
    make = Maker()
    for key in ({"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1}, {"b": "x", "a": 1}):
        cached(key, make, tmp_path)
    assert make.calls == 4, "the order of a key's names is not part of it"


def other(path):
    np.savez(path, key=np.array("{}"), array=np.zeros(3), sha256=np.array("0"))


def changed(path):
    with np.load(path) as stored:
        stored = dict(stored)
    np.savez(path, **{**stored, "array": stored["array"] + 1})


def pickled(path):
    with np.load(path) as stored:
        stored = dict(stored)
    np.savez(path, **{**stored, "array": np.array([{}], dtype=object)}, allow_pickle=True)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(b"\x80\4."),
        lambda path: np.savez(path, x=np.zeros(3)),
        flip,
        other,
        changed,
        pickled,
    ],
)
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    make = Maker()
    cached({"a": 1}, make, tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    for _ in range(2):
        np.testing.assert_array_equal(cached({"a": 1}, make, tmp_path), make.array)
    assert make.calls == 2


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cached({"a": 1}, fail, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "stylegan_ops"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "stylegan_ops"
