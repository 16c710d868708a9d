"""Prepared data sets to test on."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("PIL") and find_spec("tqdm") else ["test_*.py"]  # the extra `train` is not installed


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """make_set(count, labelled=False, folder=False, mode="RGB") prepares `count` images at 8 px."""
    from images import encoded, picture, write_folder

    from stylegan_ops.data import prepare

    def make(count: int, labelled: bool = False, folder: bool = False, mode: str = "RGB") -> Path:
        names = [f"{'abc'[i % 3]}/{i:04d}.png" if labelled else f"{i:04d}.png" for i in range(count)]
        source = write_folder(tmp_path / "source", {name: encoded(picture(i, mode=mode)) for i, name in enumerate(names)})
        dest = tmp_path / ("set" if folder else "set.zip")
        prepare(source, dest, 8)
        return dest

    return make
