"""Every adversarial loss on a linear critic, against values and gradients derived by hand."""

import math

import pytest
import torch

from stylegan_ops.training import LOSSES, discriminator_loss, generator_loss, rahinge_generator_loss


def share(condition):
    """Mean of an indicator."""
    return condition.double().mean()


def logistic(r, f):
    value = torch.log1p((-r).exp()).mean() + torch.log1p(f.exp()).mean()
    return value, -1 / (1 + r.exp()), 1 / (1 + (-f).exp())


def lsgan(r, f):
    return ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2, r - 1, f


def wasserstein(r, f):
    return f.mean() - r.mean(), -torch.ones_like(r), torch.ones_like(f)


def hinge(r, f):
    value = (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean()
    return value, -(r < 1).double(), (f > -1).double()


def rahinge(r, f):
    u, v = r - f.mean(), f - r.mean()
    value = (1 - u).clamp(min=0).mean() + (1 + v).clamp(min=0).mean()
    # Each logit also moves the mean that those of the other kind are compared with.
    return value, -(u < 1).double() - share(v > -1), (v > -1).double() + share(u < 1)


def logistic_generator(r, f):
    return torch.log1p((-f).exp()).mean(), 0 * r, -1 / (1 + f.exp())


def minimax_generator(r, f):
    return (1 - 1 / (1 + (-f).exp())).log().mean(), 0 * r, -1 / (1 + (-f).exp())


def lsgan_generator(r, f):
    return ((f - 1) ** 2).mean() / 2, 0 * r, f - 1


def wasserstein_generator(r, f):
    return -f.mean(), 0 * r, -torch.ones_like(f)


def rahinge_generator(r, f):
    u, v = r - f.mean(), f - r.mean()
    value = (1 + u).clamp(min=0).mean() + (1 - v).clamp(min=0).mean()
    return value, (u > -1).double() + share(v < 1), -(v < 1).double() - share(u > -1)


# (real logits, fake logits) -> loss, N dL/dr_i, M dL/df_j: of the discriminator and of the generator.
BY_HAND = {
    "logistic": (logistic, logistic_generator),
    "minimax": (logistic, minimax_generator),
    "lsgan": (lsgan, lsgan_generator),
    "wasserstein": (wasserstein, wasserstein_generator),
    "hinge": (hinge, wasserstein_generator),
    "rahinge": (rahinge, rahinge_generator),
}


def linear_critic():
    """D(x) = w.x + b on 7 real and 5 generated points, their logits on both sides of every margin."""
    random = torch.Generator().manual_seed(0)
    w = torch.tensor([1.5, -0.5, 0.8], dtype=torch.float64)
    reals, fakes = (torch.randn(n, 3, generator=random, dtype=torch.float64) for n in (7, 5))
    leaves = [t.requires_grad_() for t in (w, torch.tensor(0.3, dtype=torch.float64), reals, fakes)]
    w, b, reals, fakes = leaves
    return leaves, (reals @ w + b)[:, None], (fakes @ w + b)[:, None]


def test_linear_critic_is_on_both_sides_of_every_margin():
    _, r, f = linear_critic()
    for t in (r, f, r - f.mean(), f - r.mean()):
        for margin in (-1, 1):
            assert 0 < share(t > margin) < 1


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradients_on_a_linear_critic(name, player):
    """dL/dw = sum_i L'_i x_i, dL/db = sum_i L'_i, dL/dx_i = L'_i w, with the derivatives L' in the logits from `BY_HAND`."""
    leaves, real_logits, fake_logits = linear_critic()
    loss = LOSSES[name]
    if player == "discriminator":
        value = loss.discriminator(real_logits, fake_logits)
    else:
        value = loss.generator(fake_logits, real_logits if loss.uses_reals else None)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)

    w, _, reals, fakes = (leaf.detach() for leaf in leaves)
    expected, d_real, d_fake = BY_HAND[name][player == "generator"](real_logits.detach()[:, 0], fake_logits.detach()[:, 0])
    d_real, d_fake = d_real / len(reals), d_fake / len(fakes)
    by_hand = (d_real @ reals + d_fake @ fakes, d_real.sum() + d_fake.sum(), d_real[:, None] * w, d_fake[:, None] * w)
    torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-12)
    for got, want in zip(gradients, by_hand, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_generator_needs_reals_where_it_says_so(name):
    loss = LOSSES[name]
    assert loss.name == name
    if loss.uses_reals:
        with pytest.raises(ValueError, match=f"{name}.*real_logits is None"):
            loss.generator(torch.zeros(2, 1), None)
    else:
        assert torch.equal(loss.generator(torch.ones(2, 1), None), loss.generator(torch.ones(2, 1), torch.randn(3, 1)))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_widen_half_precision_and_keep_double(name):
    """300^2 is over float16's largest number, and a mean of 4096 equal values is exact in float32 alone."""
    real, fake = torch.full((4096, 1), 300.0), torch.full((4096, 1), -299.5)
    for loss, logits in ((LOSSES[name].discriminator, (fake, real)), (LOSSES[name].generator, (fake, real))):
        half = loss(*(t.half() for t in logits))
        assert half.dtype == torch.float32
        assert half == loss(*logits)
        assert half.isfinite()
        assert loss(*(t.double() for t in logits)).dtype == torch.float64


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


def test_minimax_saturates_where_the_discriminator_is_sure():
    """dL_G/dD = -sigmoid(D): 4e-18 at D = -40, where the non-saturating loss still has -1."""
    gradients = {}
    for name in ("minimax", "logistic"):
        logits = torch.tensor([[-40.0]], requires_grad=True)
        (gradients[name],) = torch.autograd.grad(LOSSES[name].generator(logits, None), logits)
    assert gradients["minimax"].item() == pytest.approx(-math.exp(-40), rel=1e-6)
    assert gradients["logistic"].item() == -1


def test_rahinge_is_symmetric_in_the_players():
    """The generator's loss is the discriminator's with real and generated exchanged."""
    _, real, fake = linear_critic()
    assert rahinge_generator_loss(fake, real) == LOSSES["rahinge"].discriminator(fake, real)
