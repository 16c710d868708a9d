"""Builds the compiled libraries of stylegan_ops; everything else about the package stands in pyproject.toml.

`_C` holds the operators' schemas and the CPU kernels, `_C_cuda` the CUDA kernels. Both are written against PyTorch's stable ABI
(target 2.10), so that a library built with one torch loads on every later one. The environment decides:

    STYLEGAN_OPS_NATIVE=0        no compiled library: the package runs on its plain PyTorch references
    STYLEGAN_OPS_CUDA=auto|1|0   auto builds the CUDA library where torch has CUDA and nvcc fits, 1 demands it, 0 leaves it out
    CXX, CFLAGS, CUDA_HOME, TORCH_CUDA_ARCH_LIST, MAX_JOBS   as everywhere

What was decided, and why, goes to stylegan_ops/_build_info.json, where `stylegan-ops doctor` reads it.
"""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

try:
    import torch
    from torch.utils import cpp_extension
except ImportError as error:
    raise SystemExit(
        f"stylegan_ops: the build needs torch ({error}). Install it first (pip install 'torch>=2.10'), or leave out --no-build-isolation."
    ) from error
if tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2]) < (2, 10):
    raise SystemExit(f"stylegan_ops: the build needs torch 2.10 or later (found {torch.__version__}).")

ROOT = Path(__file__).resolve().parent
PACKAGE = "stylegan_ops"
X86 = platform.machine() in ("x86_64", "AMD64")

# The kernels under csrc/cpu are compiled once per instruction set and chosen among at run time. The order counts: where two objects
# hold the same inline function, the linker keeps the first, which must be the one that every processor can run.
CPU_VARIANTS = {"baseline": []}
if X86:
    CPU_VARIANTS["avx2"] = ["-mavx2", "-mfma", "-mf16c"]
    CPU_VARIANTS["avx512"] = [f"-mavx512{x}" for x in ("f", "bw", "vl", "dq")] + ["-mfma", "-mf16c", "-mprefer-vector-width=512"]

