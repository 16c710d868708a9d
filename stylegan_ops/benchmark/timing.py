"""Timing: the forms of a case take turns, A B C A B C ..., in one process, so that what else the machine does hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Form = Callable[[], object]
Clock = Callable[[Form], float]  # runs a form once, seconds


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of one form's values."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def divided(self, by: float) -> Spread:
        return Spread(self.median / by, self.low / by, self.high / by, self.rounds)


def clock(device: str) -> Clock:
    """What tells the time of work on a device: the wall clock on the CPU, events in the stream on a GPU."""
    return _event_clock if torch.device(device).type == "cuda" else _wall_clock


def _wall_clock(form: Form) -> float:
    start = time.perf_counter()
    form()
    return time.perf_counter() - start


def _event_clock(form: Form) -> float:
    """From the moment the device reaches the work to the moment it has done it."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    form()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3  # milliseconds


def race(forms: dict[str, Form], seconds: float, tell: Clock, rounds: int = 3) -> dict[str, Spread]:
    """The seconds of each form, run in turns for `seconds` and at least `rounds` rounds after a warm-up.

    A form whose single run takes longer than `seconds`, a slow reference, is run once behind its warm-up and then left out.
    """
    for form in forms.values():
        form()
    times = {name: [tell(form)] for name, form in forms.items()}
    turns = [name for name, (first,) in times.items() if first < seconds]
    done, end = 1, time.perf_counter() + seconds
    while turns and (done < rounds or time.perf_counter() < end):
        for name in turns:
            times[name].append(tell(forms[name]))
        done += 1
    return {name: Spread.of(values) for name, values in times.items()}
