"""Turn any source of images into a data set to train on: equal squares in one zip or folder."""

import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stylegan_ops.data.pixels import is_grey, to_png, to_square
from stylegan_ops.data.pyramid import box_averages, level_prefix, smaller_resolutions
from stylegan_ops.data.sources import Source, open_source
from stylegan_ops.data.store import METADATA
from stylegan_ops.data.writer import Add, atomic_set

MAX_RESOLUTION = 4096  # pixels
_FOLDER_SIZE = 1000  # images of one folder
_AHEAD = 64  # images in work ahead of the one that is written


@dataclass
class Report:
    """What `prepare` wrote.

    Attributes:
        dest: the zip or folder.
        count: images written.
        resolution: height and width, pixels.
        channels: 1 or 3.
        classes: names of the classes; None without labels. A class without a name has its number for one.
        size: bytes written.
        skipped: "name: reason" of every image that could not be used.
        enlarged: images that were smaller than the resolution.
        ignored: files of the source that are no images by their extension.
        pyramid: heights of the smaller levels written too, pixels, ascending; None without a pyramid.
    """

    dest: Path
    count: int
    resolution: int
    channels: int
    classes: list[str] | None
    size: int
    skipped: list[str]
    enlarged: int
    ignored: int
    pyramid: list[int] | None


@dataclass
class _Square:
    """One image on its way: its PNG files, or why there are none."""

    index: int
    files: dict[str, bytes] = field(default_factory=dict)  # prefix of the name ("" for full size): PNG
    small: bool = False
    fault: str | None = None


