"""benchmarks/compare.py, on made-up runs."""

import json

import compare
import pytest


def write(path, **benchmarks):
    """A file of pytest-benchmark: name -> (q1, median, q3)."""
    rows = [{"fullname": name, "stats": dict(zip(("q1", "median", "q3"), stats, strict=True))} for name, stats in benchmarks.items()]
    path.write_text(json.dumps({"machine_info": {"cpu": {"brand_raw": "A", "count": 2}}, "benchmarks": rows}))
    return str(path)


OLD = {"still": (0.9, 1.0, 1.1), "noisy": (0.5, 1.0, 1.6), "slow": (0.9, 1.0, 1.1), "little": (0.999, 1.0, 1.001), "gone": (1, 1, 1)}


def test_only_what_is_beyond_threshold_and_noise_counts(tmp_path, capsys):
    new = {
        "still": (0.95, 1.02, 1.1),
        "noisy": (0.6, 1.5, 2.0),
        "slow": (1.4, 1.5, 1.6),
        "little": (1.049, 1.05, 1.051),
        "fresh": (1, 1, 1),
    }
    files = [write(tmp_path / "a.json", **OLD), write(tmp_path / "b.json", **new)]
    assert compare.main(files) == 1
    said = capsys.readouterr().out
    slower = said.partition("slower:\n")[2].partition("\n\n")[0]
    assert slower.split() == ["1.50x", "the", "time", "1000.0000", "ms", "->", "1500.0000", "ms", "slow"]
    assert "4 compared, 1 slower, 0 faster" in said
    assert "1 only in the old run: gone" in said and "1 new: fresh" in said

    assert compare.main([*files, "--threshold", "0.04"]) == 1  # "little" grew by 5 % without noise
    assert "4 compared, 2 slower" in capsys.readouterr().out
    assert compare.main([*files, "--threshold", "0.6"]) == 0


def test_what_became_faster_is_no_failure(tmp_path, capsys):
    new = {**OLD, "slow": (0.4, 0.5, 0.6)}
    assert compare.main([write(tmp_path / "a.json", **OLD), write(tmp_path / "b.json", **new)]) == 0
    assert "0 slower, 1 faster" in capsys.readouterr().out


def test_another_machine_is_said(tmp_path, capsys):
    a, b = write(tmp_path / "a.json", **OLD), write(tmp_path / "b.json", **OLD)
    report = json.loads((tmp_path / "b.json").read_text())
    report["machine_info"]["cpu"]["brand_raw"] = "B"
    (tmp_path / "b.json").write_text(json.dumps(report))
    assert compare.main([a, b]) == 0
    assert "The machines differ: A, 2 cores; B, 2 cores." in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"benchmarks": [{}]}', '{"benchmarks": [{"fullname": "x", "stats": {}}]}'])
def test_rejects_other_files(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SystemExit, match=r"compare: must be a file of pytest --benchmark-json \(.*a\.json"):
        compare.main([str(tmp_path / "a.json"), write(tmp_path / "b.json", **OLD)])


def test_rejects_files_without_a_common_benchmark_and_bad_thresholds(tmp_path, capsys):
    files = [write(tmp_path / "a.json", x=(1, 1, 1)), write(tmp_path / "b.json", y=(1, 1, 1))]
    with pytest.raises(SystemExit, match="must have a benchmark in common"):
        compare.main(files)
    with pytest.raises(SystemExit):
        compare.main([*files, "--threshold", "-1"])
    assert "--threshold: must be a finite number of at least 0 (-1.0)" in capsys.readouterr().err
