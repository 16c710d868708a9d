"""Runs the sections that a caller asks for, one row after the other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import stylegan_ops.benchmark.ops as ops

from . import memory, models, training
from .cases import Case, Options, Row, measure

SECTIONS = {"ops": ops.cases, "models": models.cases, "training": training.cases}


@dataclass(frozen=True)
class Job:
    """A row to be: `make` gets the rows before it, and gives None where these do not suffice."""

    title: str
    make: Callable[[list[Row]], Row | None]


def of_case(case: Case, options: Options) -> Job:
    return Job(case.title, lambda rows: measure(case, options))


def jobs(sections: list[str], options: Options) -> list[Job]:
    """All rows of the sections whose title contains `options.only`."""
    found = [of_case(case, options) for section in sections for case in SECTIONS[section](options)]
    if "training" in sections:
        dtypes = options.dtypes_or("float32", "bfloat16")
        found += [Job(f"iteration: {dtype}", functools.partial(training.average, dtype, options)) for dtype in dtypes]
        for dtype in dtypes:
            for what in memory.measures(options):
                title = f"{memory.MEASURES[what]}: {training.describe(options, dtype)}"
                found.append(Job(title, lambda rows, what=what, dtype=dtype: memory.row(what, dtype, options)))
    return [job for job in found if options.only in job.title]


def run(work: list[Job], progress: Callable[[int, Job], None]) -> Iterator[Row]:
    """The rows, each as soon as it is there; `progress(i, job)` is called before the i-th."""
    rows: list[Row] = []
    for i, job in enumerate(work, 1):
        progress(i, job)
        row = job.make(rows)
        if row is not None:
            rows.append(row)
            yield row
