"""Walks the repository and the dispatcher's tables: every op has all its files and kernels, and the rooms keep to their doors."""

import ast
import re
from pathlib import Path

import pytest
import torch

from stylegan_ops import ops
from stylegan_ops._library import LIBRARIES

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "csrc").is_dir():
    pytest.skip("needs the source tree", allow_module_level=True)

OWN_KERNELS = [op for op in ops.NAMES if op != "modulated_conv2d"]  # it calls the library's convolution, and conv_epilogue's kernel behind
SHARED_TESTS = ("matches_float64_reference", "gradcheck", "gradgradcheck", "opcheck", "compiles", "exports", "rejects", "empty_batch")
CPP = [path for kind in ("h", "cpp", "cu", "cuh") for path in sorted((ROOT / "csrc").rglob(f"*.{kind}"))]
PYTHON = sorted((ROOT / "stylegan_ops").rglob("*.py"))
TEXT = [
    path
    for folder in ("stylegan_ops", "csrc", "tests", "benchmarks", "docs", ".ci")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh", ".md", ".json", "") and path.is_file() and path.name != "_build_info.json"
] + [path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in (".md", ".py", ".toml", ".in", ".yaml", "")]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_with(paths: list[Path], pattern: str) -> list[str]:
    found = re.compile(pattern)
    return [
        f"{name(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if found.search(line)
    ]


@pytest.mark.parametrize("op", ops.NAMES)
def test_an_op_has_all_its_files(op):
    row = [f"stylegan_ops/ops/{op}.py", f"csrc/ops/{op}.h", f"csrc/ops/{op}.cpp", f"tests/ops/test_{op}.py"]
    row += [f"stylegan_ops/benchmark/ops/{op}.py"]
    row += [f"csrc/cpu/{op}.cpp", f"csrc/cuda/{op}.cuh", f"csrc/cuda/{op}.cu"] if op in OWN_KERNELS else []
    assert [file for file in row if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("op", ops.NAMES)
def test_the_tests_have_the_same_names_in_every_room(op):
    tree = ast.parse((ROOT / "tests" / "ops" / f"test_{op}.py").read_text())
    tests = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert [shared for shared in SHARED_TESTS if not any(test.startswith(f"test_{shared}") for test in tests)] == []


def registered() -> list[str]:
    """The compiled operators that take tensors; the others (which variant is in use, say) need no kernels per device."""
    found = [op for op in torch._C._dispatch_get_all_op_names() if op.startswith("stylegan_ops::")]
    return sorted(op for op in found if "Tensor" in str(getattr(torch.ops.stylegan_ops, op.split("::")[1]).default._schema))


@pytest.mark.skipif(not LIBRARIES["cpu"].loaded, reason="the CPU library is not loaded")
@pytest.mark.parametrize("op", registered() if LIBRARIES["cpu"].loaded else [])
def test_a_compiled_operator_has_every_kernel(op):
    """One without autograd cuts second derivatives silently; one without Meta breaks torch.compile and export."""
    keys = ["CPU", "Meta", "Autograd"] + (["CUDA"] if LIBRARIES["cuda"].loaded else [])
    assert [key for key in keys if not torch._C._dispatch_has_kernel_for_dispatch_key(op, key)] == []
    assert op.split("::")[1].startswith(tuple(ops.NAMES)), "an operator carries the name of its room"


def rooms(path: Path) -> set[str]:
    """The rooms of the package that a file imports from: `layers` for stylegan_ops.layers.equalized."""
    package = list(path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            targets = [[*module, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        else:
            continue
        found |= {target[1] for target in targets if target[0] == "stylegan_ops" and len(target) > 1}
    return found


@pytest.mark.parametrize(
    ("room", "doors"), [("models", {"models", "layers"}), ("layers", {"layers", "ops"}), ("compat", {"compat", "ops"})]
)
def test_a_room_imports_from_the_next_one_only(room, doors):
    inside = [path for path in PYTHON if path.is_relative_to(ROOT / "stylegan_ops" / room)]
    assert inside and {name(path): rooms(path) - doors for path in inside if rooms(path) - doors} == {}


def test_only_the_ops_call_the_dispatcher():
    others = [path for path in PYTHON if path.parent.name != "ops"]
    assert lines_with(others, r"torch\.ops\.stylegan_ops") == []


def test_only_the_tensor_side_sees_torch():
    others = [path for path in CPP if path.parent.name != "ops" and path.name != "library.cpp"]
    assert lines_with(others, r"#include [<\"](torch/(?!headeronly)|ATen|c10)") == []


def test_only_one_file_launches_kernels():
    assert lines_with([path for path in CPP if path.name != "device.cuh"], "<<<") == []


def test_a_file_holds_one_idea():
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON + CPP}
    assert {file: length for file, length in lengths.items() if length > 350} == {}


def test_users_mistakes_are_no_asserts():
    assert lines_with(PYTHON, r"^\s*assert\b") == []


def test_no_path_of_a_machine():
    assert lines_with(TEXT, r"(^|[^\w.])/(work|farm|root|tmp/\w|home/[a-z]+)/") == []


def test_nothing_is_unfinished():
    assert lines_with(PYTHON + CPP, r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError") == []
