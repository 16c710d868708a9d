"""Every family, architecture and loss trains with the same trainer; growing runs resume in mid-fade bit by bit."""

import json

import pytest
import torch
from training_helpers import TINY, assert_same_bits

from stylegan_ops.data import ImageDataset, prepare
from stylegan_ops.models import progan, stylegan, stylegan2
from stylegan_ops.training import LOSSES, Processes, Trainer, TrainingConfig, latest_checkpoint, load_checkpoint, load_generator
from stylegan_ops.training.presets import MODEL_DEFAULTS, WGAN_GP

GROWTH = {"stabilize_kimg": 0.016, "fade_kimg": 0.024, "batch_per_resolution": "4:8,8:4"}
PROGAN = {"model": "progan", **MODEL_DEFAULTS["progan"], **WGAN_GP, "path_weight": 1.0}
FAMILIES = {
    "progan": {**PROGAN, **GROWTH},
    "stylegan": {"model": "stylegan", **GROWTH},
    "orig": {"g_architecture": "orig", "d_architecture": "orig"},
    "skip": {"g_architecture": "skip", "d_architecture": "skip"},
    "resnet": {"g_architecture": "resnet", "d_architecture": "resnet"},
    "msg": {"g_architecture": "msg", "d_architecture": "msg"},
}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_trains_and_generates(make_trainer, tmp_path, family, conditional):
    """Every parameter of both networks moves, path length and penalties included, and the checkpoint draws pictures."""
    trainer = make_trainer(tmp_path / "run", kimg=0.064, conditional=conditional, log_seconds=1e-6, **FAMILIES[family])
    before = [{name: p.detach().clone() for name, p in network.named_parameters()} for network in (trainer.state.G, trainer.state.D)]
    result = trainer.run()
    for old, network in zip(before, (trainer.state.G, trainer.state.D), strict=True):
        assert changed(old, dict(network.named_parameters())) == set(old)
    G = load_generator(result.checkpoint)
    c = torch.eye(2) if conditional else None
    with torch.inference_mode():
        images = G(torch.randn(2, G.z_dim), c, noise_mode="const")
    assert images.shape == (2, 3, 8, 8) and images.isfinite().all()
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"loss/G", "loss/D", "path/penalty"} <= set().union(*logged)


@pytest.mark.parametrize("family", ["progan", "stylegan"])
def test_stages_follow_the_schedule(make_trainer, tmp_path, family):
    """16 images at 4 px, 24 while 8 px fade in by fours, then 8 px: alpha is that of a step's first image."""
    trainer = make_trainer(tmp_path / "run", kimg=0.048, **FAMILIES[family])
    step, seen = trainer.training_step, []

    def recorded(next_batch):
        def noted():
            batch = next_batch()
            seen.append((trainer.state.images, tuple(batch[0].shape), round(trainer.state.stage.alpha, 6)))
            return batch

        return step(noted)

    trainer.training_step = recorded
    trainer.run()
    fading = [(16 + 4 * i, (4, 3, 8, 8), round((4 * i + 1) / 24, 6)) for i in range(6)]
    assert seen == [(0, (8, 3, 4, 4), 1), (8, (8, 3, 4, 4), 1), *fading, (40, (4, 3, 8, 8), 1), (44, (4, 3, 8, 8), 1)]


@pytest.mark.parametrize("end", [0.016, 0.024], ids=["at the change", "in mid-fade"])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("family", ["progan", "stylegan"])
def test_growing_run_resumes_with_the_same_bits(make_trainer, tmp_path, family, reset, end):
    settings = {**FAMILIES[family], "reset_optimizer": reset, "workers": 1, "lr_per_resolution": "4:0.002,8:0.001"}
    whole = make_trainer(tmp_path / "whole", kimg=0.048, **settings).run().checkpoint
    first = make_trainer(tmp_path / "parts", kimg=end, **settings).run().checkpoint
    second = make_trainer(tmp_path / "parts", kimg=0.048, resume=load_checkpoint(first), **settings).run().checkpoint
    assert_same_bits(load_checkpoint(whole), load_checkpoint(second))


