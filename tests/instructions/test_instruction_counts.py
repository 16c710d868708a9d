"""No change makes the kernels execute more instructions unseen: see count.py."""

import count
import pytest


def test_instruction_counts_are_those_recorded():
    if count.why_not():
        pytest.skip(count.why_not())
    rows = count.recorded()
    if count.compiler() not in rows:
        pytest.skip(f"the counts are recorded for {', '.join(rows)}, not for {count.compiler()}")
    departures = count.departures(count.ratios(), rows[count.compiler()])
    assert not departures, "\n".join(departures)


@pytest.mark.parametrize(("ratio", "text"), [(1.04, "4.0% more"), (0.96, "4.0% fewer")])
def test_a_change_beyond_the_tolerance_is_named_both_ways(monkeypatch, ratio, text):
    monkeypatch.setattr(count, "compiler", lambda: "gcc 12")
    assert count.departures({"bias_act": 1.02, "upfirdn2d": 0.98}, {"bias_act": 1.0, "upfirdn2d": 1.0}) == []
    (line,) = count.departures({"bias_act": ratio}, {"bias_act": 1.0})
    assert line.startswith(f"bias_act: {text} instructions than recorded") and line.endswith("count.py --record")
