"""Builds the kernels of csrc/cuda for the host and launches them on torch tensors, in several orders of blocks and threads.

The build is incremental and lies in build/cuda_on_host; with SANITIZE set it is one with AddressSanitizer and UBSan, for a process that has
their runtime library preloaded. Two libraries: the kernels, and the bindings, since that of the kernels may hold no other thread-local
variables (see host_executor.h).
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from closed_forms import CLOSED_FORMS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "csrc"
SANITIZE = bool(os.environ.get("STYLEGAN_OPS_SANITIZE"))
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"] if SANITIZE else []
FOLDER = ROOT / "build" / ("cuda_on_host_sanitized" if SANITIZE else "cuda_on_host")

# The slowest to compile first.
KERNELS = (
    "upfirdn2d",
    "modulated_conv2d",
    "conv_blur",
    "conv_epilogue",
    "adain",
    "filtered_lrelu",
    "modulated_conv2d_weight",
    "bias_act",
    "pixel_norm",
    "demodulation",
)

# nvcc makes no use of strict aliasing; _FORTIFY_SOURCE takes the leaving of a fiber for a broken stack.
FLAGS = [
    "-std=c++20",
    "-O0" if SANITIZE else "-O1",
    "-g1",
    "-fPIC",
    "-fno-strict-aliasing",
    "-U_FORTIFY_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    *SANITIZERS,
]
FLAGS += [
    "-Wno-unknown-pragmas",
    "-Wno-missing-field-initializers",
    "-Wno-sign-compare",
    f"-I{SOURCES}",
    f"-I{SOURCES / 'cuda'}",
    f"-I{HERE}",
]


def compiler() -> list[str]:
    """The C++ compiler's command, $CXX or g++; empty where there is none."""
    words = shlex.split(os.environ.get("CXX") or "g++")
    return words if shutil.which(words[0]) else []


def few(cases: Sequence, of: int = 4) -> Sequence:
    """The cases, or one of four of them where the sanitizers make each slow."""
    return cases[::of] if SANITIZE else cases


