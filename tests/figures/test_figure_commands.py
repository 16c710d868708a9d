"""`stylegan-ops mix`, `truncation`, `contributions` and `droplets`, end to end."""

import json
import os
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from stylegan_ops.cli import main
from stylegan_ops.figures import captioned, mix, truncation
from stylegan_ops.training import load_generator
from stylegan_ops.training.checkpoint import list_checkpoints


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def read(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_mix(run_folder, tmp_path):
    out = tmp_path / "new" / "mixed.png"
    result = invoke("mix", run_folder, "--rows", "0-1", "--columns", "5,8,9", "--layers", "coarse,1-2", "--class", 1, "--out", out)
    assert result.output == f"2 matrices of 2 x 3 images: {out}\n"
    G = load_generator(list_checkpoints(run_folder)[-1])
    matrices = [
        captioned(mix(G, [0, 1], [5, 8, 9], layers, 0.7, 1), [f"{words} from the top row"])
        for layers, words in (("coarse", "coarse (layer 0)"), ("1-2", "layers 1-2"))
    ]
    assert torch.equal(read(out), torch.cat(matrices, dim=1))


def test_truncation(run_folder, tmp_path):
    checkpoint, out = list_checkpoints(run_folder)[0], tmp_path / "grid.png"
    result = invoke("truncation", checkpoint, "--seeds", "3,5", "--psi", "-0.5, 0,1", "--out", out)
    assert result.output == f"2 x 3 images: {out}\n"
    images = truncation(load_generator(checkpoint), [3, 5], [-0.5, 0, 1])
    assert torch.equal(read(out), captioned(images, ["psi -0.5", "psi 0", "psi 1"]))


def test_contributions(run_folder, tmp_path):
    pytest.importorskip("matplotlib")
    result = invoke("contributions", run_folder, "--samples", 8, "--seeds", "0-1", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(tmp_path / "out")) == ["contributions.json", "images.png", "plot.png"]
    measured = json.loads((tmp_path / "out" / "contributions.json").read_text())
    assert measured["kimg"] == [0.5, 1.0, 2.5] and measured["count"] == 8
    assert read(tmp_path / "out" / "images.png").shape == (3, 24 + 2 * 96, 3 * 96)
    assert Image.open(tmp_path / "out" / "plot.png").size == (1320, 504)
    alone = invoke("contributions", list_checkpoints(run_folder)[1], "--samples", 8, "--seeds", 0, "--out", tmp_path / "one")
    assert alone.exit_code == 0, alone.output
    assert json.loads((tmp_path / "one" / "contributions.json").read_text())["stds"] == measured["stds"][1:2]


def test_droplets(tmp_path):
    pytest.importorskip("matplotlib")
    assert invoke("droplets", "--resolution", 16, "--out", tmp_path / "a.png").exit_code == 0
    assert read(tmp_path / "a.png").shape[0] in (3, 4)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mix", "--out", "a.jpg"], 2, "'--out': must end in .png ('a.jpg')"),
        (["mix", "--rows", "a", "--out", "a.png"], 2, "'--rows': must be numbers and ranges such as 0-15,20 ('a')"),
        (["mix", "--layers", "coarse,8", "--out", "a.png"], 1, "mix: layers must run upwards within 0 and 3 (got '8')"),
        (["mix", "--truncation", "nan", "--out", "a.png"], 2, "'--truncation': must be finite (nan)"),
        (["mix", "--class", "2", "--out", "a.png"], 2, "--class: must be in 0 to 1 (2)"),
        (["truncation", "--psi", "0,inf", "--out", "a.png"], 2, "'--psi': must be finite (inf)"),
        (["truncation", "--psi", "0,x", "--out", "a.png"], 2, "'--psi': 'x' is not a valid float"),
        (["truncation", "--out", "a.gif"], 2, "'--out': must end in .png ('a.gif')"),
        (["contributions", "--samples", "0", "--out", "a"], 2, "'--samples'"),
        (["droplets", "--resolution", "30", "--out", "a.png"], 1, "droplet_maps: resolution must be a multiple of 4"),
    ],
)
def test_rejects_bad_options(run_folder, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    name, *options = arguments
    result = invoke(name, *([] if name == "droplets" else [run_folder]), *options)
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.replace("│", " ").split())
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_named(run_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = invoke("contributions", run_folder, "--out", tmp_path / "out")
    assert result.output == 'Error: matplotlib is not installed; run: pip install "stylegan_ops[figures]"\n'
