"""benchmarks/dcgan.py: the networks as in the paper, the losses by hand, and what a run of a few steps leaves behind."""

import json

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("PIL")  # the extra `train`
pytest.importorskip("tqdm")

import dcgan  # noqa: E402
from PIL import Image  # noqa: E402

from stylegan_ops.data import prepare  # noqa: E402


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
    prepare(tmp_path / "images", tmp_path / "data.zip", 16)
    return tmp_path / "data.zip"


@pytest.fixture
def small():
    torch.manual_seed(0)
    return dcgan.Training(16, 3, 8, torch.device("cpu"))


def test_networks_of_the_paper():
    """Figure 1: 100 x 1 x 1, then 1024, 512, 256, 128 channels at 4, 8, 16, 32 pixels, and 3 at 64."""
    G, D = dcgan.generator(64, 3, 128), dcgan.discriminator(64, 3, 128)
    shapes = []
    handles = [m.register_forward_hook(lambda _, __, y: shapes.append(tuple(y.shape[1:]))) for m in G if isinstance(m, nn.ConvTranspose2d)]
    images = G(torch.randn(2, 100, 1, 1))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)] and len(handles) == 5
    assert images.abs().max() <= 1 and D(images).shape == (2, 1)
    for net, norms, activation in ((G, 4, nn.ReLU), (D, 3, nn.LeakyReLU)):
        assert sum(isinstance(m, nn.BatchNorm2d) for m in net) == norms and sum(isinstance(m, activation) for m in net) == 4
        weights = torch.cat([m.weight.flatten() for m in net if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))])
        assert abs(weights.mean().item()) < 5 * 0.02 / len(weights) ** 0.5
        assert weights.std().item() == pytest.approx(0.02, rel=5 / (2 * len(weights)) ** 0.5)
    assert next(m for m in D if isinstance(m, nn.LeakyReLU)).negative_slope == 0.2


def test_bce_by_hand():
    logits = torch.tensor([[0.0], [2.0], [-3.0]], dtype=torch.float64)
    p = 1 / (1 + np.exp(-logits.numpy()))
    assert dcgan.bce(logits, 1.0).item() == pytest.approx(-np.log(p).mean(), rel=1e-12)
    assert dcgan.bce(logits, 0.0).item() == pytest.approx(-np.log(1 - p).mean(), rel=1e-12)


def test_a_step_trains_both_networks(small):
    before = [[p.clone() for p in net.parameters()] for net in (small.G, small.D)]
    losses = small.step(torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8))
    assert losses["loss_D"] == pytest.approx(2 * np.log(2), abs=0.5) and losses["loss_G"] == pytest.approx(np.log(2), abs=0.7)
    for net, old in zip((small.G, small.D), before, strict=True):
        for p, q in zip(net.parameters(), old, strict=True):
            assert 0 < (p - q).abs().max() <= 2.1e-4  # Adam's first step is the learning rate


def test_it_learns_two_brightnesses():
    """Pictures are about 224 in their upper half and 32 in the lower: the samples become so from 128 everywhere."""
    torch.manual_seed(0)
    training = dcgan.Training(8, 1, 32, torch.device("cpu"))
    for _ in range(300):
        reals = torch.randint(0, 64, (16, 1, 1, 1)).repeat(1, 1, 8, 8)
        reals[:, :, :4] += 192
        training.step(reals.to(torch.uint8))
    samples = training.sample(64, 16).float()
    assert abs(samples[:, :, :4].mean() - 224) < 48 and abs(samples[:, :, 4:].mean() - 32) < 48


def test_samples_do_not_depend_on_their_batch(small):
    small.step(torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8))
    torch.manual_seed(1)
    first = small.sample(12, 12)
    torch.manual_seed(1)
    assert (small.sample(12, 5).int() - first.int()).abs().max() <= 1 and small.G.training


def test_run_writes_everything(data, tmp_path, capsys):
    out = tmp_path / "out"
    dcgan.main([str(data), "--outdir", str(out), "--minutes", "0.01", "--width", "8", "--batch", "8", "--samples", "70", "--seed", "3"])
    images = np.load(out / "samples.npz")["images"]
    assert images.shape == (70, 3, 16, 16) and images.dtype == np.uint8 and images.std() > 0
    assert Image.open(out / "grid.png").size == (8 * 16, 8 * 16)
    result = json.loads((out / "result.json").read_text())
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert last["kimg"] == result["kimg"] > 0 and last["seconds"] == result["seconds"] >= 0.6
    assert np.isfinite([last["loss_G"], last["loss_D"]]).all() and result["ru_maxrss_mb"] > 0
    assert result["seconds_per_kimg"] == pytest.approx(result["seconds"] / result["kimg"], rel=0.01)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["kimg"] == result["kimg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--batch", "-1"], "--batch must be above 0"),
        (["--seed", "-1"], "--seed must be at least 0"),
    ],
)
def test_rejects_options(data, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        dcgan.main([str(data), "--outdir", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err


def test_rejects_what_it_cannot_use(data, tmp_path, capsys):
    for arguments, message in (
        ([str(tmp_path / "none.zip"), "--outdir", str(tmp_path / "out")], "path must exist"),
        ([str(data), "--outdir", str(tmp_path)], "--outdir must be new or empty"),
    ):
        with pytest.raises(SystemExit):
            dcgan.main(arguments)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"power of two from 8 on as resolution \(4\)"):
        dcgan.generator(4, 3, 8)