def why_not() -> str | None:
    """What is missing for the build, or None."""
    if not (SOURCES / "cuda").is_dir():
        return f"the kernels' sources are not in {SOURCES}"
    if not sys.platform.startswith("linux"):
        return "the host executor is written for Linux"
    if not compiler():
        return "there is no C++ compiler (g++, or set CXX)"
    for module in ("pybind11", "ninja"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's headers are not installed"
    return None


def ninja_file() -> str:
    """The build: one object for each source, in parallel, made again when what it includes has changed."""
    import pybind11

    python = [f"-isystem{path}" for path in (pybind11.get_include(), sysconfig.get_path("include"))]
    kernels = [*(SOURCES / "cuda" / f"{name}.cu" for name in KERNELS), HERE / "executor_kernels.cpp"]
    lines = [
        "rule compile",
        f"  command = {shlex.join(compiler())} {shlex.join(FLAGS)} $more -MD -MF $out.d -x c++ -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {shlex.join(compiler())} -shared {shlex.join(SANITIZERS)} $in -o $out '-Wl,-rpath,$$ORIGIN' -Wl,-z,defs $more",
        *(f"build {source.name}.o: compile {source}" for source in kernels),
        f"build bindings.o: compile {HERE / 'bindings.cpp'}",
        f"  more = {shlex.join(python)}",
        f"build libkernels.so: link {' '.join(source.name + '.o' for source in kernels)}",
        "build cuda_on_host.so: link bindings.o | libkernels.so",
        "  more = -L. -lkernels -Wl,-z,undefs",
    ]
    return "\n".join(lines) + "\n"


@cache
def build() -> str | None:
    """Brings the libraries up to date; returns the errors, or None."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the same test run
        (FOLDER / "build.ninja").write_text(ninja_file())
        made = subprocess.run([sys.executable, "-m", "ninja", "-C", str(FOLDER)], capture_output=True, text=True)
    return f"{made.stdout[-8000:]}{made.stderr[-2000:]}" if made.returncode != 0 else None


@cache
def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cuda_on_host", FOLDER / "cuda_on_host.so")
    bindings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bindings)
    return bindings


def module() -> ModuleType:
    """The bindings, built where that is needed."""
    errors = build()
    if errors is not None:
        raise RuntimeError(f"the kernels do not compile for the host:\n{errors}")
    return load()


ORDERS = {"forward": 0, "reverse": 1, "random": 2, "none": 3}  # of blocks and threads; none: the launch is recorded only
PLACEMENTS = {"start": 0, "end": 1, "unaligned": 2}  # of buffers between their guard pages
POINTED_TO = {"epilogue": "EpilogueOperands", "conv": "FusedConvParams"}  # the structs of fields that are pointers to one
ACTS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
DTYPES = {torch.float64: 0, torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}


def activation(act: str, alpha: float | None = None, gain: float | None = None, clamp: float | None = None) -> dict:
    """The fields of an Activation, with the activation's defaults."""
    form = CLOSED_FORMS[act]
    alpha, gain = form.alpha if alpha is None else alpha, form.gain if gain is None else gain
    return {"act": ACTS.index(act), "alpha": alpha, "gain": gain, "clamp": float("nan") if clamp is None else clamp}


def output(like: torch.Tensor | Sequence[int], dtype: torch.dtype | None = None) -> torch.Tensor:
    """A field that the kernel writes: of the shape and layout of another tensor, or contiguous."""
    like = like if isinstance(like, torch.Tensor) else torch.empty(like)
    return torch.empty_like(like, device="meta", dtype=dtype)


@dataclass(frozen=True)
class Device:
    """What launchers and kernels see of the device; few multiprocessors, so that loops over a grid loop."""

    architecture: int = 80
    multiprocessors: int = 2
    shared_kib: int = 99  # that a block may ask for


@dataclass(frozen=True)
class At:
    """A field that points to an element of the tensor's memory other than the first."""

    tensor: torch.Tensor
    element: int


class Launch:
    """One launch: buffers for the tensors among the fields, the struct, and what the kernel wrote."""

    def __init__(self, op: str, device: Device, fields: dict, order: str, placement: str):
        self.placement, self.buffers, self.structs = placement, {}, []
        module().settings(ORDERS[order], 1, device.architecture, device.multiprocessors, device.shared_kib * 1024)
        params = getattr(module(), "".join(word.capitalize() for word in op.split("_")) + "Params")()
        self._fill(params, fields)
        workspace = getattr(module(), f"{op}_workspace", None)
        if workspace is not None:
            self.workspace = self._buffer("workspace", workspace(params))
            params.workspace = self.workspace, 0
        getattr(module(), op)(params)

    def _fill(self, struct, fields):
        for name, value in fields.items():
            if isinstance(value, dict):
                inner = getattr(struct, name)
                if inner is None:  # a pointer; the struct behind it must outlive the launch
                    inner = getattr(module(), POINTED_TO[name])()
                    self.structs.append(inner)
                    setattr(struct, name, inner)
                self._fill(inner, value)
            elif isinstance(value, list):
                for inner, each in zip(getattr(struct, name), value, strict=False):
                    self._fill(inner, each)
            else:
                setattr(struct, name, self._place(name, value) if isinstance(value, torch.Tensor | At) else value)

    def _buffer(self, name: str, size: int):
        return module().Buffer(name, size, PLACEMENTS[self.placement])

    def _place(self, name: str, value: torch.Tensor | At):
        t, element = (value.tensor, value.element) if isinstance(value, At) else (value, 0)
        buffer = self._buffer(name, t.numel() * t.element_size())
        key = name if name not in self.buffers else f"{name} {len(self.buffers)}"  # structs within the struct may share names
        self.buffers[key] = buffer, t
        if not t.is_meta:
            np.asarray(buffer)[:] = bits(t)
        return buffer, element * t.element_size()

    def outputs(self) -> dict[str, torch.Tensor]:
        found = {}
        for name, (buffer, t) in self.buffers.items():
            written = torch.from_numpy(np.asarray(buffer).copy())
            if t.is_meta:
                found[name] = written.view(t.dtype).as_strided(t.shape, t.stride())
            else:
                assert torch.equal(written, torch.from_numpy(bits(t))), f"the kernel changed its input {name}"
        return found


def bits(t: torch.Tensor) -> np.ndarray:
    """The bytes of a dense tensor in the order in which they lie in memory."""
    return t.as_strided((t.numel(),), (1,)).view(torch.uint8).numpy()


def launch(op: str, on: Device = Device(), **fields) -> list[dict[str, torch.Tensor]]:
    """Launches an op's kernels in several orders of blocks and threads, which must give the same bits.

    Args:
        op: the launcher's name without `launch_`.
        on: the device that the launcher sees.
        fields: of its parameter struct; tensors become device buffers in the layout that they have, those of output() are written, and
            dictionaries are structs within the struct. A workspace is added where the op wants one.

    Returns:
        The outputs by name: of aligned buffers, and of ones that lie at addresses as their sizes have it.
    """
    runs = [("forward", "end"), ("reverse", "start"), ("random", "end"), ("random", "unaligned")]
    first, *others, unaligned = [Launch(op, on, fields, *run).outputs() for run in runs]
    for run, other in zip(runs[1:], others, strict=False):
        for name, value in first.items():
            assert np.array_equal(bits(value), bits(other[name])), f"{op}: {name} depends on the order: forward and {run[0]} differ"
    return [first, unaligned]


def plan(op: str, on: Device = Device(), **fields) -> list[tuple[str, tuple[int, int, int]]]:
    """The kernels, as symbols of their library, and grids of which a launch would consist."""
    Launch(op, on, fields, "none", "end")
    return module().launched()


@cache
def instantiations(kernel: str) -> set[str]:
    """Every instantiation of a kernel's template in the library, as symbols."""
    symbols = subprocess.run(["nm", "-D", "--defined-only", FOLDER / "libkernels.so"], capture_output=True, text=True, check=True).stdout
    names = (line.split()[-1] for line in symbols.splitlines())
    return {name for name in names if name.startswith(f"_ZN12stylegan_ops4cuda{len(kernel)}{kernel}I")}


def readable(symbols: set[str]) -> list[str]:
    return subprocess.run(["c++filt", "-p", *sorted(symbols)], capture_output=True, text=True, check=True).stdout.splitlines()
