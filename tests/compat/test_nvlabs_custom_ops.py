"""`torch_utils.custom_ops`: forks build their own extensions with it."""

import shutil

import pytest
from definitions import assert_signature

from stylegan_ops.compat.nvlabs import custom_ops

pytestmark = pytest.mark.filterwarnings("error")

SOURCE = """
#include <Python.h>
#include "number.h"
static PyObject* number(PyObject*, PyObject*) { return PyLong_FromLong(NUMBER + EXTRA); }
static PyMethodDef methods[] = {{"number", number, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "fork_plugin", nullptr, -1, methods};
PyMODINIT_FUNC PyInit_fork_plugin() { return PyModule_Create(&definition); }
"""


def test_signature_and_default():
    assert_signature(custom_ops.get_plugin, "module_name, sources, headers=None, source_dir=None, **build_kwargs")
    assert custom_ops.verbosity == "brief"


@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("ninja")), reason="builds an extension")
def test_get_plugin_builds_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(custom_ops, "_plugins", {})
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "built"))
    (tmp_path / "plugin.cpp").write_text(SOURCE)
    (tmp_path / "number.h").write_text("#define NUMBER 40\n")
    plugin = custom_ops.get_plugin("fork_plugin", ["plugin.cpp"], ["number.h"], str(tmp_path), extra_cflags=["-DEXTRA=2"])
    assert plugin.number() == 42
    assert "fork_plugin ... done." in capfd.readouterr().out
    assert custom_ops.get_plugin("fork_plugin", sources=["plugin.cpp"]) is plugin
    assert capfd.readouterr().out == ""


def test_a_build_that_fails_says_so(tmp_path, monkeypatch, capfd):
    def load(name, sources, verbose):
        assert (name, sources, verbose) == ("fork_plugin", ["plugin.cpp"], True)
        raise RuntimeError("no compiler")

    monkeypatch.setattr(custom_ops.cpp_extension, "load", load)
    monkeypatch.setattr(custom_ops, "verbosity", "full")
    with pytest.raises(RuntimeError, match="no compiler"):
        custom_ops.get_plugin("fork_plugin", ["plugin.cpp"])
    assert capfd.readouterr().out == "Building the extension fork_plugin ...\nfailed.\n"
    monkeypatch.setattr(custom_ops, "verbosity", "loud")
    with pytest.raises(ValueError, match="verbosity must be none, brief or full"):
        custom_ops.get_plugin("fork_plugin", ["plugin.cpp"])


def test_none_is_silent(monkeypatch, capfd):
    monkeypatch.setattr(custom_ops, "_plugins", {})
    monkeypatch.setattr(custom_ops.cpp_extension, "load", lambda *args, **kwargs: custom_ops)
    monkeypatch.setattr(custom_ops, "verbosity", "none")
    assert custom_ops.get_plugin("fork_plugin", ["plugin.cpp"]) is custom_ops
    assert capfd.readouterr().out == ""