def test_generator_of_a_growing_run_stands_at_its_stage(make_trainer, tmp_path):
    checkpoint = make_trainer(tmp_path / "run", kimg=0.024, **FAMILIES["stylegan"]).run().checkpoint
    stage = load_checkpoint(checkpoint)["stage"]
    assert (stage["resolution"], stage["batch_size"]) == (8, 4) and 0 < stage["alpha"] < 1
    synthesis = load_generator(checkpoint).synthesis
    assert (synthesis.resolution, synthesis.is_fading) == (8, True)
    assert synthesis.alpha.item() == pytest.approx(stage["alpha"])


@pytest.mark.parametrize(("reset", "kept"), [(False, True), (True, False)])
def test_optimisers_are_kept_or_reset_at_a_new_resolution(make_trainer, tmp_path, reset, kept):
    trainer = make_trainer(tmp_path / "run", kimg=0.016, reset_optimizer=reset, **FAMILIES["progan"])
    trainer.run()
    assert trainer.state.d_optimizer.state
    trainer.state.enter(trainer.state.stage_to_come())
    assert bool(trainer.state.d_optimizer.state) == kept and bool(trainer.state.g_optimizer.state) == kept


def test_learning_rate_follows_the_resolution(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path / "run", kimg=0.016, g_lr=0.004, d_lr=0.002, lr_per_resolution="8:0.001", **FAMILIES["stylegan"])
    state = trainer.state
    full = [optimizer.param_groups[0]["lr"] for optimizer in (state.g_optimizer, state.d_optimizer)]
    trainer.run()
    state.enter(state.stage_to_come())
    assert [o.param_groups[0]["lr"] for o in (state.g_optimizer, state.d_optimizer)] == pytest.approx([rate / 4 for rate in full])


def test_styles_are_mixed_among_the_layers_of_the_stage(make_trainer, tmp_path):
    """At 4 px two of the four codes are read: with style_mixing 1 these two differ in every image."""
    trainer = make_trainer(tmp_path / "run", **FAMILIES["stylegan"], style_mixing=1.0)
    assert trainer.state.stage.resolution == 4 and trainer.state.G.num_ws == 4
    ws = trainer.training_step._mixed_ws("G", None)
    assert (ws[:, 0] != ws[:, 1]).any(dim=1).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(make_trainer, tmp_path, loss):
    trainer = make_trainer(tmp_path / "run", kimg=0.016, loss=loss, r2_gamma=0.1, gp_weight=1.0, path_weight=0.0)
    before = {name: p.detach().clone() for name, p in trainer.state.D.named_parameters()}
    trainer.run()
    # Losses of differences have no derivative in a bias of all logits, nor has the hinge loss where both margins are missed.
    assert changed(before, dict(trainer.state.D.named_parameters())) | {"b4.out.bias"} == set(before)


def test_wasserstein_gan_of_its_first_paper(make_trainer, tmp_path):
    """RMSprop, five steps of the critic for one of G on images of their own, its weights clipped after each."""
    settings = {"loss": "wasserstein", "optimizer": "rmsprop", "critic_steps": 5, "weight_clip": 0.01, "g_lr": 5e-5, "d_lr": 5e-5}
    settings |= {"r1_gamma": 0.0, "path_weight": 0.0}
    trainer = make_trainer(tmp_path / "run", kimg=0.08, **settings)
    state, updates = trainer.state, {"G": 0, "D": 0}
    for name, optimizer in (("G", state.g_optimizer), ("D", state.d_optimizer)):
        assert type(optimizer) is torch.optim.RMSprop
        optimizer.register_step_post_hook(lambda *_, name=name: updates.__setitem__(name, updates[name] + 1))
    checkpoint = trainer.run().checkpoint
    assert updates == {"G": 2, "D": 10}
    assert (state.step, state.images) == (2, 80)
    acting = [
        p.abs().max().item() * getattr(module, f"{name}_gain", 1)
        for module in state.D.modules()
        for name, p in module.named_parameters(recurse=False)
    ]
    assert 0.0099 < max(acting) <= 0.0100001
    again = make_trainer(tmp_path / "run", kimg=0.12, resume=load_checkpoint(checkpoint), **settings)
    assert load_checkpoint(again.run().checkpoint)["images"] == 120


