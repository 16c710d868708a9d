"""docs/family.md names modules, tests and options: all of them exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stylegan_ops.cli import COMMANDS
from stylegan_ops.cli.train import command

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "family.md"
if not DOCUMENT.exists():
    pytest.skip("the tests run apart from the sources", allow_module_level=True)
TEXT = re.sub(r"```.*?```", "", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
NAMES = re.findall(r"`([^`]+)`", TEXT)


def test_every_file_exists():
    files = [name for name in NAMES if "/" in name]
    assert len(files) > 60
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_row_names_a_test_that_has_tests():
    rows = [line.split("|")[1:4] for line in TEXT.splitlines() if line.startswith("| ")]
    systems = [row for row in rows if row[1].strip() and "---" not in row[0]]
    proofs = {path for row in systems for path in re.findall(r"`(tests/[^`]+)`", row[2])}
    assert all("def test_" in (ROOT / path).read_text(encoding="utf-8") for path in proofs)
    assert [row[0] for row in systems[1:] if "stylegan_ops" in row[1] and not re.search(r"`tests/", row[2])] == []


def test_every_command_and_option_exists():
    options = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    named = [word for name in NAMES for word in name.split() if word.startswith("--")]
    assert set(named) - options - {"--pyramid"} == set()
    assert {name.split()[1] for name in NAMES if name.startswith("stylegan-ops ")} <= set(COMMANDS)
