"""The head of a report: machine, versions, threads, commit."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import stylegan_ops

from .cases import Options

ROOT = Path(stylegan_ops.__file__).resolve().parents[1]


def prepare(options: Options, threads: int) -> Options:
    """Sets up this process: threads, the allocator, and on a GPU float32 without TF32, so that all forms compute alike.

    Returns:
        The options, cold where the C library cannot keep freed memory.
    """
    torch.set_num_threads(threads)
    if torch.device(options.device).type == "cuda":
        torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "ieee"
    return dataclasses.replace(options, warm=options.warm and stylegan_ops.keep_freed_memory())


def describe(options: Options) -> dict[str, Any]:
    """What a reader must know to compare two reports, in plain values."""
    on_gpu = torch.device(options.device).type == "cuda"
    units = {"AMX": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
    return {
        "processor": processor(),
        "matrix units": ", ".join(name for name, there in units.items() if there) or "none",
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(options.device) if on_gpu else "CPU",
        "kernels": stylegan_ops.build_info()["cpu_variant"] or "none",
        **({"float32": "without TF32"} if on_gpu else {}),
        "allocator": f"{options.allocator} ({'keeps' if options.warm else 'returns'} freed memory)",
        "stylegan_ops": stylegan_ops.__version__,
        "commit": commit() or "not a checkout",
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.machine()


def commit() -> str | None:
    """That of the checkout which the package lies in, with "and changes" where files differ from it; None outside of one."""
    if not (ROOT / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
