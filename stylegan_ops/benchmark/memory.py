"""Peak memory of a training iteration, each form in fresh processes: live tensors as torch's profiler counts them, and what the system saw.

python -m stylegan_ops.benchmark.memory '{"form": "native", ...}'     prints {"bytes": ...}; called by the benchmark
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import torch

from .cases import FORMS, Options, Row
from .machine import prepare
from .timing import Spread
from .training import PHASES, describe, iteration, ways_for

MEASURES = {"live": "peak of live tensor bytes", "resident": "peak resident set of a fresh process"}


def measures(options: Options) -> list[str]:
    """What can be measured; the tensors of a GPU are not in the process's resident set."""
    return ["live"] if torch.device(options.device).type == "cuda" else list(MEASURES)


def peak_of_live_tensors(run) -> int:
    """The most bytes that tensors made while `run()` runs hold at one time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in events), initial=0))


def peak_resident_set() -> int:
    """Bytes of this process. ru_maxrss of a new process starts from its parent's, so that it is the last resort."""
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024


def two_iterations(form: str, dtype: str, options: Options, ways: tuple[str, str] | None) -> None:
    """From the networks' making on; in the second iteration Adam has its moments."""
    training = iteration(form, dtype, options, ways)
    for phase in [*PHASES, *PHASES]:
        training.step(phase)


def peak(measure: str, form: str, dtype: str, options: Options, ways: tuple[str, str] | None) -> int:
    """Bytes, in this process, which should be a fresh one."""
    if torch.device(options.device).type == "cuda":
        two_iterations(form, dtype, options, ways)
        return torch.cuda.max_memory_allocated(options.device)
    if measure == "live":
        return peak_of_live_tensors(lambda: two_iterations(form, dtype, options, ways))
    two_iterations(form, dtype, options, ways)
    return peak_resident_set()


def row(measure: str, dtype: str, options: Options) -> Row:
    ways = ways_for(options)
    values = {}
    for form in FORMS:
        if form in options.compare:
            spec: dict[str, Any] = {"measure": measure, "form": form, "dtype": dtype, "options": asdict(options), "ways": ways}
            spec["threads"] = torch.get_num_threads()
            command = [sys.executable, "-m", __spec__.name, json.dumps(spec)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"memory: the process of {form} must end well (exit {done.returncode}): {done.stderr.strip()[-500:]}")
            values[form] = Spread.of([json.loads(done.stdout.splitlines()[-1])["bytes"]])
    facts = {"dtype": dtype, "resolution": options.resolution, "batch": options.images, "allocator": options.allocator, "pass": measure}
    return Row("training", MEASURES[measure], describe(options, dtype), values, "B", facts=facts)


def main(text: str) -> None:
    spec = json.loads(text)
    options = Options(**{name: tuple(value) if isinstance(value, list) else value for name, value in spec["options"].items()})
    options = prepare(options, spec["threads"])
    print(json.dumps({"bytes": peak(spec["measure"], spec["form"], spec["dtype"], options, spec["ways"])}))


if __name__ == "__main__":
    main(sys.argv[1])
