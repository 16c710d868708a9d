"""Faces drawn by DiceBear."""

from pathlib import Path

import pytest

pytest.importorskip("dicebear")
pytest.importorskip("dicebear_styles")
pytest.importorskip("resvg_py")

from stylegan_ops.data import ImageDataset, prepare  # noqa: E402
from stylegan_ops.data.sources.dicebear import DiceBearSource  # noqa: E402


@pytest.mark.parametrize("style", ["avataaars", "lorelei", "pixel-art", "personas"])
def test_draws_different_opaque_pictures(style: str) -> None:
    source = DiceBearSource(style, 32, 6, 0, None)
    pictures = [source.open(i) for i in range(6)]
    assert all(picture.mode == "RGB" or picture.getextrema()[3] == (255, 255) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_is_reproducible(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        report = prepare("dicebear:avataaars", tmp_path / f"{name}.zip", 16, count=5, seed=seed)
        assert (report.count, report.channels, report.classes, report.enlarged) == (5, 3, None, 0)
    a, b, c = ((tmp_path / f"{name}.zip").read_bytes() for name in "abc")
    assert a == b != c


def test_trait_as_label(tmp_path: Path) -> None:
    report = prepare("dicebear:avataaars", tmp_path / "out.zip", 8, count=30, labels="skinColor")
    data = ImageDataset(tmp_path / "out.zip")
    assert data.c_dim == len(report.classes) > 1 and all(name.startswith("#") for name in report.classes)
    assert set().union(*({int(data[i][1].argmax())} for i in range(30))) == set(range(data.c_dim))


@pytest.mark.parametrize("style", ["", "nonsense", "../avataaars"])
def test_rejects_style(tmp_path: Path, style: str) -> None:
    with pytest.raises(ValueError, match="dicebear: style must be one of .*avataaars, "):
        prepare(f"dicebear:{style}", tmp_path / "out.zip", 8, count=1)


def test_rejects_trait(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dicebear: labels must be a trait .* hairColor, .* \('shoes'\)"):
        prepare("dicebear:avataaars", tmp_path / "out.zip", 8, count=3, labels="shoes")
