"""`stylegan-ops train`."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from training_helpers import environment

from stylegan_ops.cli import main
from stylegan_ops.training import latest_checkpoint, load_checkpoint

SMALL = ["--batch", "8", "--channel-base", "64", "--channel-max", "8", "--z-dim", "8", "--w-dim", "8", "--mapping-layers", "2"]


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_trains_resumes_and_refuses(data_path, tmp_path, keep_threads):
    run = tmp_path / "run"
    train = ["train", data_path, "--outdir", run]
    result = invoke(*train, *SMALL, "--kimg", 0.016, "--workers", 0, "--threads", 1, "--seed", 3, "--xflip", "--precision", "float32")
    assert result.exit_code == 0, result.output
    for part in ("48 images", "8x8 RGB", "stylegan2 (skip, resnet): G 0.0", "cpu, 1 threads, float32", "after 0.016 kimg"):
        assert part in result.output
    last = result.stdout.splitlines()
    assert last == [f"Generated images: {run}/grids/kimg000000.png", f"Checkpoint: {run}/checkpoint-000000016.pt"]

    again = invoke(*train, *SMALL)
    assert again.exit_code == 1
    assert "Error: train: outdir must not hold another run; continue that one with --resume latest" in again.output

    other = invoke(*train, "--resume", "latest", "--batch", 4)
    assert other.exit_code == 1
    assert "Error: TrainingConfig: batch_size must stay 8 in a resumed run (4)" in other.output

    longer = invoke(*train, "--resume", "latest", "--kimg", 0.024)
    assert longer.exit_code == 0, longer.output
    state = load_checkpoint(run / "checkpoint-000000024.pt")
    assert (state["config"]["seed"], state["config"]["kimg"], state["config"]["xflip"]) == (3, 0.024, True)
    assert json.loads((run / "config.json").read_text())["config"]["kimg"] == 0.024

    branch = invoke("train", data_path, "--outdir", tmp_path / "branch", "--resume", run / "checkpoint-000000016.pt", "--kimg", 0.024)
    assert branch.exit_code == 0, branch.output
    assert (tmp_path / "branch" / "checkpoint-000000024.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", 0], "Error: TrainingConfig: batch_size must be at least 1 (0)"),
        (["--minutes", -1], "Error: TrainingConfig: minutes must be above 0 (-1.0)"),
        (["--channel-base", 4], "channel_base must be at least"),
        (["--resume", "latest"], "must hold a file checkpoint-*.pt to resume from"),
        (["--resume", "absent.pt"], "Error: checkpoint: 'absent.pt' must be a file"),
    ],
)
def test_rejects_bad_options(data_path, tmp_path, arguments, message):
    result = invoke("train", data_path, "--outdir", tmp_path / "run", *arguments)
    assert result.exit_code == 1
    assert message in result.output


def test_rejects_data_that_is_not_prepared(tmp_path):
    (tmp_path / "file.zip").write_bytes(b"no zip")
    result = invoke("train", tmp_path / "file.zip", "--outdir", tmp_path / "run")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("module", ["PIL", "tqdm", "tensorboard"])
def test_names_the_missing_extra(data_path, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    result = invoke("train", data_path, "--outdir", tmp_path / "run")
    assert result.exit_code == 1
    assert f'{module} is not installed; run: pip install "stylegan_ops[train]"' in result.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_says_how_to_go_on(data_path, tmp_path, number, code):
    """Ctrl-C and a job manager's SIGTERM reach the whole process group, the loader's workers too."""
    run = tmp_path / "run"
    options = [*SMALL, "--kimg", "1000", "--workers", "2", "--snapshot-kimg", "0.008"]
    program = [sys.executable, "-m", "stylegan_ops", "train", str(data_path), "--outdir", str(run), *options]
    process = subprocess.Popen(
        program, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not list(run.glob("checkpoint-*.pt")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, number)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert f"Stopped by {number.name}. To go on:" in errors
    images = load_checkpoint(latest_checkpoint(run))["images"]
    assert f"Checkpoint: {run}/checkpoint-{images:09d}.pt" in output
    command = shlex.split(re.search(r"To go on:\n +(.*)", errors)[1])
    assert command[0] == "stylegan-ops"
    resumed = invoke(*command[1:], "--kimg", (images + 8) / 1000)
    assert resumed.exit_code == 0, resumed.output
    assert load_checkpoint(latest_checkpoint(run))["images"] == images + 8


def test_help_explains_every_option():
    from stylegan_ops.cli.train import command

    assert invoke("train", "--help").exit_code == 0
    for option in command.params[1:]:
        assert option.help and option.help.endswith((".", "]")), option.name
