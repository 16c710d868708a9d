"""SIGKILL in the middle of a run costs nothing but the steps since the last checkpoint."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_helpers import TINY, assert_same_bits, environment

from stylegan_ops.training import latest_checkpoint, load_checkpoint
from stylegan_ops.training.checkpoint import list_checkpoints

LIMIT = 120  # seconds that a start on a busy machine may take


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_killed_and_resumed_run_has_the_same_bits(make_trainer, data_path, tmp_path, keep_threads, precision):
    settings = {"precision": precision, "workers": 2, "threads": 2, "snapshot_kimg": 0.016, "kimg": 1000.0}
    killed = tmp_path / "killed"
    program = [sys.executable, Path(__file__).with_name("run_trainer.py"), data_path, killed, json.dumps({**TINY, **settings}), "float32"]
    process = subprocess.Popen(program, env=environment(), stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + LIMIT
        while not list_checkpoints(killed):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()

    state = load_checkpoint(latest_checkpoint(killed))
    settings["kimg"] = (state["images"] + 3 * 8) / 1000
    resumed = make_trainer(killed, resume=state, **settings).run()
    whole = make_trainer(tmp_path / "whole", **{**settings, "snapshot_kimg": None}).run()
    assert_same_bits(load_checkpoint(whole.checkpoint), load_checkpoint(resumed.checkpoint))
