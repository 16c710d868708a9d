"""Settings under which a step takes milliseconds, and what several test files share."""

import os
from pathlib import Path

import torch

import stylegan_ops

TINY = {
    "channel_base": 64,
    "channel_max": 8,
    "z_dim": 8,
    "w_dim": 8,
    "mapping_layers": 2,
    "batch_size": 8,
    "path_interval": 2,
    "r1_interval": 3,
    "snapshot_minutes": None,
    "workers": 0,
    "precision": "float32",
}


def environment(**more):
    """Environment of a process that is to import the same package as this one."""
    return {**os.environ, "PYTHONPATH": str(Path(stylegan_ops.__file__).parents[1]), **more}


def assert_same_bits(first, second):
    """Two checkpoints hold the same, but for the time it took and the settings of the run's length."""
    assert first.keys() == second.keys()
    for key in first:
        if isinstance(first[key], dict):
            assert_same_bits(first[key], second[key])
        elif isinstance(first[key], torch.Tensor):
            assert torch.equal(first[key], second[key]), key
        elif key not in ("seconds", "kimg", "snapshot_kimg"):
            assert first[key] == second[key], key
