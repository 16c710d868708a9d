"""`stylegan-ops benchmark` with tiny sizes: what it prints and writes, and how it refuses. Nothing here depends on how fast anything is."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from stylegan_ops import ops
from stylegan_ops._library import LIBRARIES
from stylegan_ops.cli import benchmark, main

ROOT = Path(__file__).resolve().parents[2]
needs_native = pytest.mark.skipif(not LIBRARIES["cpu"].loaded, reason="the CPU library is not loaded")
QUICK = ["--seconds", 0.001]
TINY = [*QUICK, "--resolution", 8, "--channel-base", 32, "--batch", 2]


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def small_limit(monkeypatch):
    """The dense convolution that limits the networks would take most of the time."""
    from stylegan_ops.benchmark import models

    monkeypatch.setattr(models, "dense_convolution", functools.partial(models.dense_convolution, size=4))


def invoke(*arguments):
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


def run(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_help_names_every_option_with_its_unit():
    text = re.sub(r"\s+", " ", run("--help"))
    for part in (
        "[ops|models|training]...",
        "--batch IMAGES",
        "--seconds S",
        "--resolution PIXELS",
        "--threads N",
        "--json FILE",
        "--html FILE",
        "Examples:",
    ):
        assert part in text
    for option in benchmark.command.params[1:]:
        assert getattr(option, "help", None), option.name


def test_the_lists_of_choices_are_the_benchmarks_own():
    """The command knows them without importing torch."""
    from stylegan_ops.benchmark import cases
    from stylegan_ops.benchmark import run as runner

    assert tuple(cases.FORMS) == benchmark.FORMS
    assert tuple(cases.DTYPES) == benchmark.DTYPES
    assert tuple(runner.SECTIONS) == benchmark.SECTIONS


@needs_native
def test_every_op_has_rows_in_every_dtype_and_layout():
    titles = run("ops", "--list").splitlines()
    for op in ops.NAMES:
        mine = [title for title in titles if title.startswith(f"{op}: ")]
        dtypes = ("float32", "bfloat16") if op == "modulated_conv2d" else ("float64", "float32", "bfloat16", "float16")
        for kind in (
            f"{which}, {dtype} {layout}"
            for which in ("forward", "backward")
            for dtype in dtypes
            for layout in ("contiguous", "channels_last")
        ):
            assert any(title.endswith(kind) for title in mine), (op, kind)
    assert len({title.split(",")[0] for title in titles if title.startswith("bias_act: ")}) == 9
    assert len(titles) == len(set(titles))


@needs_native
def test_ops(tmp_path):
    path = tmp_path / "ops.json"
    text = run(
        "ops", *QUICK, "--only", "pixel_norm, small: [1, 64", "--compare", "native,baseline,reference", "--threads", 1, "--json", path
    )
    assert re.search(r"^ +threads  1$", text, re.MULTILINE) and re.search(r"^ +allocator  (warm|cold)", text, re.MULTILINE)
    assert re.search(r"^pixel_norm, small +native +baseline +reference +over an empty op$", text, re.MULTILINE)
    assert len(re.findall(r"^  \[1, 64, \d+, \d+\], float32 +[\d.]+ (us|ms) ", text, re.MULTILINE)) == 3
    report = json.loads(path.read_text())
    assert [row["name"] for row in report["rows"]] == [f"[1, 64, {s}, {s}], float32" for s in (4, 8, 16)]
    assert {*report["rows"][0]["values"]} == {"native", "baseline", "reference", "empty"}
    assert report["machine"]["torch"] == torch.__version__
    assert list(tmp_path.iterdir()) == [path]


@needs_native
def test_a_memory_bound_op_has_its_share_of_a_copy(monkeypatch, tmp_path):
    from stylegan_ops.benchmark import cases

    monkeypatch.setattr(cases.memory_cases, "__defaults__", ((2, 128, 4, 4),))  # for the bias of 128 channels
    text = run("ops", *QUICK, "--only", "bias_act: swish", "--dtype", "float64,float16", "--json", tmp_path / "x.json")
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert len(rows) == 8 and "GB/s" in text
    for row in rows:
        size = 2 * 128 * 16 * (8 if "float64" in row["name"] else 2)
        assert row["amount"] == (3 if "backward" in row["name"] else 2) * size == row["limit_amount"]
        assert row["share"] == pytest.approx(row["limit"]["median"] / row["values"]["native"]["median"])
        assert row["ratios"]["baseline"] == pytest.approx(row["values"]["baseline"]["median"] / row["values"]["native"]["median"])


@needs_native
def test_models_and_their_scaling(monkeypatch, tmp_path):
    from stylegan_ops.benchmark import models

    monkeypatch.setattr(models, "RESOLUTIONS", (8, 16))
    monkeypatch.setattr(models, "BATCHES", (1, 3))
    text = run("models", *TINY, "--compare", "native,baseline,autocast,reference", "--scaling", "--json", tmp_path / "x.json", "--cold")
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    names = [(row["group"], row["name"]) for row in rows]
    for network in ("G", "D"):
        for dtype in ("float32", "bfloat16"):
            assert (f"{network} forward", f"8 px, batch 2, channel_base 32, {dtype}, cold") in names
        for point in ("by resolution: 16 px, batch 1", "by batch: 8 px, batch 3"):
            assert (f"{network} forward", f"{point}, float32, cold") in names
    assert all({*row["values"]} == {"native", "baseline", "autocast", "reference"} for row in rows)
    assert all(row["facts"]["errors"]["native"] < models.TOLERANCE[row["facts"]["dtype"]] for row in rows)
    assert "baseline: " in text and "GFLOP/s" in text


@needs_native
def test_training(tmp_path):
    text = run("training", *TINY, "--dtype", "float32", "--json", tmp_path / "x.json", "--html", tmp_path / "x.html")
    rows = {row["group"]: row for row in json.loads((tmp_path / "x.json").read_text())["rows"]}
    seconds = {phase: rows[f"{phase} phase"]["values"]["native"]["median"] for phase in ("G", "D", "R1", "path length")}
    average = rows["iteration, G + D + R1 / 16 + path length / 4"]["values"]["native"]["median"]
    assert average == pytest.approx(seconds["G"] + seconds["D"] + seconds["R1"] / 16 + seconds["path length"] / 4)
    live, resident = rows["peak of live tensor bytes"], rows["peak resident set of a fresh process"]
    for form in ("native", "baseline"):
        assert 10e6 < live["values"][form]["median"] < resident["values"][form]["median"]  # the mapping network's Adam alone
    assert "relative error: G " in text and re.search(r"fresh process +native +baseline\n.* \d+ MB +\d+ MB", text)
    assert "ru_maxrss" not in text and "<svg" in (tmp_path / "x.html").read_text()


@needs_native
def test_disagreeing_forms_are_not_timed(monkeypatch):
    from stylegan_ops.benchmark import models

    monkeypatch.setitem(models.TOLERANCE, "float32", 0.0)
    result = invoke("models", *TINY, "--dtype", "float32", "--only", "G forward")
    assert result.exit_code == 1
    assert re.search(r"Error: G forward, float32: native must agree with the others \(relative error .*\); nothing is timed", result.output)


@needs_native
@pytest.mark.parametrize(
    ("error", "status", "says"), [(RuntimeError("no memory"), 1, "Error: no memory"), (KeyboardInterrupt(), 1, "Aborted!")]
)
def test_what_was_measured_is_kept(monkeypatch, tmp_path, error, status, says):
    from stylegan_ops.benchmark import run as runner

    measure, rows = runner.measure, []

    def fails_at_the_second(case, options):
        if rows:
            raise error
        rows.append(measure(case, options))
        return rows[0]

    monkeypatch.setattr(runner, "measure", fails_at_the_second)
    files = [tmp_path / "x.json", tmp_path / "x.html"]
    result = invoke("ops", *QUICK, "--only", "pixel_norm, small: [1, 64", "--json", files[0], "--html", files[1])
    assert result.exit_code == status and says in result.output and "1 of 3 rows" in result.output
    (row,) = json.loads(files[0].read_text())["rows"]
    assert row["name"] == "[1, 64, 4, 4], float32" and row["name"] in files[1].read_text()


WRONG = {
    "--dtype float32,int8": "'--dtype': must be of float64, float32, bfloat16, float16, joined by commas ('int8')",
    "--compare native,nothing": "'--compare': must be of native, baseline, autocast, reference, compile, joined by commas ('nothing')",
    "--resolution 100": "'--resolution': must be a power of two of at least 8 ('100')",
    "--seconds 0": "'--seconds': must be a finite number above 0 ('0')",
    "--seconds inf": "'--seconds': must be a finite number above 0 ('inf')",
    "--batch 0": "'--batch': 0 is not in the range x>=1",
    "--channel-base 64": "--channel-base: must be at least the resolution, 128 (64)",
    "--device tpu": "--device: must be cpu or cuda ('tpu')",
    "--device xpu": "--device: must be cpu or cuda ('xpu')",
    "--only nosuchrow": "--only: must be part of a row's title; --list shows them ('nosuchrow')",
    "--json no/such/folder/x.json": "--json: must lie in a folder that exists ('no/such/folder/x.json')",
    "training --compare baseline,compile": "--compare: must be of native, baseline, autocast, reference for training: a compiled",
    "training --dtype float64": "--dtype: must be of float32, bfloat16, float16 for training ('float64')",
    "everything": "'everything' is not one of 'ops', 'models', 'training'",
}


@needs_native
@pytest.mark.parametrize("arguments", WRONG)
def test_rejects_with_option_rule_and_value(arguments):
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert WRONG[arguments] in re.sub(r"\s+", " ", result.output)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_rejects_a_gpu_that_is_not_there():
    result = invoke("--device", "cuda")
    assert result.exit_code == 2 and "--device: must be there: this torch finds no GPU" in result.output


def test_runs_without_the_compiled_library_on_the_forms_that_are_left():
    environment = os.environ | {"STYLEGAN_OPS_NATIVE": "0", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "stylegan_ops", "benchmark", "ops", "--seconds", "0.001", "--only", "pixel_norm, small: [1, 64, 4"]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert refused.returncode == 2 and "--compare: must name forms that run here" in refused.stderr
    done = subprocess.run([*command, "--compare", "reference,baseline"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^pixel_norm, small +baseline +reference ", done.stdout, re.MULTILINE)


@needs_native
def test_needs_no_extra(tmp_path):
    """torch, numpy and click are enough, for the page too."""
    code = "import sys; sys.modules |= dict.fromkeys(['PIL', 'tqdm', 'tensorboard', 'matplotlib', 'pytest_benchmark'])\n"
    code += "from stylegan_ops.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "benchmark",
        "models",
        *map(str, TINY),
        "--html",
        str(tmp_path / "x.html"),
        "--only",
        "D forward",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "D forward" in (tmp_path / "x.html").read_text()


@needs_native
@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="needs the source tree")
def test_the_same_cases_run_under_pytest_benchmark(tmp_path):
    pytest.importorskip("pytest_benchmark")
    import compare

    path = tmp_path / "run.json"
    command = [sys.executable, "-m", "pytest", "-q", "benchmarks", "-k", "pixel_norm and small and 8 and 64", f"--benchmark-json={path}"]
    quick = ["--benchmark-min-rounds=1", "--benchmark-max-time=0.001", "--benchmark-warmup=off", "-p", "no:cacheprovider"]
    # A run of its own, not a worker's of the one that this test may be part of: a worker writes no results.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run([*command, *quick], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(path.read_text())["benchmarks"]
    assert "pixel_norm, small: [1, 64, 8, 8], float32" in found["fullname"] and found["extra_info"]["dtype"] == "float32"
    assert compare.main([str(path), str(path)]) == 0
