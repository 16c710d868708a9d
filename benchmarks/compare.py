"""Says what became slower between two runs of pytest-benchmark, beyond their noise.

    python benchmarks/compare.py old.json new.json [--threshold 0.1]

A benchmark became slower when its median grew by more than the threshold and the quartiles of its rounds do not overlap: three quarters of
the new rounds are slower than three quarters of the old ones. The exit status is 1 when one did.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple


class Stats(NamedTuple):
    """Of one benchmark's rounds, in seconds."""

    q1: float
    median: float
    q3: float


class Run(NamedTuple):
    """One file: the machine and its benchmarks by name."""

    machine: str
    stats: dict[str, Stats]


def read(path: Path) -> Run:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        stats = {b["fullname"]: Stats(b["stats"]["q1"], b["stats"]["median"], b["stats"]["q3"]) for b in report["benchmarks"]}
        info = report.get("machine_info", {})
        return Run(f"{info.get('cpu', {}).get('brand_raw', 'unknown')}, {info.get('cpu', {}).get('count', '?')} cores", stats)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"compare: must be a file of pytest --benchmark-json ({path}: {type(error).__name__} {error})") from None


def is_slower(old: Stats, new: Stats, threshold: float) -> bool:
    return new.median > old.median * (1 + threshold) and new.q1 > old.q3


def compare(old: dict[str, Stats], new: dict[str, Stats], threshold: float) -> list[str]:
    """The names of what became slower, the worst first."""
    slower = [name for name in old.keys() & new.keys() if is_slower(old[name], new[name], threshold)]
    return sorted(slower, key=lambda name: old[name].median / new[name].median)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=0.1, help="share by which a median may grow (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not 0 <= options.threshold < float("inf"):
        parser.error(f"--threshold: must be a finite number of at least 0 ({options.threshold})")
    old, new = read(options.old), read(options.new)
    if old.machine != new.machine:
        print(f"The machines differ: {old.machine}; {new.machine}.")
    for title, names in (("only in the old run", old.stats.keys() - new.stats.keys()), ("new", new.stats.keys() - old.stats.keys())):
        if names:
            print(f"{len(names)} {title}: {', '.join(sorted(names)[:5])}{', ...' if len(names) > 5 else ''}")
    both = old.stats.keys() & new.stats.keys()
    if not both:
        raise SystemExit("compare: the files must have a benchmark in common (none)")
    slower = compare(old.stats, new.stats, options.threshold)
    faster = compare(new.stats, old.stats, options.threshold)
    for title, names in (("slower", slower), ("faster", faster)):
        if names:
            print(f"\n{title}:")
        for name in names:
            before, after = old.stats[name].median, new.stats[name].median
            print(f"  {after / before:6.2f}x the time  {before * 1e3:10.4f} ms -> {after * 1e3:10.4f} ms  {name}")
    print(f"\n{len(both)} compared, {len(slower)} slower, {len(faster)} faster by more than {options.threshold:.0%} and the noise.")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
