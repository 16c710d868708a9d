"""Registers, spills, shared memory and theoretical occupancy of every CUDA kernel, as ptxas reports them. Needs nvcc, but no GPU.

    python benchmarks/cuda_resources.py [--architectures 75,80,90,100,120] [--only upfirdn2d] [--markdown]

Occupancy is the share of a multiprocessor's warps that registers, the static shared memory and the kernel's launch bounds leave room for;
shared memory that a launch asks for on top is not in it. Ends with status 1 where a kernel spills, where one outside the convolution has
less than half of the occupancy, or where the convolution has more than 64 kernels for an architecture.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CSRC = Path(__file__).resolve().parents[1] / "csrc"
# Per multiprocessor: warps, blocks, shared memory in KiB (CUDA C++ programming guide, table of compute capabilities).
LIMITS = {"75": (32, 16, 64), "80": (64, 32, 164), "86": (48, 16, 100), "89": (48, 24, 100), "90": (64, 32, 228), "100": (64, 32, 228)}
LIMITS["120"] = (48, 24, 100)
REGISTERS, REGISTER_UNIT = 65536, 256  # of a multiprocessor, and what a warp's are rounded up to
DEFAULT_BLOCK = 256  # threads, where a kernel states no launch bounds
CONVOLUTION = re.compile(r"modulated_conv2d(_weight)?_kernel<")
MOST_CONVOLUTIONS = 64


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel on one architecture; sizes in bytes."""

    name: str
    architecture: str
    registers: int
    spilled: int
    shared: int
    threads: int

    @property
    def occupancy(self) -> float:
        warps, blocks, kib = LIMITS[self.architecture]
        block_warps = -(-self.threads // 32)
        warp_registers = -(-self.registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
        fitting = min(blocks, warps // block_warps, REGISTERS // (warp_registers * block_warps))
        if self.shared:
            fitting = min(fitting, kib * 1024 // (self.shared + 1024))  # a block's own KiB is the system's
        return fitting * block_warps / warps


def measure(source: Path, architecture: str, nvcc: str) -> list[Kernel]:
    """Compiles one file for one architecture and reads the report."""
    with tempfile.TemporaryDirectory() as folder:
        common = [nvcc, "-std=c++20", "-O3", f"-I{CSRC}", f"-I{CSRC / 'cuda'}", f"-arch=sm_{architecture}", str(source)]
        ptx = Path(folder) / "kernel.ptx"
        subprocess.run([*common, "-ptx", "-o", str(ptx)], check=True, capture_output=True, text=True)
        report = subprocess.run(
            [str(Path(nvcc).with_name("ptxas")) if Path(nvcc).with_name("ptxas").exists() else "ptxas"]
            + ["-v", f"-arch=sm_{architecture}", str(ptx), "-o", str(Path(folder) / "kernel.cubin")],
            check=True,
            capture_output=True,
            text=True,
        ).stderr
        text = ptx.read_text()
    threads = {}
    for name, body in re.findall(r"\.entry (\w+)\((.*?)^\{", text, re.DOTALL | re.MULTILINE):
        bound = re.search(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?", body)
        threads[name] = int(bound[1]) * int(bound[2] or 1) * int(bound[3] or 1) if bound else DEFAULT_BLOCK
    kernels = []
    for name, block in re.findall(r"entry function '(\w+)' for 'sm_\w+'(.*?)(?=Compiling entry|\Z)", report, re.DOTALL):
        number = {key: int(m[1]) if (m := re.search(pattern, block)) else 0 for key, pattern in PATTERNS.items()}
        kernels.append(Kernel(name, architecture, number["registers"], number["stores"] + number["loads"], number["shared"], threads[name]))
    return kernels


PATTERNS = {
    "registers": r"Used (\d+) registers",
    "stores": r"(\d+) bytes spill stores",
    "loads": r"(\d+) bytes spill loads",
    "shared": r"(\d+) bytes smem",
}


def readable(names: list[str]) -> dict[str, str]:
    """The kernels' C++ names with their template arguments, without namespaces and parameters."""
    plain = subprocess.run([shutil.which("cu++filt") or "c++filt", *names], capture_output=True, text=True, check=True).stdout.splitlines()
    short = []
    for name in plain:
        name = re.sub(r"\(anonymous namespace\)::|stylegan_ops::|cuda::|\(bool\)|\(int\)|^void ", "", name)
        short.append(re.sub(r"\([^()]*\)$", "", name).strip())
    return dict(zip(names, short, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--architectures", default="75,80,90,100,120", help="compute capabilities, of " + ", ".join(LIMITS) + " (default: %(default)s)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="files of csrc/cuda whose name contains it")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at once (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print a table for docs/cuda.md")
    options = parser.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        parser.error("nvcc must be on PATH")
    architectures = options.architectures.split(",")
    if unknown := [a for a in architectures if a not in LIMITS]:
        parser.error(f"--architectures: must be of {', '.join(LIMITS)} ({unknown[0]})")
    sources = [path for path in sorted(CSRC.glob("cuda/*.cu")) if options.only in path.name]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = pool.map(lambda job: measure(*job, nvcc), [(source, a) for source in sources for a in architectures])
    kernels = [kernel for group in found for kernel in group]
    if not kernels:
        parser.error(f"--only: must be part of the name of a file with kernels ({options.only})")
    names = readable(sorted({kernel.name for kernel in kernels}))
    row = "| `{}` | {} | {} | {} | {} | {:.0%} |" if options.markdown else "{:<90} {:>5} {:>5} {:>7} {:>7} {:>6.0%}"
    head = row.replace(":.0%", "").replace(":>6.0%", ":>6").replace("`", "")
    print(head.format("kernel", "sm", "regs", "spilled", "shared", "occup."))
    if options.markdown:
        print("|---" * 6 + "|")
    for k in sorted(kernels, key=lambda k: (names[k.name], int(k.architecture))):
        print(row.format(names[k.name], k.architecture, k.registers, k.spilled, k.shared, k.occupancy))
    faults = [f"{names[k.name]} spills {k.spilled} bytes on sm_{k.architecture}" for k in kernels if k.spilled]
    for k in kernels:
        if k.occupancy < 0.5 and "modulated_conv2d" not in names[k.name]:
            faults.append(f"{names[k.name]} has an occupancy of {k.occupancy:.0%} on sm_{k.architecture}")
    convolutions = {a: sum(k.architecture == a and bool(CONVOLUTION.match(names[k.name])) for k in kernels) for a in architectures}
    for a, count in convolutions.items():
        if count > MOST_CONVOLUTIONS:
            faults.append(f"{count} convolution kernels on sm_{a}, more than {MOST_CONVOLUTIONS}")
    print(f"\n{len(names)} kernels, {len(kernels)} compilations; convolutions: {convolutions}", *faults, sep="\n", file=sys.stderr)
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
