"""`stylegan-ops dataset` as typed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from images import encoded, picture, write_folder

from stylegan_ops.cli.dataset import command
from stylegan_ops.data import ImageDataset


@pytest.fixture
def source(tmp_path: Path) -> Path:
    members = {f"{'ab'[i % 2]}/{i}.png": encoded(picture(i)) for i in range(6)}
    return write_folder(tmp_path / "in", {**members, "a/broken\n.png": b"?", "a/tiny.png": encoded(picture(1, (2, 2))), "a/note.txt": b"x"})


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_says_what_was_written(tmp_path: Path, source: Path) -> None:
    code, output = run(source, tmp_path / "out.zip", "--resolution", 8)
    assert code == 0
    for text in (
        r"left out 'a/broken\n.png': no image of a known format",
        f"{tmp_path}/out.zip: 7 images, 8x8 RGB, 2 classes (a, b), 0.0 MB",
        "1 images could not be read and were left out",
        "1 images were smaller than 8 pixels and were enlarged",
        "1 other files were ignored",
        "8/8",
    ):
        assert text in output, output


def test_options(tmp_path: Path, source: Path) -> None:
    assert run(source, tmp_path / "out", "--resolution", 4, "--channels", 1, "--count", 2, "--seed", 3)[0] == 0
    data = ImageDataset(tmp_path / "out")
    assert (data.resolution, data.channels) == (4, 1) and len(data) <= 2
    assert run(source, tmp_path / "out", "--resolution", 8, "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{none}", "{dest}", "--resolution", "8"], "Error: prepare: source must be a folder"),
        (["{source}", "{dest}", "--resolution", "9"], "Error: prepare: resolution must be a power of two"),
        (["{source}", "{dest}"], "Missing option '--resolution'"),
        (["{source}", "{source}", "--resolution", "8", "--force"], "Error: prepare: dest must not be, or hold, the source"),
        (["{source}", "{source}/a/note.txt/out.zip", "--resolution", "8"], "Error: prepare: dest must be in a folder, which "),
        (["{source}", "/proc/out.zip", "--resolution", "8"], "No such file or directory"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, source: Path, arguments: list[str], message: str) -> None:
    names = {"none": tmp_path / "none", "dest": tmp_path / "out.zip", "source": source}
    code, output = run(*(a.format(**names) for a in arguments))
    assert code != 0 and message in output and "Traceback" not in output
    assert os.listdir(tmp_path) == ["in"]


def test_help_has_units_and_examples() -> None:
    text = run("--help")[1]
    for word in ("PIXELS", "IMAGES", "power of two", "Examples:", "dicebear:avataaars", "fashion-mnist", "dataset.json"):
        assert word in text


@pytest.mark.parametrize(("module", "extra"), [("PIL", "train"), ("tqdm", "train"), ("dicebear", "demo"), ("resvg_py", "demo")])
def test_missing_extra_is_named(tmp_path: Path, module: str, extra: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from stylegan_ops.cli.dataset import command; command()"
    arguments = ["dicebear:avataaars", str(tmp_path / "out.zip"), "--resolution", "8"]
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert result.returncode == 1
    assert f'is not installed; run: pip install "stylegan_ops[{extra}]"' in result.stderr and "Traceback" not in result.stderr
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("dest", ["out.zip", "out"])
def test_interrupt_leaves_nothing(tmp_path: Path, dest: str) -> None:
    big = encoded(picture(0, (1500, 1500)))
    source = write_folder(tmp_path / "in", {f"{i}.png": big for i in range(300)})
    code = "from stylegan_ops.cli.dataset import command; command()"
    arguments = [str(source), str(tmp_path / dest), "--resolution", "256"]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(f".{dest}.*.part")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert f"Interrupted: nothing was written to {tmp_path / dest}" in errors and "Traceback" not in errors
    assert os.listdir(tmp_path) == ["in"]
