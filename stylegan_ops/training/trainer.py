"""The training loop."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stylegan_ops.data import ImageDataset, training_loader

from .checkpoint import checkpoint_path, list_checkpoints, save_checkpoint
from .config import TrainingConfig
from .grids import SnapshotGrid, save_png, tile
from .interrupt import StopSignals
from .log import RunLog
from .outdir import claim_outdir, write_json
from .phases import TrainingStep
from .precision import resolve_precision
from .processes import Processes
from .random import generator
from .state import TrainingState

# A float16 run whose loss scale has fallen below this is not overflowing by its scale any more.
SMALLEST_SCALE = 2.0**-10


class TrainingDiverged(RuntimeError):
    """Losses or weights became infinite or NaN; the message names the step and the last good checkpoint."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Args:
        checkpoint: the last checkpoint.
        grid: the last grid of generated images.
        signal: the signal that stopped the run, None if it came to its end.
    """

    checkpoint: Path
    grid: Path
    signal: signal.Signals | None

    @property
    def exit_code(self) -> int:
        """A shell's exit code: 128 + the number of the signal, or 0."""
        return 128 + self.signal if self.signal else 0


class Trainer:
    """Trains a network of any family on a data set, from the start or from a checkpoint.

    The parameters after a step are a function of the settings, the data and the number of the step: a run that was interrupted and
    resumed has the bits of one that was not (same machine, torch, number of threads and processes).

    Args:
        config: settings; "auto" precision is resolved here.
        dataset: prepared images. A conditional run takes its labels.
        outdir: folder for everything the run writes.
        processes: this process among those of the run.
        resume: a loaded checkpoint to go on from, or None.

    Attributes:
        config: the settings, resolved.
        state: TrainingState.

    Raises:
        ValueError: `outdir` holds another run, the batch does not divide by the processes, or the data set is not the checkpoint's.
    """

    def __init__(
        self,
        config: TrainingConfig,
        dataset: ImageDataset,
        outdir: str | os.PathLike[str],
        processes: Processes,
        *,
        resume: dict[str, Any] | None = None,
    ) -> None:
        growth = config.growth(dataset.resolution)
        for batch_size in [config.batch_size] if growth is None else growth.batch_sizes.values():
            if batch_size % processes.world_size:
                raise ValueError(
                    f"TrainingConfig: batch_size must be a multiple of the number of processes, {processes.world_size} ({batch_size})"
                )
        if growth is not None and set(growth.resolutions) - set(dataset.resolutions):
            dataset.at(growth.resolutions[0])  # says what is missing
        if config.conditional and dataset.c_dim == 0:
            raise ValueError(f"TrainingConfig: conditional must be False for a data set without labels ({str(dataset.path)!r})")
        self.config = replace(config, precision=resolve_precision(config.precision, processes.device))
        self.dataset, self.outdir, self.processes = dataset, Path(outdir), processes
        self.is_writer = processes.rank == 0
        data = {
            "resolution": dataset.resolution,
            "channels": dataset.channels,
            "c_dim": dataset.c_dim if config.conditional else 0,
            "num_images": len(dataset),
        }
        if resume is not None and resume["data"] != data:
            raise ValueError(f"train: DATA must be the data set of the run, {resume['data']} ({data})")
        if self.is_writer:
            claim_outdir(self.outdir, resumed_images=None if resume is None else resume["images"])
        if config.threads:
            torch.set_num_threads(config.threads)
        self.state = TrainingState(self.config, data, processes.device)
        if resume is not None:
            self.state.load_state_dict(resume)
        self.training_step = TrainingStep(self.state, processes)
        self.grid = SnapshotGrid(data["resolution"], config.z_dim, data["c_dim"], config.seed)
        self._log: RunLog | None = None
        self._snapshot_at = (self.state.images, self.state.seconds)

    def run(self) -> RunResult:
        """Train to the end of the run or to a signal, with snapshots, and leave a checkpoint.

        Returns:
            RunResult.

        Raises:
            TrainingDiverged: a loss or a weight is not finite.
            ValueError: an image of the data set cannot be read.
        """
        if self.is_writer:
            self._write_beginning()
            self._log = RunLog(self.outdir, interval=self.config.log_seconds, **self._position())
        try:
            # The signals are caught before the loader's workers are forked, so that these leave Ctrl-C to this process too.
            with StopSignals() as signals:
                received = self._loop(signals)
                return RunResult(self._snapshot(), self._grid_path(), received)
        finally:
            if self._log is not None:
                self._log.close()

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The real images from the state's position on, at its stage."""
        return training_loader(
            self.dataset.at(self.state.stage.resolution),
            self.state.stage.batch_size,
            seed=self.config.seed,
            start=self.state.images,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
            num_workers=self.config.workers,
        )

    def _loop(self, signals: StopSignals) -> signal.Signals | None:
        state = self.state
        done, received = self._progress() >= 1, None
        while not done and not received:
            state.enter(state.stage_to_come())
            if self._log is not None and state.growth is not None:
                self._log.message(f"{state.images / 1000:.1f} kimg: {state.stage.resolution} px, batch {state.stage.batch_size}")
            # Closed by hand: an error's traceback would keep the loader, and its workers would keep the process from ending.
            with contextlib.closing(self._batches()) as batches:
                done, received = self._steps(batches, signals)
        return received

    def _steps(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]], signals: StopSignals) -> tuple[bool, signal.Signals | None]:
        """Train to the end of the run, a signal, or a stage of other images. Returns whether the run is done, and the signal."""
        state = self.state
        started = time.monotonic() - state.seconds
        images_are = (state.stage.resolution, state.stage.batch_size)
        done, received = False, None
        while not done and not received:
            stage = state.stage_to_come()
            if (stage.resolution, stage.batch_size) != images_are:
                break
            state.enter(stage)
            stats = self.training_step(lambda: next(batches))
            state.seconds = time.monotonic() - started
            # All processes stop after the same step: each tells the others what it saw.
            flags = {"done": float(self._progress() >= 1)} | {
                number.name: float(signals.received == number) for number in StopSignals.SIGNALS
            }
            stats, flags = self._agree(stats, flags)
            self._check(stats)
            done = flags["done"] > 0
            received = next((number for number in StopSignals.SIGNALS if flags[number.name] > 0), None)
            if self._log is not None:
                self._log.add(stats, **self._position())
            if self._snapshot_due() and not done and not received:
                self._snapshot()
        return done, received

    def _agree(self, stats: dict[str, torch.Tensor], flags: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
        """Average the step's numbers and the wishes to stop over the processes, in one reduction and one wait for the device."""
        device = self.processes.device
        numbers = torch.cat([torch.stack([*stats.values()]).float(), torch.tensor([*flags.values()], device=device)])
        values = self.processes.average_(numbers).tolist()
        return dict(zip(stats, values, strict=False)), dict(zip(flags, values[len(stats) :], strict=True))

    def _check(self, stats: dict[str, float]) -> None:
        scaler = self.state.scaler
        if scaler.is_enabled():
            stats["loss_scale"] = scaler.get_scale()
            if stats["loss_scale"] > SMALLEST_SCALE:
                return
        for name, value in stats.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} must be finite ({value})")

    def _diverged(self, rule: str) -> TrainingDiverged:
        good = list_checkpoints(self.outdir)
        last = f"the last good checkpoint is {str(good[-1])!r}" if good else "there is no checkpoint yet"
        return TrainingDiverged(f"train: {rule} at step {self.state.step} ({self.state.images / 1000:.3f} kimg); {last}")

    def _position(self) -> dict[str, Any]:
        return {"images": self.state.images, "seconds": self.state.seconds, "progress": self._progress()}

    def _progress(self) -> float:
        """Share of the run that is done, by the limit that is nearer."""
        shares = [0.0]
        if self.config.kimg is not None:
            shares.append(self.state.images / (self.config.kimg * 1000))
        if self.config.minutes is not None:
            shares.append(self.state.seconds / (self.config.minutes * 60))
        return max(shares)

    def _snapshot_due(self) -> bool:
        images, seconds = self.state.images - self._snapshot_at[0], self.state.seconds - self._snapshot_at[1]
        by_images = self.config.snapshot_kimg is not None and images >= self.config.snapshot_kimg * 1000
        by_time = self.config.snapshot_minutes is not None and seconds >= self.config.snapshot_minutes * 60
        return by_images or by_time

    def _snapshot(self) -> Path:
        state = self.state
        if not state.parameters_are_finite():
            raise self._diverged("parameters must be finite")
        self._snapshot_at = (state.images, state.seconds)
        checkpoint = checkpoint_path(self.outdir, state.images)
        if self._log is not None:
            save_checkpoint(checkpoint, state.state_dict(), keep=self.config.keep_checkpoints)
            self._log.write(images=state.images, seconds=state.seconds)
            self._write_grid()
            self._log.message(f"{state.images / 1000:.1f} kimg: {self._grid_path()}, {checkpoint}")
        return checkpoint

    def _grid_path(self) -> Path:
        return self.outdir / "grids" / f"kimg{self.state.images // 1000:06d}.png"

    def _write_grid(self) -> None:
        save_png(self._grid_path(), self.grid.draw(self.state.G_ema, precision=self.config.precision, batch_size=self.config.batch_size))

    def _write_beginning(self) -> None:
        """Write the settings, and for a new run pictures of the data and of the untrained generator."""
        about = {"config": self.config.to_json(), "data": {"path": str(self.dataset.path), **self.state.data}}
        write_json(self.outdir / "config.json", about)
        if self.state.step:
            return
        order = torch.randperm(len(self.dataset), generator=generator(self.config.seed, "reals"))[: len(self.grid.z)]
        reals = torch.stack([self.dataset[int(index)][0] for index in order])
        save_png(self.outdir / "reals.png", tile(reals, self.grid.columns))
        self._write_grid()
