"""The compiled libraries: what they link against, and that a missing or broken one, or a failing build, is told and never hidden."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import stylegan_ops
from stylegan_ops import _library
from stylegan_ops.ops import cpu_variant
from stylegan_ops.ops._registry import register

PACKAGE = Path(stylegan_ops.__file__).parent
ROOT = PACKAGE.parent
BUILT = pytest.mark.skipif(not _library.LIBRARIES["cpu"].loaded, reason="the CPU library is not loaded")

REPORT = """
import json, torch, stylegan_ops, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    outputs = [stylegan_ops.pixel_norm(torch.full((1, 4), 2.0)).tolist() for _ in range(2)]
try:
    native = str(stylegan_ops.pixel_norm(torch.ones(1, 4), impl="native"))
except RuntimeError as error:
    native = str(error)
info = stylegan_ops.build_info()
print(json.dumps({"outputs": outputs, "warnings": [str(w.message) for w in caught], "native": native, "info": info}))
"""


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STYLEGAN_OPS_")}
    clean["STYLEGAN_OPS_CUDA"] = "0"  # a test that builds has no CUDA sources
    return subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True)


def report(folder: Path, **environment: str) -> dict:
    """What a fresh process says that imports the package from `folder` and calls an op twice."""
    done = run(sys.executable, "-c", REPORT, cwd=folder, PYTHONPATH=str(folder), **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's Python files, without what a build leaves."""
    shutil.copytree(PACKAGE, tmp_path / "stylegan_ops", ignore=shutil.ignore_patterns("*.so", "_build_info.json", "__pycache__"))
    return tmp_path


@pytest.fixture
def checkout(package: Path) -> Path:
    """A copy of all that a build reads, with next to nothing to compile."""
    if not (ROOT / "setup.py").is_file():
        pytest.skip("needs the source tree")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, package)
    (package / "csrc" / "cpu").mkdir(parents=True)
    (package / "csrc" / "cpu" / "kernel.cpp").write_text("void kernel() {}\n")
    (package / "csrc" / "library.cpp").write_text("void library() {}\n")
    return package


def falls_back(said: dict, reason: str) -> None:
    assert said["outputs"] == [[[1.0] * 4]] * 2
    assert len(said["warnings"]) == 1 and reason in said["warnings"][0]
    assert reason in said["native"] and said["native"].startswith("pixel_norm: ")
    library = said["info"]["libraries"]["cpu"]
    assert not library["loaded"] and reason in library["reason"]
    assert library["remedy"]
    assert said["info"]["cpu_variant"] is None
    assert not said["info"]["libraries"]["cuda"]["loaded"]


def test_a_package_that_was_not_built_says_how_to_build(package):
    said = report(package)
    falls_back(said, "the package was not built")
    assert "pip install" in said["info"]["libraries"]["cpu"]["remedy"]


def test_a_library_that_does_not_load_is_reported(package):
    (package / "stylegan_ops" / "_C.abi3.so").write_bytes(b"\x7fELF, but no library")
    falls_back(report(package), "it does not load: ")


@pytest.mark.parametrize(
    ("facts", "reason", "remedy"),
    [
        ('{"libraries": {"cpu": {"build": true, "reason": "built"}}}', "has lost the library that was built", "pip install"),
        ('{"libraries": {"cpu": {"build": false, "reason": "no C++ compiler was found"}}}', "no C++ compiler was found", "install g++"),
        ('{"libraries": {"cpu"', "the package was not built", "pip install"),
    ],
)
def test_the_facts_of_the_build_explain_a_missing_library(tmp_path, monkeypatch, facts, reason, remedy):
    (tmp_path / "_build_info.json").write_text(facts)
    monkeypatch.setattr(_library, "FOLDER", tmp_path)
    monkeypatch.delenv("STYLEGAN_OPS_NATIVE", raising=False)
    library = _library._load("cpu", "_C")
    assert not library.loaded and reason in library.reason and remedy in library.remedy


def test_the_environment_switches_the_libraries_off():
    falls_back(report(ROOT, STYLEGAN_OPS_NATIVE="0"), "STYLEGAN_OPS_NATIVE=0 is set")


