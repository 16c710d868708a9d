"""Runs a Trainer in a process of its own: `python run_trainer.py DATA OUTDIR SETTINGS DTYPE`, SETTINGS being JSON."""

import json
import sys

import torch

from stylegan_ops.data import ImageDataset
from stylegan_ops.training import Processes, Trainer, TrainingConfig

if __name__ == "__main__":
    data, outdir, settings, dtype = sys.argv[1:]
    torch.set_default_dtype(getattr(torch, dtype))
    processes = Processes.from_environment()
    Trainer(TrainingConfig(**json.loads(settings)), ImageDataset(data), outdir, processes).run()
    processes.close()
