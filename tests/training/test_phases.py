"""One training step: which updates run, on what, in which format."""

import copy
import functools

import pytest
import torch

from stylegan_ops.training import generator_loss
from stylegan_ops.training.precision import resolve_precision


@pytest.fixture
def batch(data_path):
    from stylegan_ops.data import ImageDataset

    dataset = ImageDataset(data_path)
    images, labels = zip(*[dataset[i] for i in range(8)], strict=True)
    return torch.stack(images), torch.stack(labels)


def count_steps(optimizer):
    counts = []
    optimizer.register_step_post_hook(lambda *args: counts.append(1))
    return counts


def test_lazy_schedule(make_trainer, tmp_path, batch):
    """Six steps with path length every 2 and R1 every 3: 6 + 3 updates of G, 6 + 2 of D."""
    trainer = make_trainer(tmp_path)
    g_steps, d_steps = count_steps(trainer.state.g_optimizer), count_steps(trainer.state.d_optimizer)
    names = [set(trainer.training_step(lambda: batch)) for _ in range(6)]
    assert (len(g_steps), len(d_steps)) == (9, 8)
    assert [step for step in range(6) if "path/penalty" in names[step]] == [0, 2, 4]
    assert [step for step in range(6) if "r1/penalty" in names[step]] == [0, 3]
    assert (trainer.state.step, trainer.state.images) == (6, 48)


def test_regularisers_can_be_off(make_trainer, tmp_path, batch):
    trainer = make_trainer(tmp_path, path_weight=0.0, r1_gamma=0.0)
    assert set(trainer.training_step(lambda: batch)) == {"loss/G", "loss/D", "logits/G", "logits/real", "logits/fake"}
    assert trainer.state.g_optimizer.param_groups[0]["lr"] == trainer.config.g_lr


def test_regularisers_are_weighted_by_their_interval(make_trainer, tmp_path, batch):
    """The gradient of the R1 update is interval * gamma / 2 times that of E|grad D|^2."""
    trainer = make_trainer(tmp_path, r1_gamma=0.7, r1_interval=5, path_weight=0.0, d_lr=1e-30)
    D = trainer.state.D
    reals = (batch[0].float() / 127.5 - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(D(reals).sum(), reals, create_graph=True)
    expected = torch.autograd.grad(gradient.square().sum((1, 2, 3)).mean() * 5 * 0.7 / 2, list(D.parameters()), allow_unused=True)
    trainer.training_step(lambda: batch)  # R1 comes last, and its gradients stay
    for parameter, value in zip(D.parameters(), expected, strict=True):
        if value is not None:
            torch.testing.assert_close(parameter.grad, value, rtol=1e-4, atol=1e-6)


def test_generator_update_is_adam_on_the_loss(make_trainer, tmp_path, batch):
    """Without mixing and noise, G's first update is Adam's on softplus(-D(G(z))) for the step's z."""
    from stylegan_ops.training.random import generator

    trainer = make_trainer(tmp_path, style_mixing=0.0, noise_mode="none", path_weight=0.0)
    state = trainer.state
    G, D = copy.deepcopy(state.G), copy.deepcopy(state.D)
    z = torch.randn(2, 8, 8, generator=generator(0, 0, "G"))[0]
    generator_loss(D(G(z, noise_mode="none"))).backward()
    torch.optim.Adam(G.parameters(), lr=trainer.config.g_lr, betas=(0.0, 0.99)).step()
    trainer.training_step(lambda: batch)
    for (name, expected), actual in zip(G.named_parameters(), state.G.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_w_avg_moves_towards_the_batch(make_trainer, tmp_path, batch):
    trainer = make_trainer(tmp_path)
    before = trainer.state.G.mapping.w_avg.clone()
    trainer.training_step(lambda: batch)
    w_avg = trainer.state.G.mapping.w_avg
    assert not torch.equal(w_avg, before)
    assert torch.equal(w_avg, trainer.state.G_ema.mapping.w_avg)


def test_step_is_a_function_of_seed_and_step(make_trainer, tmp_path, batch):
    first, second = (make_trainer(tmp_path / name) for name in "ab")
    for trainer in (first, second):
        for _ in range(2):
            torch.rand(3)  # the global random stream has no part in it
            trainer.training_step(lambda: batch)
    for a, b in zip(first.state.G.parameters(), second.state.G.parameters(), strict=True):
        assert torch.equal(a, b)
    third = make_trainer(tmp_path / "c", seed=1)
    assert not torch.equal(third.state.G.synthesis.b4.const, first.state.G.synthesis.b4.const)


def test_conditional(make_trainer, tmp_path, batch):
    trainer = make_trainer(tmp_path, conditional=True)
    assert trainer.state.G.c_dim == trainer.state.D.c_dim == 2
    before = trainer.state.D.mapping.embed.weight.clone()
    trainer.training_step(lambda: batch)
    assert not torch.equal(trainer.state.D.mapping.embed.weight, before)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(make_trainer, tmp_path, batch, precision):
    """Layers compute in the format, parameters and losses stay float32 and come out near those of float32."""
    exact, half = (make_trainer(tmp_path / p, precision=p) for p in ("float32", precision))
    if precision == "float16":  # a scale that the first step does not have to find by overflowing
        half.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    seen = set()
    half.state.D.b8.register_forward_hook(lambda module, inputs, outputs: seen.add(outputs[0].dtype))
    expected, stats = (trainer.training_step(lambda: batch) for trainer in (exact, half))
    assert seen == {getattr(torch, precision)}
    for name, value in expected.items():
        assert stats[name].dtype == torch.float32
        torch.testing.assert_close(stats[name], value, rtol=0.1, atol=0.05, msg=name)
    assert all(p.dtype == torch.float32 for p in half.state.G.parameters())
    assert half.state.scaler.is_enabled() == (precision == "float16")


def test_float16_skips_an_overflowing_update(make_trainer, tmp_path, batch):
    trainer = make_trainer(tmp_path, precision="float16", path_weight=0.0, r1_gamma=0.0)
    state = trainer.state
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    before = [p.detach().clone() for network in (state.G, state.D) for p in network.parameters()]
    trainer.training_step(lambda: batch)
    assert state.scaler.get_scale() == 2.0**118  # two updates, two overflows
    for old, new in zip(before, [*state.G.parameters(), *state.D.parameters()], strict=True):
        assert torch.equal(old, new)


def test_compiled_steps_equal_eager_ones(make_trainer, tmp_path, batch, monkeypatch):
    """The plain steps run compiled, the regularisers on the eager modules; aot_eager traces as inductor does, without its C++."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    eager = make_trainer(tmp_path / "eager", noise_mode="const")
    compiled = make_trainer(tmp_path / "compiled", noise_mode="const", compile=True)
    expected, stats = eager.training_step(lambda: batch), compiled.training_step(lambda: batch)  # step 0 has all four updates
    assert expected.keys() == stats.keys()
    assert len(expected) == 8
    for name, value in expected.items():
        torch.testing.assert_close(stats[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_auto_precision(monkeypatch):
    cpu = torch.device("cpu")
    for amx, avx512, expected in ((True, False, "bfloat16"), (False, True, "bfloat16"), (False, False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=amx: has, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=avx512: has, raising=False)
        assert resolve_precision("auto", cpu) == expected
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert resolve_precision("auto", cpu) == "float32"
    assert resolve_precision("float16", cpu) == "float16"
