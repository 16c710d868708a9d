"""What a run tells while it goes on: a progress bar, lines of JSON, TensorBoard."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .files import atomic_write


class RunLog:
    """Writes `log.jsonl` and `tb/` in the run's folder and shows a progress bar on stderr.

    A line holds the means over the steps since the line before. A resumed run first drops the lines of steps that it is going to run
    again.

    Args:
        outdir: folder of the run.
        interval: seconds between lines.
        images: real images seen so far.
        seconds: training time so far.
        progress: share of the run that is done, in [0, 1].
    """

    def __init__(self, outdir: Path, *, interval: float, images: int, seconds: float, progress: float) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        path = outdir / "log.jsonl"
        _truncate(path, images)
        self._interval = interval
        self._began = (images, seconds)
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._lines = open(path, "a", encoding="utf-8")  # noqa: SIM115  (close() closes it)
        self._board = SummaryWriter(str(outdir / "tb"), purge_step=images + 1)
        self._bar = tqdm(
            total=1.0,
            initial=min(progress, 1.0),
            bar_format="{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}",
            # Redraws on a terminal; in a file each state stays, so that few are enough.
            mininterval=0.5 if sys.stderr.isatty() else 20,
        )

    def add(self, stats: Mapping[str, float], *, images: int, seconds: float, progress: float) -> None:
        """Take in the numbers of one step, show the progress, and write a line if it is time.

        Args:
            stats: numbers by name; those that are not finite are left out.
            images: real images seen so far.
            seconds: training time so far.
            progress: share of the run that is done.
        """
        for name, value in stats.items():
            if math.isfinite(value):
                self._sums[name] += value
                self._counts[name] += 1
        means = self._means()
        rate = self._rate(images, seconds)
        losses = "".join(f", {name} {means[key]:.3f}" for name, key in (("G", "loss/G"), ("D", "loss/D")) if key in means)
        self._bar.set_postfix_str(f"{images / 1000:.1f} kimg, {rate:.1f} img/s{losses}", refresh=False)
        self._bar.update(min(progress, 1.0) - self._bar.n)
        if seconds - self._began[1] >= self._interval:
            self.write(images=images, seconds=seconds)

    def write(self, *, images: int, seconds: float) -> None:
        """Write the line of the steps since the last one, if there were any, and its numbers as TensorBoard curves over the images."""
        if not self._counts:
            return
        means = {"images_per_second": self._rate(images, seconds), **dict(sorted(self._means().items()))}
        self._lines.write(json.dumps({"images": images, "seconds": round(seconds, 3), **means}) + "\n")
        self._lines.flush()
        for name, value in means.items():
            self._board.add_scalar(name, value, images)
        self._board.flush()
        self._began = (images, seconds)
        self._sums.clear()
        self._counts.clear()

    def message(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Close the files and the bar."""
        self._bar.close()
        self._board.close()
        self._lines.close()

    def _means(self) -> dict[str, float]:
        return {name: self._sums[name] / count for name, count in self._counts.items()}

    def _rate(self, images: int, seconds: float) -> float:
        elapsed = seconds - self._began[1]
        return (images - self._began[0]) / elapsed if elapsed > 0 else 0.0


def _truncate(path: Path, images: int) -> None:
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _images_of(line) <= images]
    if len(kept) < len(lines):
        with atomic_write(path) as file:
            file.writelines(kept)


def _images_of(line: bytes) -> float:
    """Position of a line; a line that a crash cut short belongs to no position."""
    try:
        return json.loads(line)["images"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
