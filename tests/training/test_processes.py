"""Several processes compute what one process computes on the same total batch."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_helpers import TINY, environment

from stylegan_ops.training import Processes, load_checkpoint
from stylegan_ops.training.presets import MODEL_DEFAULTS, WGAN_GP

STEPS = 5
SETTINGS = {**TINY, "noise_mode": "const", "conditional": True, "kimg": STEPS * 8 / 1000, "path_batch_shrink": 2}

# Growing ones see two steps at 4 pixels, two while 8 fade in, and one behind.
GROWTH = {"stabilize_kimg": 0.016, "fade_kimg": 0.016, "batch_per_resolution": "4:8"}
OF_FAMILY = {
    "stylegan2": {},
    "stylegan": {"model": "stylegan", **GROWTH},
    "progan": {"model": "progan", **MODEL_DEFAULTS["progan"], **WGAN_GP, "path_weight": 1.0, **GROWTH},
}


def run_processes(count, data_path, outdir, settings):
    """Run the trainer in `count` processes with torchrun's environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, Path(__file__).with_name("run_trainer.py"), data_path, outdir, json.dumps(settings), "float64"]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    processes = [
        subprocess.Popen(program, env=environment(**group, RANK=str(rank), LOCAL_RANK=str(rank)), stderr=subprocess.PIPE)
        for rank in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=240)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * count, outputs


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("family", ["stylegan2", "stylegan", "progan"])
def test_two_processes_equal_one(make_trainer, data_path, tmp_path, float64, family):
    """Losses, regularisers, weights, average, w_avg and path-length mean agree.

    In float64, since Adam divides each gradient by its own size: in float32 the sign of a gradient that cancels to nothing is rounding,
    and its weight moves by the whole learning rate, 0.0025. Here rounding leaves 1e-14, and any mistake a share of that rate.
    """
    settings = {**SETTINGS, **OF_FAMILY[family]}
    run_processes(2, data_path, tmp_path / "two", settings)
    two = load_checkpoint(tmp_path / "two" / "checkpoint-000000040.pt")
    one = load_checkpoint(make_trainer(tmp_path / "one", **settings).run().checkpoint)
    for name in ("G", "D", "G_ema", "path_length"):
        for key, value in one[name].items():
            if key == "synthesis.epilogue4_0.bias":  # the instance norm behind it takes out what it adds: its gradient is rounding alone
                continue
            torch.testing.assert_close(two[name][key], value, rtol=1e-10, atol=1e-10, msg=lambda text, at=f"{name}.{key}": f"{at}: {text}")


def test_half_an_environment_is_refused(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match="^train: RANK and WORLD_SIZE need MASTER_ADDR beside them, as torchrun sets them$"):
        Processes.from_environment()


def test_alone_without_torchruns_environment(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    processes = Processes.from_environment()
    assert (processes.rank, processes.world_size) == (0, 1)
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    processes.average_gradients([parameter])
    assert processes.average_(parameter.grad).tolist() == [1, 1]
    processes.close()
