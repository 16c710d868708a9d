"""Style mixing, the average of G, lazy regularisation: the small formulas of a step."""

import copy

import pytest
import torch

from stylegan_ops.training import draw_crossovers, ema_beta, lazy_adam, mix_styles, update_ema
from stylegan_ops.training.lazy import is_due


def test_mix_styles_changes_at_the_crossover():
    ws, other = torch.zeros(3, 4, 2, requires_grad=True), torch.ones(3, 4, 2, requires_grad=True)
    mixed = mix_styles(ws, other, torch.tensor([1, 4, 3]))
    assert mixed[:, :, 0].tolist() == [[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]
    mixed.sum().backward()
    torch.testing.assert_close(ws.grad + other.grad, torch.ones(3, 4, 2))
    assert ws.grad[1].eq(1).all()


def test_crossovers_have_the_probability_and_all_layers():
    crossovers = draw_crossovers(20000, 6, 0.9, torch.Generator().manual_seed(0))
    assert (crossovers < 6).float().mean().item() == pytest.approx(0.9, abs=0.01)
    counts = torch.bincount(crossovers, minlength=7)
    assert counts[0] == 0
    # Five layers share 0.9 equally.
    assert (counts[1:6] / 20000 - 0.18).abs().max() < 0.015


@pytest.mark.parametrize(("probability", "expected"), [(0.0, {6}), (1.0, {1, 2, 3, 4, 5})])
def test_crossovers_at_the_ends(probability, expected):
    assert set(draw_crossovers(500, 6, probability, torch.Generator().manual_seed(0)).tolist()) == expected


def test_ema_beta():
    assert ema_beta(32, 10**9, ema_kimg=10, rampup=0.05) == pytest.approx(0.5 ** (32 / 10000))
    assert ema_beta(32, 2000, ema_kimg=10, rampup=0.05) == pytest.approx(0.5 ** (32 / 100))
    assert ema_beta(32, 2000, ema_kimg=10, rampup=0) == pytest.approx(0.5 ** (32 / 10000))
    assert ema_beta(32, 2000, ema_kimg=0, rampup=0.05) == 0


def test_update_ema_averages_parameters_and_copies_buffers():
    model = torch.nn.BatchNorm1d(3)
    average = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.fill_(5.0)
        model.running_mean.fill_(2.0)
    update_ema(average, model, 0.75)
    assert average.weight.tolist() == [2.0] * 3  # 0.75 * 1 + 0.25 * 5
    assert average.running_mean.tolist() == [2.0] * 3
    assert average.weight.grad_fn is None


def test_lazy_adam_corrects_rate_and_betas():
    group = lazy_adam([torch.nn.Parameter(torch.zeros(1))], lr=0.002, betas=(0, 0.99), interval=16).param_groups[0]
    c = 16 / 17
    assert group["lr"] == pytest.approx(0.002 * c)
    assert group["betas"] == pytest.approx((0, 0.99**c))
    plain = lazy_adam([torch.nn.Parameter(torch.zeros(1))], lr=0.002, betas=(0.5, 0.99), interval=None).param_groups[0]
    assert plain["lr"] == 0.002
    assert plain["betas"] == (0.5, 0.99)


def test_lazy_adam_moves_as_far_as_the_plain_one():
    """k + 1 corrected steps under a constant gradient move as far and remember as long as k plain ones."""
    k = 4
    lazy, plain = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    for parameter, interval, steps in ((lazy, k, k + 1), (plain, None, k)):
        optimizer = lazy_adam([parameter], lr=0.01, betas=(0, 0.99), interval=interval)
        for _ in range(steps):
            parameter.grad = torch.ones(1)
            optimizer.step()
        assert optimizer.param_groups[0]["betas"][1] ** steps == pytest.approx(0.99**k)
    assert lazy.item() == pytest.approx(plain.item(), rel=1e-5)


def test_schedule():
    assert [step for step in range(33) if is_due(step, 16)] == [0, 16, 32]
    assert not any(is_due(step, None) for step in range(5))
