"""Atomic writes."""

import os

import pytest

from stylegan_ops.training.files import atomic_write


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        with atomic_write(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    link, path = tmp_path / "link", tmp_path / "there" / "file"
    path.write_bytes(b"old")
    link.symlink_to(path)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink() and path.read_bytes() == b"new" and os.listdir(path.parent) == ["file"]


def test_two_processes_that_write_one_file_do_not_mix(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write(b"first, and long")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first, and long" and os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="the folder must exist: '.*none'"), atomic_write(tmp_path / "none" / "file"):
        pass


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_failure_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError("No space left on device")

    if failing != "write":
        monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as file:
        file.write(b"half")
        if failing == "write":
            fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_synced_before_the_rename(tmp_path, monkeypatch):
    """The data must be on disk before the name points to it, and the folder after."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert calls == ["file", "replace", "folder"]
