"""A copy of the CUDA library whose kernels run only a sample of their blocks, so that layers of full size can be counted in an emulator.

A check is written into the head of every kernel's PTX: block b of B goes on if B times the fraction of b / golden ratio is below the
sample's size, and ends at once otherwise. These fractions are spread evenly whatever the period of a pattern is, so that tiles at the
edges, phases and splits are met about as often as they are in the whole grid. Up to that many blocks, all run. Counts are then scaled by
blocks / sampled blocks; the check's own instructions are taken off.
"""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np

GOLDEN = 0x9E3779B9  # 2^32 / golden ratio
CHECK = (
    ".reg .pred sp; .reg .b32 s<6>; mov.u32 s0,%ctaid.x; mov.u32 s1,%ctaid.y; mov.u32 s4,%ctaid.z; "
    "mov.u32 s2,%nctaid.x; mov.u32 s3,%nctaid.y; mov.u32 s5,%nctaid.z; "
    "mad.lo.u32 s1,s4,s3,s1; mad.lo.u32 s0,s1,s2,s0; mul.lo.u32 s2,s2,s3; mul.lo.u32 s2,s2,s5; "
    "mul.lo.u32 s0,s0,{golden}; mul.hi.u32 s0,s0,s2; setp.ge.u32 sp,s0,{size}; @sp exit; "
)
CHECK_INSTRUCTIONS = {"mov": 6, "int": 6, "predicate": 1, "branch": 1}  # of every warp, in the emulator's classes
ENTRY = re.compile(rb"\.entry (\w+)\(\n.*?(?=\.entry |\0)", re.DOTALL)  # the debug information holds a copy with 0 for the ends of lines
LINE_NUMBER = re.compile(rb"^\.loc\t[^\n]*\n", re.MULTILINE)

Sizes = dict[str, int]  # of the sample, by a part of the kernel's name; the first one that fits counts


def size_of(kernel: str, sizes: Sizes) -> int:
    return next(size for part, size in sizes.items() if part in kernel)


def sampled_ptx(code: bytes, sizes: Sizes) -> bytes:
    """The library's code with the check in all of its PTX, in place: line numbers and long names of parameters make room."""

    def with_check(entry: re.Match[bytes]) -> bytes:
        text, name = entry[0], entry[1]
        head, brace, body = LINE_NUMBER.sub(b"", text).replace(name + b"_param_", b"p").partition(b"{")
        check = CHECK.format(golden=GOLDEN, size=size_of(name.decode(), sizes)).encode()
        room = len(text) - len(head + brace + check + body)
        if not brace or room < 0:
            raise RuntimeError(f"no room for the sample's check in the PTX of {name.decode()}")
        return head + brace + check + body + b" " * room

    code, kernels = ENTRY.subn(with_check, code)
    if kernels == 0:
        raise RuntimeError("the CUDA library holds no readable PTX: build it as .ci/test-cuda does")
    return code


def sampled_package(package: Path, folder: Path, sizes: Sizes) -> None:
    """Copies the built package into `folder`; its kernels then run about as many blocks of a launch as `sizes` says."""
    copy = folder / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    libraries = list(copy.glob("_C_cuda*.so"))
    if not libraries:
        raise RuntimeError(f"{package} holds no CUDA library: build it as .ci/test-cuda does")
    for library in libraries:
        library.write_bytes(sampled_ptx(library.read_bytes(), sizes))


def sampled_blocks(blocks: int, size: int) -> int:
    """How many of a launch's blocks ran."""
    fractions = np.arange(blocks, dtype=np.uint64) * np.uint64(GOLDEN) % np.uint64(2**32)
    return int(np.count_nonzero((fractions * np.uint64(blocks)) >> np.uint64(32) < size))


def scaled(launch: dict, sizes: Sizes) -> dict:
    """A launch's counts, as if all of its blocks had run."""
    blocks, warps_of_block = math.prod(launch["grid"]), -(-math.prod(launch["block"]) // 32)
    factor = blocks / sampled_blocks(blocks, size_of(launch["kernel"], sizes))

    def grown(value):
        return {k: grown(v) for k, v in value.items()} if isinstance(value, dict) else value * factor

    instructions = {k: v - CHECK_INSTRUCTIONS.get(k, 0) * blocks * warps_of_block for k, v in launch["warp_inst"].items()}
    counts = {k: v for k, v in launch.items() if isinstance(v, dict) or k.endswith(("_sectors", "_bytes"))}
    return {**launch, **grown({**counts, "warp_inst": instructions}), "factor": factor}
