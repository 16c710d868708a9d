"""Losses and R1 against closed forms."""

import math

import pytest
import torch

from stylegan_ops.training import discriminator_loss, generator_loss, r1_penalty


def test_generator_loss_is_minus_log_sigmoid():
    logits = torch.tensor([[0.0], [3.0], [-2.0]], requires_grad=True)
    expected = sum(math.log1p(math.exp(-v)) for v in (0.0, 3.0, -2.0)) / 3
    loss = generator_loss(logits)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    torch.testing.assert_close(logits.grad, -torch.sigmoid(-logits.detach()) / 3)


def test_discriminator_loss_is_binary_cross_entropy():
    real, fake = torch.tensor([[2.0], [-1.0]]), torch.tensor([[0.5], [4.0]])
    logits, truth = torch.cat([real, fake]), torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    # Binary cross-entropy averages over real and fake together, the loss over each alone.
    expected = 2 * torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    torch.testing.assert_close(discriminator_loss(real, fake), expected)


def test_losses_do_not_saturate_or_overflow():
    assert generator_loss(torch.tensor([[-1e4]])).item() == pytest.approx(1e4)
    assert discriminator_loss(torch.tensor([[1e4]]), torch.tensor([[-1e4]])).item() == 0


def test_losses_take_half_precision_in_float32():
    logits = torch.full((4, 1), 300.0, dtype=torch.float16)
    assert generator_loss(-logits).dtype == torch.float32
    assert generator_loss(-logits).item() == pytest.approx(300)


def test_r1_of_a_linear_discriminator_is_its_squared_length():
    weight = torch.randn(3, 4, 4, requires_grad=True)
    reals = torch.randn(5, 3, 4, 4, requires_grad=True)
    penalty = r1_penalty((reals * weight).sum((1, 2, 3))[:, None], reals, gamma=0.6)
    torch.testing.assert_close(penalty, 0.3 * weight.detach().square().sum())
    penalty.backward()
    torch.testing.assert_close(weight.grad, 0.6 * weight.detach())


@pytest.mark.parametrize("grad_scale", [1.0, 2.0**16])
def test_r1_of_a_quadratic_discriminator(grad_scale):
    """D(x) = a |x|^2 / 2 has the gradient a x, so that R1 = gamma / 2 * a^2 * E|x|^2."""
    a = torch.tensor(1.5, requires_grad=True)
    reals = torch.randn(6, 2, 3, 3, requires_grad=True)
    logits = a * reals.square().flatten(1).sum(1, keepdim=True) / 2
    penalty = r1_penalty(logits, reals, gamma=2.0, grad_scale=grad_scale)
    squares = reals.detach().square().flatten(1).sum(1).mean()
    torch.testing.assert_close(penalty, 1.5**2 * squares)
    penalty.backward()
    torch.testing.assert_close(a.grad, 2 * 1.5 * squares)
