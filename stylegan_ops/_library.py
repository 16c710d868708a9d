"""Finds and loads the compiled libraries at import, and keeps what was found and why not. Never raises.

`_C` holds the operators' schemas and CPU kernels, `_C_cuda` the CUDA kernels for the same schemas. Both are built by setup.py, which
leaves its decisions in `_build_info.json` beside them.
"""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Library:
    """One compiled library: where it is and whether it is in use; if it is not, why, and what mends it."""

    path: str | None
    loaded: bool
    reason: str | None = None
    remedy: str | None = None


def build_facts() -> dict[str, Any]:
    """What setup.py decided and found; empty where nothing was built."""
    try:
        return json.loads((FOLDER / "_build_info.json").read_text())
    except (OSError, ValueError):
        return {}


def install_command() -> str:
    """The command that builds this copy of the package anew, with the torch that runs now."""
    checkout = FOLDER.parent
    if (checkout / "setup.py").is_file():
        return f"{sys.executable} -m pip install --no-build-isolation -e {checkout}"
    return f"{sys.executable} -m pip install --no-build-isolation --no-deps --no-cache-dir --force-reinstall stylegan_ops"


def _load(name: str, file_stem: str) -> Library:
    path = next((str(path) for path in sorted(FOLDER.glob(f"{file_stem}.*so"))), None)
    if os.environ.get("STYLEGAN_OPS_NATIVE") == "0":
        return Library(path, False, "STYLEGAN_OPS_NATIVE=0 is set", "unset STYLEGAN_OPS_NATIVE")
    if path is None:
        decision = build_facts().get("libraries", {}).get(name)
        if decision is None:
            return Library(None, False, "the package was not built", install_command())
        if decision["build"]:
            return Library(None, False, f"{FOLDER} has lost the library that was built", install_command())
        return Library(None, False, decision["reason"], _remedy(decision["reason"]))
    try:
        torch.ops.load_library(path)
    except Exception as error:  # the loader's errors have no common type, and none of them may break the import
        if name == "cuda" and torch.version.cuda is None:
            remedy = "install a torch with CUDA (https://pytorch.org/get-started/locally)"
            return Library(path, False, f"torch {torch.__version__} is built without CUDA", remedy)
        return Library(path, False, f"it does not load: {error.__cause__ or error}", install_command())
    return Library(path, True)


def _remedy(reason: str) -> str | None:
    """What to do before building anew, judged by the reason for which setup.py left a library out."""
    steps = {
        "C++ compiler": "install g++ or clang++ (Debian, Ubuntu: apt install g++), then ",
        "no nvcc": "install the CUDA toolkit (nvcc) or set CUDA_HOME, then ",
        "was built without CUDA": "install a torch with CUDA (https://pytorch.org/get-started/locally), then ",
        "does not fit torch": "install the CUDA toolkit of torch's major version, or a torch for this toolkit, then ",
        "STYLEGAN_OPS_": "unset it, then ",
    }
    step = next((step for words, step in steps.items() if words in reason), None)
    return None if step is None else step + install_command()


def _load_all() -> dict[str, Library]:
    cpu = _load("cpu", "_C")
    if cpu.loaded or cpu.reason == "STYLEGAN_OPS_NATIVE=0 is set":
        return {"cpu": cpu, "cuda": _load("cuda", "_C_cuda")}
    # Without the schemas the CUDA library has nothing to attach its kernels to.
    return {"cpu": cpu, "cuda": Library(None, False, "it needs the CPU library, which is not loaded", cpu.remedy)}


LIBRARIES: dict[str, Library] = _load_all()


def leave_out(reason: str) -> None:
    """Goes on without the libraries that were loaded: they are not this package's."""
    for name, library in LIBRARIES.items():
        if library.loaded:
            LIBRARIES[name] = Library(library.path, False, reason, install_command())


def compiled(device_type: str) -> Library:
    """The library for the tensors of a device, loaded or not."""
    missing = Library(None, False, f"stylegan_ops has no kernels for {device_type} tensors", "move the tensors to the CPU or a CUDA device")
    return LIBRARIES.get(device_type, missing)


def build_info() -> dict[str, Any]:
    """Says which build of stylegan_ops runs: versions, libraries and the processor's instruction set in use.

    Returns:
        dict of plain JSON values: `version`, `python`, `torch`, `torch_cuda` (str or None); `cpu_variant` (str, the instruction set
        of the CPU kernels in use, or None without the library) and `cpu_variants_built` (list of str); `libraries`, a dict from
        "cpu" and "cuda" to `path`, `loaded`, `reason` and `remedy`; `build`, the facts of the build, empty where nothing was built.
    """
    from stylegan_ops import __version__

    facts = build_facts()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "cpu_variant": _cpu_variant(),
        "cpu_variants_built": facts.get("cpu_variants", []),
        "libraries": {name: asdict(library) for name, library in LIBRARIES.items()},
        "build": facts,
    }


def _cpu_variant() -> str | None:
    if not LIBRARIES["cpu"].loaded:
        return None
    from stylegan_ops.ops import cpu_variant  # here, since the ops need this module first

    return cpu_variant()