CXX_FLAGS = ["-O3", "-std=c++20", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
CXX_FLAGS += [f"-isystem{path}" for path in cpp_extension.include_paths()]  # warnings are for our code, not for torch's headers
CXX_FLAGS += [f"-ffile-prefix-map={ROOT}/="]  # errors name csrc/ops/X.cpp, not the temporary folder that pip built in
CXX_FLAGS += ["-DSTYLEGAN_OPS_X86_VARIANTS"] if X86 else []
# NaN and infinity keep their meaning, so no -ffast-math. -fno-wrapv undoes a flag of Python's own that keeps loops from being vectorised.
# GCC takes a buffer that one loop fills and the next one reads for uninitialised.
KERNEL_FLAGS = ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fno-wrapv", "-Wno-maybe-uninitialized"]
NVCC_FLAGS = ["-O3", "-std=c++20", "-DTORCH_TARGET_VERSION=0x020a000000000000", "-Xcompiler=-fvisibility=hidden,-Wall,-Wextra"]
NVCC_FLAGS += ["--Werror=all-warnings"] if "-Werror" in os.environ.get("CFLAGS", "") else []  # as CFLAGS does for the C++ compiler
CUDA_DEFINES = ["-DSTYLEGAN_OPS_BACKEND_CUDA", "-DUSE_CUDA"]  # USE_CUDA: torch's headers declare the current stream only then
# Machine code runs on every later minor version: 8.0's on 8.6 and 8.9, which no kernel distinguishes from it (they ask the device for its
# shared memory and its multiprocessors). What is neither listed nor such a version translates the PTX: 11.0 and all of the future that of
# 10.0, which has every instruction the kernels use; 12.0's would leave 11.0 out and 7.5's has no bfloat16 and TF32 tensor cores.
CUDA_ARCHITECTURES = ["7.5", "8.0", "9.0", "10.0", "12.0"]
PTX_ARCHITECTURE = "10.0"


class Decision(NamedTuple):
    build: bool
    reason: str


def first_line(*command: str) -> str:
    """The line of a program's answer that names its version, or an empty text where the program does not run."""
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return next((line for line in lines if "release" in line), lines[0] if lines else "")


def sources(pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def decide_cpu() -> Decision:
    if os.environ.get("STYLEGAN_OPS_NATIVE") == "0":
        return Decision(False, "STYLEGAN_OPS_NATIVE=0 was set when the package was built")
    wanted = os.environ.get("CXX")
    if wanted and not shutil.which(shlex.split(wanted)[0]):
        raise SystemExit(f"CXX: names a compiler that is not there ({wanted!r})")
    compiler = wanted or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        return Decision(False, "no C++ compiler was found when the package was built (c++, g++, clang++)")
    os.environ["CXX"] = compiler  # torch's ninja rules and setuptools' linker ask the environment
    return Decision(True, f"built with {first_line(*shlex.split(compiler), '--version') or compiler}")


def decide_cuda(cpu: Decision) -> Decision:
    setting = os.environ.get("STYLEGAN_OPS_CUDA", "auto")
    if setting not in ("auto", "1", "0"):
        raise SystemExit(f"STYLEGAN_OPS_CUDA: must be auto, 1 or 0 ({setting!r})")
    if setting == "0":
        return Decision(False, "STYLEGAN_OPS_CUDA=0 was set when the package was built")
    decision = fitting_nvcc() if cpu.build else Decision(False, f"it needs the CPU library, and {cpu.reason}")
    if setting == "1" and not decision.build:
        raise SystemExit(f"STYLEGAN_OPS_CUDA=1: the CUDA library cannot be built: {decision.reason}")
    return decision


def fitting_nvcc() -> Decision:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which(f"{home}/bin/nvcc") if home else shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        return Decision(False, "no nvcc was found when the package was built (PATH, CUDA_HOME, /usr/local/cuda)")
    version = re.search(r"release ((\d+)\.\d+)", first_line(nvcc, "--version"))
    if version is None:
        return Decision(False, f"{nvcc} --version did not say its version when the package was built")
    if torch.version.hip:
        return Decision(False, f"torch {torch.__version__} is a ROCm build")
    if torch.version.cuda is None and os.environ.get("STYLEGAN_OPS_CUDA") != "1":
        return Decision(False, f"the torch of the build, {torch.__version__}, was built without CUDA")
    if torch.version.cuda and torch.version.cuda.split(".")[0] != version[2]:
        return Decision(False, f"nvcc {version[1]} does not fit torch {torch.__version__}, which was built with CUDA {torch.version.cuda}")
    # torch looks for it only where it was itself built with CUDA. nvcc on PATH may be a script that calls the real one, so ask it.
    cpp_extension.CUDA_HOME = home or toolkit(nvcc)
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", default_architectures(nvcc))
    if "compress" not in os.environ.get("NVCC_APPEND_FLAGS", ""):
        # A ninth of the size. The denser form needs a driver of CUDA 12.4 or later, which all have that run CUDA 13.
        NVCC_FLAGS.append("--compress-mode=size" if int(version[2]) >= 13 else "-Xfatbin=-compress-all")
    return Decision(True, f"built with nvcc {version[1]} for {os.environ['TORCH_CUDA_ARCH_LIST']}")


def toolkit(nvcc: str) -> str:
    plan = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
    return os.path.realpath(re.search(r"^#\$ TOP=(.*)$", plan, re.MULTILINE)[1])


def default_architectures(nvcc: str) -> str:
    """The present GPUs' architectures, or every one that nvcc knows where there is no GPU; PTX for later ones."""
    smi = shutil.which("nvidia-smi")
    answer = subprocess.run([smi, "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True).stdout if smi else ""
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True).stdout.split()
    found = set(re.findall(r"^\d+\.\d+$", answer, re.MULTILINE))
    present = {a for a in found if float(a) >= 7.5 and f"sm_{a.replace('.', '')}" in known}
    if present:
        return ";".join(sorted(present, key=float)) + "+PTX"
    listed = [a for a in CUDA_ARCHITECTURES if f"sm_{a.replace('.', '')}" in known]
    ptx = max((a for a in listed if float(a) <= float(PTX_ARCHITECTURE)), key=float)
    return ";".join(f"{a}+PTX" if a == ptx else a for a in listed)


def library(name: str, files: list[str], flags: dict[str, list[str]], **options):
    extension = cpp_extension.CppExtension(name, files, py_limited_api=True, extra_compile_args=flags, **options)
    extension.include_dirs = [str(ROOT / "csrc")]
    extension.depends = sources("csrc/**/*.h") + sources("csrc/**/*.cuh") + sources("csrc/cpu/*.cpp")
    return extension


CPU = decide_cpu()
CUDA = decide_cuda(CPU)
LIBRARIES = []
if CPU.build:
    LIBRARIES.append(library("stylegan_ops._C", ["csrc/library.cpp", *sources("csrc/ops/*.cpp")], {"cxx": CXX_FLAGS}))
if CUDA.build:
    cuda = Path(cpp_extension.CUDA_HOME)
    LIBRARIES.append(
        library(
            "stylegan_ops._C_cuda",
            sources("csrc/ops/*.cpp") + sources("csrc/cuda/*.cu"),
            {"cxx": [*CXX_FLAGS, *CUDA_DEFINES, f"-isystem{cuda / 'include'}"], "nvcc": NVCC_FLAGS + CUDA_DEFINES},
            libraries=["cudart"],  # the shared one: the runtime that torch has loaded
            library_dirs=[str(cuda / "lib64")],
            extra_link_args=["-Wl,--no-as-needed", "-ltorch"],  # the stream is libtorch_cuda's, which libtorch alone leads to
        )
    )


def write_build_info(distribution: Distribution, folder: Path) -> None:
    for name, decision in (("CPU", CPU), ("CUDA", CUDA)):
        print(f"stylegan_ops: {name} library {'' if decision.build else 'skipped: '}{decision.reason}", file=sys.stderr)
    facts = {
        "version": distribution.get_version(),
        "python": platform.python_version(),
        "platform": sysconfig.get_platform(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "torch_target": "2.10",
        "libraries": {"cpu": CPU._asdict(), "cuda": CUDA._asdict()},
        "cpu_variants": list(CPU_VARIANTS) if CPU.build else [],
        "cuda_architectures": re.split("[; ]", os.environ["TORCH_CUDA_ARCH_LIST"]) if CUDA.build else [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_build_info.json").write_text(json.dumps(facts, indent=2) + "\n")


class BuildPython(build_py):
    """Keeps the build's facts where nothing is compiled, since build_ext does not run then."""

    def run(self) -> None:
        super().run()
        if not LIBRARIES:
            write_build_info(self.distribution, ROOT / PACKAGE if self.editable_mode else Path(self.build_lib, PACKAGE))


class BuildLibraries(cpp_extension.BuildExtension):
    """Compiles the CPU kernels once per instruction set, then the library around them."""

    def run(self) -> None:
        super().run()
        write_build_info(self.distribution, ROOT / PACKAGE if self.inplace else Path(self.build_lib, PACKAGE))

    def build_extension(self, extension) -> None:
        # A folder that stays makes the next build quick (pip takes a new temporary one each time). One for each torch, library and list of
        # architectures keeps objects of other flags apart, above all those of csrc/ops, which both libraries compile.
        architectures = os.environ["TORCH_CUDA_ARCH_LIST"].replace(";", "_") if extension.name == "stylegan_ops._C_cuda" else ""
        self.build_temp = str(ROOT / "build" / "native" / torch.__version__ / (extension.name + architectures))
        if extension.name == "stylegan_ops._C":
            extension.extra_objects = [obj for variant in CPU_VARIANTS for obj in self.compile_kernels(extension, variant)]
        super().build_extension(extension)

    def compile_kernels(self, extension, variant: str) -> list[str]:
        return self.compiler.compile(
            sources("csrc/cpu/*.cpp"),
            output_dir=str(Path(self.build_temp) / variant),
            macros=[("CPU_VARIANT", variant)],
            include_dirs=extension.include_dirs,
            extra_postargs=[*CXX_FLAGS, *KERNEL_FLAGS, *CPU_VARIANTS[variant]],
            depends=extension.depends,
        )


# One wheel for every Python from 3.10 on; a Python without the global lock has no such stable ABI.
WHEEL = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp310"}}

setup(license="MIT", ext_modules=LIBRARIES, cmdclass={"build_py": BuildPython, "build_ext": BuildLibraries}, options=WHEEL)
