"""What the tests of the drop-in modules share: one implementation, and a process that is left as it was."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stylegan_ops import use_impl
from stylegan_ops._library import LIBRARIES
from stylegan_ops.compat import basicsr, mmcv, nvlabs, rosinality

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))  # support.py


@pytest.fixture(autouse=True)
def implementation() -> Iterator[None]:
    """Native where it is built: a fall-back would warn, and warnings are errors here."""
    with use_impl("native" if LIBRARIES["cpu"].loaded else "reference"):
        yield


@pytest.fixture
def clean_imports(monkeypatch) -> Iterator[None]:
    """Takes out what a test installed or imported from its own folder."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for package in (nvlabs, rosinality, mmcv, basicsr):
        for name in [*package._installer.installed]:
            package._installer.uninstall(name)
    for name in [name for name in sys.modules if name not in before]:
        del sys.modules[name]
    sys.modules.update(before)
