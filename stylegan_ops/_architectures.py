"""Which code of the CUDA library a GPU runs, judged by the architectures that the library was built for.

A library holds machine code (`sm_80`), which runs from its own compute capability up to the next major one, and PTX (`compute_80`), which
the driver translates for every later GPU. What fits is found from the facts of the build: no launch has to fail for it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch

from . import _library

OLDEST = (7, 5)  # of the kernels themselves


class Code(NamedTuple):
    """One piece of code in the library. Sorted from the last, machine code comes before PTX and newer before older."""

    kind: str  # "sm" or "compute", as nvcc says it
    capability: tuple[int, int]
    suffix: str  # "a": for this architecture alone, "f": for its family

    def __str__(self) -> str:
        return f"{self.kind}_{self.capability[0]}{self.capability[1]}{self.suffix}"

    def runs_on(self, capability: tuple[int, int]) -> bool:
        if self.suffix == "a":
            return capability == self.capability
        stays = self.kind == "sm" or self.suffix == "f"
        return capability >= self.capability and (capability[0] == self.capability[0] or not stays)


class Fit(NamedTuple):
    """How the library suits a GPU: the code that runs there (None: unknown), or why there is none, and what mends it."""

    code: Code | None = None
    reason: str | None = None
    remedy: str | None = None


def contents(architectures: list[str]) -> list[Code] | None:
    """The code, best first, that a list of architectures stands for (`["8.0", "9.0a", "7.5+PTX"]`); None where one is a
    name (torch takes `Ampere`, too)."""
    found = set()
    for architecture in architectures:
        match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", architecture)
        if match is None:
            return None
        capability = int(match[1]), int(match[2])
        found |= {Code(kind, capability, match[3]) for kind in (("sm", "compute") if match[4] else ("sm",))}
    return sorted(found, reverse=True)


ARCHITECTURES: list[str] = _library.build_facts().get("cuda_architectures", [])
CONTENTS = contents(ARCHITECTURES)
_INSTALL = _library.install_command()
_fits: dict[int, Fit] = {}  # by the device's index; a dict and numbers, which Dynamo can trace


def fit(gpu: Any) -> Fit:
    """How the library suits a GPU, of which `torch.cuda.get_device_properties` tells `name`, `major` and `minor`."""
    capability = (gpu.major, gpu.minor)
    if capability < OLDEST:
        reason = f"{gpu.name} has compute capability {gpu.major}.{gpu.minor}, and the CUDA kernels need {OLDEST[0]}.{OLDEST[1]} or later"
        return Fit(None, reason, "move the tensors to the CPU or another GPU")
    if not CONTENTS:
        return Fit()
    for code in CONTENTS:
        if code.runs_on(capability):
            return Fit(code)
    built = ";".join(ARCHITECTURES)
    reason = f"the CUDA library was built for {built}, which {gpu.name} (compute capability {gpu.major}.{gpu.minor}) cannot run"
    return Fit(None, reason, f"TORCH_CUDA_ARCH_LIST='{gpu.major}.{gpu.minor};{built}' STYLEGAN_OPS_CUDA=1 {_INSTALL}")


def fit_of_device(index: int) -> Fit:
    """`fit` of the GPU of this index, remembered: every call of an op asks."""
    if index not in _fits:
        # Without a GPU the tensors are fakes, traced for another machine's.
        _fits[index] = fit(torch.cuda.get_device_properties(index)) if torch.cuda.is_available() else Fit()
    return _fits[index]
