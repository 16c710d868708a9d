"""`stylegan-ops generate`."""

import os

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from stylegan_ops.cli import main
from stylegan_ops.training import load_generator, save_checkpoint
from stylegan_ops.training.checkpoint import checkpoint_path
from stylegan_ops.training.grids import to_uint8


@pytest.fixture(scope="module", params=["unconditional", "conditional"])
def checkpoint(request, tmp_path_factory):
    """A checkpoint of an untrained network."""
    from training_helpers import TINY

    from stylegan_ops.training import TrainingConfig, TrainingState

    c_dim = 3 if request.param == "conditional" else 0
    config = TrainingConfig(**{**TINY, "conditional": c_dim > 0})
    state = TrainingState(config, {"resolution": 8, "channels": 1, "c_dim": c_dim, "num_images": 9}, torch.device("cpu"))
    path = checkpoint_path(tmp_path_factory.mktemp("run"), 0)
    save_checkpoint(path, state.state_dict(), keep=1)
    return path


def invoke(*arguments):
    return CliRunner().invoke(main, ["generate", *[str(argument) for argument in arguments]])


def read(path):
    return torch.from_numpy(np.array(Image.open(path)))


def test_grid_and_single_files_show_the_generators_images(checkpoint, tmp_path):
    grid, folder = tmp_path / "new" / "grid.png", tmp_path / "files"
    assert invoke(checkpoint, "--seeds", "0-1,5", "--truncation", "0.5", "--out", grid).exit_code == 0
    result = invoke(checkpoint, "--seeds", "0-1,5", "--truncation", "0.5", "--no-grid", "--out", folder)
    assert result.output == f"3 images: {folder}\n"
    assert sorted(os.listdir(folder)) == ["seed0000.png", "seed0001.png", "seed0005.png"]
    G = load_generator(checkpoint)
    sheet = read(grid)
    assert sheet.shape == (16, 16)
    for place, seed in enumerate((0, 1, 5)):
        z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(seed))
        c = torch.eye(G.c_dim)[[seed % G.c_dim]] if G.c_dim else None
        expected = to_uint8(G(z, c, truncation_psi=0.5, noise_mode="const"))[0, 0].int()
        row, column = divmod(place, 2)
        for image in (read(folder / f"seed{seed:04d}.png"), sheet[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]):
            assert (image.int() - expected).abs().max() <= 1  # rounding may differ with the batch
    assert sheet[8:, 8:].eq(0).all()


def test_class(checkpoint, tmp_path):
    result = invoke(checkpoint, "--class", 1, "--seeds", 4, "--out", tmp_path / "a.png")
    if load_generator(checkpoint).c_dim == 0:
        assert result.exit_code == 2
        assert "needs a conditional network" in result.output
        return
    assert result.exit_code == 0, result.output
    assert invoke(checkpoint, "--seeds", 4, "--out", tmp_path / "b.png").exit_code == 0
    assert torch.equal(read(tmp_path / "a.png"), read(tmp_path / "b.png"))  # 4 mod 3
    result = invoke(checkpoint, "--class", 3, "--out", tmp_path / "c.png")
    assert result.exit_code == 2
    assert "must be in 0 to 2 (3)" in result.output


def test_random_noise_belongs_to_the_seed(checkpoint, tmp_path):
    for name, seeds in (("one", "7"), ("two", "3,7")):
        assert invoke(checkpoint, "--noise-mode", "random", "--seeds", seeds, "--no-grid", "--out", tmp_path / name).exit_code == 0
    assert torch.equal(read(tmp_path / "one" / "seed0007.png"), read(tmp_path / "two" / "seed0007.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "3-1", "--out", "a.png"], "ranges must run upwards"),
        (["--seeds", "a", "--out", "a.png"], "must be numbers and ranges such as 0-15,20 ('a')"),
        (["--out", "a.jpg"], "must end in .png for a grid ('a.jpg')"),
        (["--truncation", "nan", "--out", "a.png"], "must be finite (nan)"),
    ],
)
def test_rejects_bad_options(checkpoint, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = invoke(checkpoint, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
    assert os.listdir(tmp_path) == []


def test_rejects_a_foreign_file(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"x")
    result = invoke(tmp_path / "x.pt", "--out", tmp_path / "a.png")
    assert result.exit_code == 1
    assert "x.pt' must be an undamaged checkpoint" in result.output