@pytest.mark.parametrize("family", ["progan", "skip"])
def test_a_clipped_critic_still_teaches_the_generator(make_trainer, tmp_path, family):
    """The clipped weights of a deep critic with equalised learning rates must not leave G without a gradient."""
    settings = {**FAMILIES[family], "loss": "wasserstein", "optimizer": "rmsprop", "weight_clip": 0.01, "gp_weight": 0.0, "drift": 0.0}
    settings |= {"r1_gamma": 0.0, "path_weight": 0.0, "g_lr": 5e-4, "d_lr": 5e-4, "batch_per_resolution": None, "grow": False}
    trainer = make_trainer(tmp_path / "run", kimg=0.016, **settings)  # D is clipped from the end of the first step on
    trainer.run()
    G = trainer.state.G.requires_grad_(True)
    trainer.state.D(G(torch.randn(8, 8))).sum().backward()
    assert torch.cat([p.grad.flatten() for p in G.parameters() if p.grad is not None]).abs().max() > 1e-10


def test_the_penalty_of_every_step_is_part_of_it(make_trainer, tmp_path):
    """With an interval of 1 Adam makes one step on the sum, at its full rate; otherwise penalties have steps of their own."""
    counts = {}
    for interval in (1, 2):
        trainer = make_trainer(tmp_path / str(interval), kimg=0.032, r1_interval=interval, path_weight=0.0, d_lr=0.002)
        assert trainer.state.d_optimizer.param_groups[0]["lr"] == pytest.approx(0.002 * (1 if interval == 1 else 2 / 3))
        counts[interval] = 0
        trainer.state.d_optimizer.register_step_post_hook(lambda *_, n=interval: counts.__setitem__(n, counts[n] + 1))
        trainer.run()
    assert counts == {1: 4, 2: 6}


def test_growing_needs_a_pyramid(tmp_path, data_path):
    source = ImageDataset(data_path)
    folder = tmp_path / "images"
    folder.mkdir()
    from PIL import Image

    for i in range(8):
        Image.fromarray(source[i][0].permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    prepare(folder, tmp_path / "flat.zip", 8)
    config = TrainingConfig(**TINY, model="stylegan")
    with pytest.raises(
        ValueError, match=r"must be one of 8 \(4\); smaller ones are written by `stylegan-ops dataset SOURCE DEST --pyramid`"
    ):
        Trainer(config, ImageDataset(tmp_path / "flat.zip"), tmp_path / "run", Processes(torch.device("cpu")))
    config = TrainingConfig(**TINY, model="stylegan", grow=False, kimg=0.008)
    Trainer(config, ImageDataset(tmp_path / "flat.zip"), tmp_path / "run", Processes(torch.device("cpu"))).run()
    assert load_checkpoint(latest_checkpoint(tmp_path / "run"))["stage"]["resolution"] == 8


def test_networks_are_those_of_the_family(make_trainer, tmp_path):
    for name, module in (("progan", progan), ("stylegan", stylegan), ("msg", stylegan2)):
        state = make_trainer(tmp_path / name, **FAMILIES[name]).state
        assert type(state.G) is module.Generator and type(state.D) is module.Discriminator


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "biggan"}, "model must be one of progan, stylegan, stylegan2 ('biggan')"),
        ({"loss": "l2"}, "loss must be one of logistic, minimax, lsgan, wasserstein, hinge, rahinge ('l2')"),
        ({"g_architecture": "msg"}, "g_architecture and d_architecture must both be msg (msg, resnet)"),
        ({"model": "progan", "style_mixing": 0.5}, "style_mixing must be 0 for a progan, which has no styles (0.5)"),
        ({"model": "progan", "w_dim": 7}, "w_dim must be left out for a progan, which has none (7)"),
        ({"model": "stylegan", "g_architecture": "msg"}, "g_architecture must be left out for a stylegan, which has none ('msg')"),
        ({"lr_per_resolution": "8:1"}, "lr_per_resolution needs a run that grows, of a progan or stylegan ('8:1')"),
        ({"critic_steps": 0}, "critic_steps must be at least 1 (0)"),
    ],
)
def test_rejects_settings(settings, message):
    with pytest.raises(ValueError) as error:
        TrainingConfig.for_resolution(32, **settings)
    assert str(error.value) == f"TrainingConfig: {message}"
