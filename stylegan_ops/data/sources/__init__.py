"""Where images come from: one file for each kind of source."""

from pathlib import Path

from stylegan_ops.data.sources.source import Source

__all__ = ["Source", "open_source"]


def open_source(text: str, resolution: int, count: int | None, seed: int, labels: str | None) -> Source:
    """The source that `text` describes; the other arguments are those of `prepare`.

    A kind is imported when it is used: DiceBear needs packages that the others do not.
    """
    kind, _, rest = text.partition(":")
    if kind == "dicebear":
        from stylegan_ops.data.sources.dicebear import DiceBearSource

        return DiceBearSource(rest, resolution, count, seed, labels)
    if labels is not None:
        raise ValueError(f"prepare: labels names a trait of DiceBear's pictures; this source has none ({labels!r})")
    if text == "fashion-mnist":
        from stylegan_ops.data.sources.fashion_mnist import FashionMnistSource

        return FashionMnistSource(resolution)
    return _open_path(Path(text), resolution)


def _open_path(path: Path, resolution: int) -> Source:
    from stylegan_ops.data.sources.idx import IdxSource, find_idx_files
    from stylegan_ops.data.sources.tree import FolderSource, ZipSource

    if not path.exists():
        raise FileNotFoundError(f"prepare: source must be a folder, a zip, 'dicebear:STYLE' or 'fashion-mnist' (no {str(path)!r})")
    if not path.is_dir():
        return ZipSource(path)
    if find_idx_files(path) is not None:
        return IdxSource(path, resolution)
    return FolderSource(path)
