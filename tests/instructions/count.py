"""Counts the instructions of three small cases under callgrind, as ratios to a scalar loop built in the same run.

    python tests/instructions/count.py             # prints the ratios and those recorded
    python tests/instructions/count.py --record    # records them for this compiler, after a change that is meant

Counts, unlike times, are the same on every machine: the AVX2 kernels, which valgrind runs, without torch, in one thread. They depend on the
compiler, so that recorded.json has a row for each major version.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDED = HERE / "recorded.json"
CASES = ("bias_act", "upfirdn2d", "pixel_norm_backward")
KERNELS = ("upfirdn2d", "bias_act", "pixel_norm")  # the slowest to compile first
TOLERANCE = 0.03
PLAIN = ["-O1", "-fno-tree-vectorize"]  # of the program around the kernels, with the scalar loop
MACROS = ["-DCPU_VARIANT=avx2", "-DSTYLEGAN_OPS_X86_VARIANTS"]


def compiler_command() -> list[str]:
    """The compiler that the package is built with, or nothing where there is none."""
    words = shlex.split(os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), ""))
    return words if words and shutil.which(words[0]) else []


@cache
def compiler() -> str:
    """Name and major version, as in recorded.json."""
    macros = subprocess.run([*compiler_command(), "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, text=True, check=True).stdout
    for name, macro in (("clang", "__clang_major__"), ("gcc", "__GNUC__")):
        if version := re.search(rf"^#define {macro} (\d+)$", macros, re.MULTILINE):
            return f"{name} {version[1]}"
    return "another compiler"


def recorded() -> dict[str, dict[str, float]]:
    return json.loads(RECORDED.read_text())


def why_not() -> str | None:
    """What keeps the instructions from being counted here, or None."""
    if not (ROOT / "csrc").is_dir() or not (ROOT / "setup.py").is_file():
        return "needs the source tree"
    if platform.machine() not in ("x86_64", "AMD64") or " avx2 " not in Path("/proc/cpuinfo").read_text():
        return "needs a processor with AVX2"
    if not shutil.which("valgrind"):
        return "needs valgrind (Debian's package of that name)"
    if not compiler_command():
        return "needs a C++ compiler (g++, or set CXX)"
    return None


def kernel_flags() -> list[str]:
    """The flags that setup.py compiles the AVX2 kernels with, read from its text: running it would build the package."""
    found = {}
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        for assignment in ast.walk(node):
            if isinstance(assignment, ast.Assign):
                found[ast.unparse(assignment.targets[0])] = assignment.value
    return ["-O3", *ast.literal_eval(found["KERNEL_FLAGS"]), *ast.literal_eval(found["CPU_VARIANTS['avx2']"])]


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


def instructions(program: Path, case: str) -> int:
    out = program.with_name(f"{case}.callgrind")
    run("valgrind", "--tool=callgrind", "--toggle-collect=counted", f"--callgrind-out-file={out}", program, case)
    return int(re.search(r"^totals: (\d+)$", out.read_text(), re.MULTILINE)[1])


def ratios() -> dict[str, float]:
    """Builds the program and counts each case: its instructions for one of the scalar loop's."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        program = Path(folder, "count")

        def compile_source(source: Path, flags: list[str]) -> Path:
            to = Path(folder, f"{source.parent.name}_{source.stem}.o")
            run(*compiler_command(), "-std=c++20", *MACROS, *flags, f"-I{ROOT / 'csrc'}", "-c", source, "-o", to)
            return to

        sources = [(ROOT / "csrc" / "cpu" / f"{kernel}.cpp", kernel_flags()) for kernel in KERNELS]
        objects = list(pool.map(compile_source, *zip(*sources, (HERE / "count.cpp", PLAIN), strict=True)))
        run(*compiler_command(), *objects, "-o", program)
        scalar, *counts = pool.map(lambda case: instructions(program, case), ("scalar", *CASES))
    return {case: round(count / scalar, 4) for case, count in zip(CASES, counts, strict=True)}


def departures(counted: dict[str, float], expected: dict[str, float]) -> list[str]:
    """A line for each case that is further from its recorded ratio than the tolerance, whichever way."""
    lines = []
    for case, ratio in counted.items():
        change = ratio / expected[case] - 1
        if abs(change) > TOLERANCE:
            lines.append(
                f"{case}: {abs(change):.1%} {'more' if change > 0 else 'fewer'} instructions than recorded ({ratio} for {expected[case]}"
                f" of the scalar loop's, {compiler()}). If that is meant: python tests/instructions/count.py --record"
            )
    return lines


def main() -> None:
    if why_not():
        raise SystemExit(f"count: {why_not()}")
    counted, rows = ratios(), recorded()
    for case, ratio in counted.items():
        print(f"{case:<20} {ratio:7.4f}   recorded: {rows.get(compiler(), {}).get(case, 'nothing')}")
    if "--record" in sys.argv[1:]:
        rows[compiler()] = counted
        RECORDED.write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
