"""`stylegan-ops doctor` and the command line's frame."""

import importlib.metadata
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

import stylegan_ops
from stylegan_ops import _architectures, _library, ops
from stylegan_ops.cli import COMMANDS, doctor, main


def call(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_text_names_versions_libraries_ops_and_extras():
    text = call("doctor")
    for words in (stylegan_ops.__version__, torch.__version__, "SIMD in use", "GPUs built for", "NVIDIA driver", *ops.NAMES):
        assert words in text
    assert text.count("native") + text.count("reference") >= len(ops.NAMES)


def test_json_holds_the_same():
    report = json.loads(call("doctor", "--json"))
    assert report["versions"]["torch"] == torch.__version__
    assert set(report["libraries"]) == {"cpu", "cuda"}
    for op in ops.NAMES:
        for dtype in ("float64", "float32", "bfloat16", "float16"):
            assert report["implementations"][op]["cpu"][dtype].startswith(("native", "reference"))
    native = report["implementations"]["bias_act"]["cpu"]["float32"].startswith("native")
    assert native == report["libraries"]["cpu"]["loaded"]


def test_every_no_has_a_reason():
    report = doctor.examine()
    for library in report["libraries"].values():
        assert library["loaded"] or library["reason"]
    assert report["gpus"]["present"] or report["gpus"]["reason"]


def test_a_missing_library_is_shown_with_its_reason_and_remedy(monkeypatch):
    missing = _library.Library(None, False, "the package was not built", "pip install it")
    monkeypatch.setitem(_library.LIBRARIES, "cpu", missing)
    text = call("doctor")
    assert "not loaded: the package was not built" in text
    assert "to mend it: pip install it" in text
    assert "float32 reference" in text and "float32 native" not in text


def test_a_missing_extra_is_shown_with_its_command(monkeypatch):
    requirements = ["torch>=2.10", 'pillow; extra == "train"', 'no-such-thing==1.0; extra == "train"', 'pytest; extra == "test"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requirements)
    assert doctor.extras()["train"] == {"missing": ["no-such-thing"], "remedy": 'pip install "stylegan_ops[train]"'}
    assert doctor.extras()["test"]["missing"] == []
    text = call("doctor")
    assert "missing: no-such-thing" in text and 'to mend it: pip install "stylegan_ops[train]"' in text


def test_a_package_that_is_not_installed_is_said(monkeypatch):
    def not_found(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", not_found)
    assert "not installed" in call("doctor")


@pytest.mark.parametrize(
    ("driver", "cuda", "words"),
    [
        (None, None, "no NVIDIA driver"),
        ("580.1", None, "is built without CUDA"),
        ("580.1", "13.0", "finds no GPU that it can use with driver 580.1"),
    ],
)
def test_the_reason_for_no_gpu(monkeypatch, driver, cuda, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    found = doctor.gpus(driver)
    assert found["present"] == [] and words in found["reason"] and found["remedy"]


@pytest.mark.parametrize(
    ("architectures", "words"),
    [
        (
            ["8.0", "7.5+PTX"],
            ["T4, compute capability 7.5: runs the code for sm_75", "A100, compute capability 8.0: runs the code for sm_80"],
        ),
        (["7.5+PTX"], ["A100, compute capability 8.0: runs PTX for compute_75, which the driver translates at first use"]),
        (
            ["8.0+PTX"],
            [
                "T4, compute capability 7.5: the CUDA library was built for 8.0+PTX, which T4 (compute capability 7.5) cannot run",
                "to mend it: TORCH_CUDA_ARCH_LIST='7.5;8.0+PTX' ",
                "A100, compute capability 8.0: runs the code for sm_80",
            ],
        ),
        (["Turing"], ["T4, compute capability 7.5: the build did not tell what it is for"]),
        (None, ["T4, compute capability 7.5: the CUDA library is not loaded: no nvcc", "to mend it: install nvcc"]),
    ],
)
def test_each_gpu_is_compared_with_what_was_built(monkeypatch, architectures, words):
    library = _library.Library("_C_cuda.so", True) if architectures else _library.Library(None, False, "no nvcc", "install nvcc")
    monkeypatch.setitem(_library.LIBRARIES, "cuda", library)
    monkeypatch.setattr(_architectures, "ARCHITECTURES", architectures or [])
    monkeypatch.setattr(_architectures, "CONTENTS", _architectures.contents(architectures or []))
    cards = [SimpleNamespace(name="T4", major=7, minor=5), SimpleNamespace(name="A100", major=8, minor=0)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    monkeypatch.setattr(doctor, "implementations", dict)  # it would make tensors on the GPU
    text = call("doctor")
    for line in words:
        assert line in text
    present = json.loads(call("doctor", "--json"))["gpus"]["present"]
    assert [gpu["architecture"] for gpu in present] == ["7.5", "8.0"]
    assert all((gpu["code"] is None) == (gpu["reason"] is not None) for gpu in present)


def test_runs_as_a_module_without_the_extras():
    code = """
import sys
sys.modules.update(dict.fromkeys(["PIL", "tqdm", "tensorboard", "dicebear", "scipy", "matplotlib"]))
sys.argv = ["stylegan_ops", "doctor"]
import runpy
runpy.run_module("stylegan_ops", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "What runs" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    assert COMMANDS[name] in " ".join(call("--help").split())
    assert f"stylegan-ops {name}" in CliRunner().invoke(main, [name, "--help"], prog_name="stylegan-ops").output


def test_version():
    assert stylegan_ops.__version__ in call("--version")