def prepare(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    resolution: int,
    *,
    channels: str | int = "auto",
    count: int | None = None,
    seed: int = 0,
    labels: str | None = None,
    pyramid: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Report:
    """Read a source, square and resize its images and write them to `dest` with their labels.

    Each image is turned upright (EXIF), cropped to the square at its centre, laid over white where it is transparent, and resized with a
    Lanczos filter. An image that is damaged or has over 2^26 pixels is left out and named in the report. `dest` appears whole or not at
    all; equal sources make equal bytes.

    Args:
        source: a folder tree or zip of images; a folder of idx files (`train-images-idx3-ubyte`, `.gz` or not); `"dicebear:STYLE"`;
            `"fashion-mnist"`. Labels come from `dataset.json` (`{"labels": [[path, class], ...]}`), else from the names of the first
            folders in which the tree divides, if every image is in one.
        dest: what to write: a zip if its name ends in `.zip`, else a folder.
        resolution: height and width, pixels; a power of two from 4 to 4096.
        channels: 1 (grey), 3 (RGB), or "auto": grey if every image is.
        count: images to render (DiceBear; default 10,000), or the most to take, drawn at random (default all).
        seed: of the rendering or the draw, 0 or more.
        labels: DiceBear only: the trait whose values become the classes, such as `topVariant` or `hairColor`.
        pyramid: also write each image at every power of two from 4 to `resolution` / 2, as the averages of boxes of its pixels, for a
            training that grows: `ImageDataset(dest, resolution=16)` reads a level.
        force: replace `dest` if it exists.
        progress: show a progress bar.

    Returns:
        Report: what was written and what was left out.

    Raises:
        TypeError: a number is no integer.
        ValueError: bad argument, refused source (a zip with path tricks, ...), or no usable image.
        FileNotFoundError, FileExistsError, OSError: of `source` or `dest`.
    """
    for name, value in (("resolution", resolution), ("count", 1 if count is None else count), ("seed", seed)):
        if not isinstance(value, int):
            raise TypeError(f"prepare: {name} must be an integer ({value!r})")
    if resolution & (resolution - 1) or not 4 <= resolution <= MAX_RESOLUTION:
        raise ValueError(f"prepare: resolution must be a power of two from 4 to {MAX_RESOLUTION} ({resolution})")
    if channels not in ("auto", 1, 3):
        raise ValueError(f"prepare: channels must be 'auto', 1 or 3 ({channels!r})")
    if count is not None and count < 1:
        raise ValueError(f"prepare: count must be at least 1 ({count})")
    if seed < 0:
        raise ValueError(f"prepare: seed must be at least 0 ({seed})")
    dest = Path(dest)
    _keep_source(Path(source), dest)
    with atomic_set(dest, force) as add, open_source(os.fspath(source), resolution, count, seed, labels) as images:
        chosen = _choose(images, count, seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # of doubtful files; those that cannot be used are reported
            channels = _channels(images, chosen) if channels == "auto" else channels
            levels = smaller_resolutions(resolution) if pyramid else None
            report = Report(dest, 0, resolution, channels, None, 0, [], 0, images.ignored, levels)
            numbers = _write_images(add, images, chosen, report, progress)
        if not report.count:
            raise ValueError(f"prepare: source has no usable image ({images.name}); {_reasons(report)}")
        metadata = _metadata(images, numbers, report)
        add(METADATA, json.dumps(metadata, separators=(",", ":")).encode())
    report.size = sum(f.stat().st_size for f in dest.rglob("*.*")) if dest.is_dir() else dest.stat().st_size
    return report


def _keep_source(source: Path, dest: Path) -> None:
    source, dest = source.resolve(), dest.resolve()
    if dest == source or dest in source.parents:
        raise ValueError(f"prepare: dest must not be, or hold, the source ({str(dest)!r})")


def _choose(images: Source, count: int | None, seed: int) -> list[int]:
    total = len(images.names)
    if count is None or count >= total:
        return list(range(total))
    return sorted(np.random.RandomState(np.random.MT19937(seed)).permutation(total)[:count].tolist())


def _channels(images: Source, chosen: list[int]) -> int:
    """Headers are read up to the first image in colour; a damaged one does not vote."""
    if images.channels is not None:
        return images.channels

    def coloured(index: int) -> bool:
        try:
            return not is_grey(images.open(index))
        except Exception:  # is named when its turn comes
            return False

    return 3 if any(coloured(index) for index in chosen) else 1


def _write_images(add: Add, images: Source, chosen: list[int], report: Report, progress: bool) -> list[int]:
    """Write the PNG files; returns the numbers, in the source, of the images written."""

    def square(index: int) -> _Square:
        try:
            image = images.open(index)
            small = min(image.size) < report.resolution
            full = to_square(image, report.resolution, report.channels)
            return _Square(index, _files(full, report.pyramid is not None), small)
        except Exception as error:  # decoders of damaged files raise whatever they please
            return _Square(index, fault=str(error) or type(error).__name__)

    written = []
    with tqdm(total=len(chosen), desc="images", unit="img", disable=not progress) as bar, closing(_ordered_map(square, chosen)) as results:
        for result in results:
            bar.update()
            if result.fault is not None:
                report.skipped.append(f"{images.names[result.index]!r}: {result.fault}")
                bar.set_postfix(skipped=len(report.skipped))
                continue
            for prefix, png in result.files.items():
                add(prefix + file_name(len(written)), png)
            written.append(result.index)
            report.enlarged += result.small
    report.count = len(written)
    return written


def _files(full: Image.Image, pyramid: bool) -> dict[str, bytes]:
    files = {"": to_png(full)}
    if pyramid:
        files |= {level_prefix(side): to_png(Image.fromarray(level)) for side, level in box_averages(np.asarray(full))}
    return files


def file_name(number: int) -> str:
    """Path of image `number` in a prepared set, at full size."""
    return f"{number // _FOLDER_SIZE:05d}/img{number:08d}.png"


def _ordered_map(function: Callable[[int], _Square], items: list[int]) -> Iterator[_Square]:
    """`map` on one thread per core (Pillow works outside the interpreter's lock), never more than a few items ahead."""
    pool = ThreadPoolExecutor(os.cpu_count())
    pending: deque[Future[_Square]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _metadata(images: Source, numbers: list[int], report: Report) -> dict:
    labels = None
    if images.labels is not None:
        of_image = [images.labels[number] for number in numbers]
        labels = [[file_name(i), label] for i, label in enumerate(of_image)]
        report.classes = images.label_names or [str(label) for label in range(max(of_image) + 1)]
    metadata = {
        "labels": labels,
        "label_names": images.label_names,
        "resolution": report.resolution,
        "channels": report.channels,
        "source": images.name,
    }
    return metadata if report.pyramid is None else {**metadata, "pyramid": report.pyramid}


def _reasons(report: Report) -> str:
    if report.skipped:
        return f"{len(report.skipped)} could not be read, the first is {report.skipped[0]}"
    return f"{report.ignored} files have no extension of an image"
