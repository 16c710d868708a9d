"""Skips this folder's tests, with the reason, where the kernels cannot be built for the host."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))  # support.py and the closed forms

import host  # noqa: E402


@pytest.fixture(autouse=True)
def bindings():
    reason = host.why_not()
    if reason is not None:
        pytest.skip(reason)
    return host.module()
