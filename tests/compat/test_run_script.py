"""`python -m stylegan_ops.compat.nvlabs SCRIPT`: an unmodified script, and the processes that it spawns."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from other_code import NVLABS, write

import stylegan_ops

pytestmark = pytest.mark.filterwarnings("error")

SCRIPT = """
import json, os, sys
from multiprocessing import get_context

import torch_utils.misc
from torch_utils.ops import bias_act
from training import networks


def whose(queue=None):
    found = {"module": bias_act.__name__, "pid": os.getpid(), "is_finite": all(bool(g.isfinite().all()) for g in networks.r1_step())}
    if queue is None:
        return found
    queue.put(found)


if __name__ == "__main__":
    context = get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=whose, args=(queue,))
    child.start()
    print(json.dumps({
        "argv": sys.argv, "path": sys.path[0], "file": __file__, "main": sys.modules["__main__"].__dict__ is globals(),
        "misc": torch_utils.misc.__file__, "here": whose(), "child": queue.get(timeout=300),
    }))
    child.join()
    sys.exit(3)
"""


def test_a_script_runs_as_python_runs_it(tmp_path):
    folder = write(tmp_path / "code", NVLABS | {"train.py": SCRIPT})
    root = str(Path(stylegan_ops.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "stylegan_ops.compat.nvlabs", "code/train.py", "--outdir", "x"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["argv"] == ["code/train.py", "--outdir", "x"]
    assert report["path"] == str(folder.resolve()) and report["file"] == str(tmp_path / "code" / "train.py") and report["main"]
    assert report["misc"] == str(folder / "torch_utils" / "misc.py")
    for process in ("here", "child"):
        assert report[process]["module"] == "stylegan_ops.compat.nvlabs.bias_act" and report[process]["is_finite"]
    assert report["here"]["pid"] != report["child"]["pid"]


def test_help_runs_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-m", "--help"])
    runpy.run_module("stylegan_ops.compat.nvlabs", run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: python -m stylegan_ops.compat.nvlabs SCRIPT")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "usage: python -m stylegan_ops.compat.nvlabs SCRIPT"), (["nowhere.py"], "cannot read the script nowhere.py: No such file")],
)
def test_a_script_that_is_not_there(arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-m", *arguments])
    with pytest.raises(SystemExit, match=message):
        runpy.run_module("stylegan_ops.compat.nvlabs", run_name="__main__")