@BUILT
def test_a_library_that_lacks_an_operator_is_left_out(monkeypatch):
    """One built from an older version of the package, and not built again."""
    monkeypatch.setattr(_library, "LIBRARIES", dict(_library.LIBRARIES))
    register("operator_of_tomorrow", fake=None, backward=None)
    cpu = stylegan_ops.build_info()["libraries"]["cpu"]
    assert not cpu["loaded"] and cpu["remedy"] == _library.install_command()
    assert cpu["reason"] == "it is of another version of the package: it lacks the operator operator_of_tomorrow"
    with pytest.raises(RuntimeError, match="lacks the operator operator_of_tomorrow"):
        stylegan_ops.pixel_norm(torch.ones(1, 4), impl="native")


def test_a_device_without_kernels_is_named():
    library = _library.compiled("mps")
    assert not library.loaded and "mps" in library.reason


@BUILT
def test_build_info_names_the_build():
    info = stylegan_ops.build_info()
    assert info["version"] == stylegan_ops.__version__ == info["build"]["version"]
    assert info["torch"] == torch.__version__
    assert info["cpu_variant"] in info["cpu_variants_built"]
    assert info["libraries"]["cpu"]["loaded"] and info["libraries"]["cpu"]["reason"] is None
    json.dumps(info)


@BUILT
def test_every_variant_up_to_the_one_in_use_can_be_chosen():
    built = _library.build_facts()["cpu_variants"]
    before = cpu_variant()
    usable = built[: built.index(before) + 1]  # the later ones need a processor that has them
    try:
        assert [cpu_variant(variant) for variant in usable] == usable
    finally:
        cpu_variant(before)


@BUILT
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
@pytest.mark.parametrize("name", [name for name, library in _library.LIBRARIES.items() if library.path])
def test_the_library_needs_stable_symbols_only(name):
    """One unstable symbol of torch, and the library loads on no other torch than the one that built it."""
    done = subprocess.run(["nm", "-D", "--undefined-only", _library.LIBRARIES[name].path], capture_output=True, text=True, check=True)
    symbols = [line.split()[-1] for line in done.stdout.splitlines()]
    assert "torch_library_impl" in symbols or "aoti_torch_library_impl" in symbols
    assert [symbol for symbol in symbols if re.match(r"_ZNK?(2at|3c10|5torch)|Py|_Py", symbol)] == []


def test_a_compiler_that_fails_ends_the_build(checkout):
    (checkout / "csrc" / "library.cpp").write_text("#error this source is broken\n")
    done = run(sys.executable, "setup.py", "build_ext", cwd=checkout)
    assert done.returncode != 0
    assert "this source is broken" in done.stdout + done.stderr
    assert not list(checkout.rglob("_build_info.json")) and not list(checkout.rglob("*.so"))


@pytest.mark.parametrize(("compiler", "words"), [("false", "'false'"), ("no-such-compiler", "no-such-compiler")])
def test_a_compiler_that_does_not_run_ends_the_build(checkout, compiler, words):
    done = run(sys.executable, "setup.py", "build_ext", cwd=checkout, CXX=compiler)
    assert done.returncode != 0
    assert words in done.stderr


def test_without_a_compiler_the_package_installs_and_says_so_once(checkout):
    done = run(sys.executable, "setup.py", "build", "--build-lib", "installed", cwd=checkout, PATH=str(checkout), CXX="")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("CPU library skipped: no C++ compiler was found") == 1
    falls_back(report(checkout / "installed"), "no C++ compiler was found")


def test_the_environment_keeps_the_libraries_from_being_built(checkout):
    done = run(sys.executable, "setup.py", "build", "--build-lib", "installed", cwd=checkout, STYLEGAN_OPS_NATIVE="0")
    assert done.returncode == 0, done.stderr
    assert not list(checkout.rglob("*.so"))
    falls_back(report(checkout / "installed"), "STYLEGAN_OPS_NATIVE=0 was set when the package was built")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"STYLEGAN_OPS_CUDA": "2"}, "STYLEGAN_OPS_CUDA: must be auto, 1 or 0 ('2')"),
        ({"STYLEGAN_OPS_CUDA": "1", "STYLEGAN_OPS_NATIVE": "0"}, "STYLEGAN_OPS_CUDA=1: the CUDA library cannot be built: "),
        (
            {"STYLEGAN_OPS_CUDA": "1", "CUDA_HOME": "absent", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
            "STYLEGAN_OPS_CUDA=1: the CUDA library cannot be built: no nvcc was found",
        ),
    ],
)
def test_a_demand_for_cuda_that_cannot_be_met_ends_the_build(checkout, environment, words):
    done = run(sys.executable, "setup.py", "build", cwd=checkout, **environment)
    assert done.returncode != 0
    assert words in done.stderr
