"""Timing, rows and memory of stylegan_ops.benchmark: what they compute, not how fast anything is."""

import itertools

import pytest
import torch

from stylegan_ops.benchmark import memory, timing
from stylegan_ops.benchmark.cases import Case, Limit, Options, Row, Work, measure
from stylegan_ops.benchmark.run import jobs, run
from stylegan_ops.benchmark.timing import Spread
from stylegan_ops.benchmark.training import PHASES, average


def test_forms_take_turns():
    calls = []
    spreads = timing.race({name: lambda name=name: calls.append(name) for name in "abc"}, 0.001, timing.clock("cpu"))
    assert "".join(calls) == "abc" * (len(calls) // 3) and len(calls) >= 3 * 4  # a warm-up and three rounds
    assert {name: spread.rounds for name, spread in spreads.items()} == dict.fromkeys("abc", len(calls) // 3 - 1)


def test_a_slow_form_runs_once_behind_its_warm_up():
    ticks = {"slow": itertools.repeat(9.0), "quick": itertools.cycle([1e-3, 2e-3, 4e-3])}
    calls = []
    forms = {name: lambda name=name: calls.append(name) or name for name in ticks}
    spreads = timing.race(forms, 0.005, lambda form: next(ticks[form()]), rounds=3)
    assert calls.count("slow") == 2 and calls.count("quick") >= 4
    assert spreads["slow"] == Spread(9.0, 9.0, 9.0, 1)
    assert 1e-3 <= spreads["quick"].low <= spreads["quick"].median <= spreads["quick"].high <= 4e-3


def test_quartiles():
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([2.0, 4.0]).divided(2) == Spread(1.5, 1.25, 1.75, 2)


def test_a_gpu_is_timed_by_events_in_its_stream(monkeypatch):
    """The begin before the work, the end behind it, and no reading before the end has come."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.number = sum(entry == "made" for entry in log)
            log.append("made")

        def record(self):
            log.append(f"record {self.number}")

        def synchronize(self):
            log.append(f"wait {self.number}")

        def elapsed_time(self, end):
            log.append(f"read {self.number} {end.number}")
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert timing.clock("cuda:0")(lambda: log.append("work")) == 0.25
    assert log == ["made", "made", "record 0", "work", "record 1", "wait 1", "read 0 1"]
    assert timing.clock("cpu")(lambda: None) < 1


def spread(value):
    return Spread(value, value, value, 3)


def test_a_row_derives_rate_share_and_ratio():
    values = {"baseline": spread(0.4), "native": spread(0.1)}
    row = Row("ops", "op", "row", values, amount=2e9, unit="GB/s", limit=spread(0.05), limit_amount=2e9)
    assert (row.main, row.rate, row.limit_rate) == ("native", pytest.approx(20), pytest.approx(40))
    assert row.share == pytest.approx(0.5) and row.ratios == {"baseline": pytest.approx(4)}
    assert row.as_json()["share"] == row.share and row.as_json()["values"]["native"]["median"] == 0.1
    without = Row("ops", "op", "row", {"reference": spread(0.1)})
    assert (without.main, without.rate, without.share, without.ratios) == ("reference", None, None, {})


def test_measure_divides_by_the_calls_of_a_form(monkeypatch):
    monkeypatch.setattr("stylegan_ops.benchmark.cases.race", lambda forms, *rest: dict.fromkeys(forms, spread(1.0)))
    work = Work({"native": lambda: None}, 1e9, "GB/s", Limit(lambda: None, 2e9), calls=10, facts={"found": 1})
    row = measure(Case("ops", "op", "row", lambda: work, {"dtype": "float32"}), Options())
    assert row.values["native"].median == 0.1 and row.limit.median == 1.0 and row.limit_rate == 2
    assert row.facts == {"dtype": "float32", "found": 1}


def test_the_iteration_weighs_the_phases_by_the_lazy_schedule():
    seconds = {"G": 1.0, "path length": 2.0, "D": 4.0, "R1": 8.0}
    options = Options()
    rows = [
        Row(
            "training",
            phase,
            "",
            {"native": spread(seconds[phase]), "baseline": spread(3 * seconds[phase])},
            facts={"dtype": "float32", "pass": phase},
        )
        for phase in PHASES
    ]
    row = average("float32", options, rows)
    assert row.values["native"].median == pytest.approx(1 + 2 / 4 + 4 + 8 / 16) and row.ratios["baseline"] == pytest.approx(3)
    assert average("float32", options, rows[:-1]) is None and average("bfloat16", options, rows) is None


def test_live_tensors_are_counted_at_their_peak():
    mib = 2**20

    def grow():
        a = torch.ones(mib // 4)
        b = torch.ones(2 * mib // 4)
        del a
        c = torch.ones(3 * mib // 4)
        del b, c

    assert memory.peak_of_live_tensors(grow) == 5 * mib


def test_tensors_inside_a_backward_pass_count():
    x = torch.randn(4, 8, 32, 32)

    def train():
        w = torch.randn(8, 8, 3, 3, requires_grad=True)
        y = torch.nn.functional.conv2d(x, w, padding=1)  # kept for the square's derivative
        y.square().sum().backward()  # the square, its gradient, the product with y

    assert 3 * x.nbytes <= memory.peak_of_live_tensors(train) <= 5 * x.nbytes


def test_resident_set_is_this_process_alone():
    before = memory.peak_resident_set()
    block = torch.ones(2**26)  # 256 MiB
    assert memory.peak_resident_set() - before >= 0 and memory.peak_resident_set() > block.nbytes


def test_rows_come_in_order_with_progress():
    work = jobs(["ops"], Options(dtypes=("float32",), only="pixel_norm, small: [1, 64"))
    seen = []
    iterator = run(work, lambda i, job: seen.append((i, job.title)))
    assert len(work) == 3 and seen == []
    next(iterator)
    assert seen == [(1, "pixel_norm, small: [1, 64, 4, 4], float32")]
