"""Regularisers on critics whose gradient is known, on the networks, and WGAN's algorithm step by step."""

import pytest
import torch
from torch.func import functional_call

from stylegan_ops import use_impl
from stylegan_ops._library import compiled
from stylegan_ops.models.stylegan2 import Discriminator, Generator
from stylegan_ops.training import (
    LOSSES,
    PathLengthRegularizer,
    clip_weights,
    gradient_penalty,
    r1_penalty,
    r2_penalty,
    simple_path_length_penalty,
)

NATIVE = pytest.param("native", marks=pytest.mark.skipif(not compiled("cpu").loaded, reason="the CPU library is not built"))
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
def test_r1_and_r2_of_a_linear_critic(penalty):
    """D(x) = w.x + b has the gradient w everywhere: gamma / 2 |w|^2, with the derivative gamma w."""
    w, images = draw(3, 4, 4).requires_grad_(), draw(5, 3, 4, 4).requires_grad_()
    value = penalty((images * w).sum((1, 2, 3))[:, None] + 0.7, images, gamma=0.6)
    torch.testing.assert_close(value, 0.3 * w.detach().square().sum(), **EXACT)
    value.backward()
    torch.testing.assert_close(w.grad, 0.6 * w.detach(), **EXACT)


@pytest.mark.parametrize("grad_scale", [1.0, 2.0**16])
@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
def test_r1_and_r2_of_a_quadratic_critic(penalty, grad_scale):
    """D(x) = a |x|^2 / 2 has the gradient a x: gamma / 2 a^2 E|x|^2."""
    a, images = torch.tensor(1.5, requires_grad=True), torch.randn(6, 2, 3, 3, requires_grad=True)
    value = penalty(a * images.square().flatten(1).sum(1, keepdim=True) / 2, images, gamma=2.0, grad_scale=grad_scale)
    squares = images.detach().square().flatten(1).sum(1).mean()
    torch.testing.assert_close(value, 1.5**2 * squares)
    value.backward()
    torch.testing.assert_close(a.grad, 2 * 1.5 * squares)


@pytest.mark.parametrize("target", [1.0, 2.5])
def test_gradient_penalty_of_a_linear_critic(target):
    """lambda (|w| / t - 1)^2, with the derivative 2 lambda (|w| / t - 1) w / (t |w|); |w| = 1.3 is over the one target, under the other."""
    w, reals, fakes = draw(3, 2, 2), draw(5, 3, 2, 2), draw(5, 3, 2, 2)
    w = (1.3 * w / w.norm()).requires_grad_()
    value = gradient_penalty(lambda x: (x * w).sum((1, 2, 3))[:, None] - 4, reals, fakes, 10.0, torch.rand(5, 1, 1, 1), target=target)
    assert value.item() == pytest.approx(10 * (1.3 - target) ** 2 / target**2, rel=1e-12)
    value.backward()
    torch.testing.assert_close(w.grad, 20 * (1.3 - target) / target**2 * w.detach() / 1.3, **EXACT)


@pytest.mark.parametrize("grad_scale", [1.0, 2.0**16])
def test_gradient_penalty_lies_between_the_images(grad_scale):
    """D(x) = a |x|^2 / 2 has a gradient of length a |x|, which tells the points: epsilon x + (1 - epsilon) G(z)."""
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    reals, fakes, epsilon = draw(6, 2, 3, 3), draw(6, 2, 3, 3).requires_grad_(), torch.rand(6, 1, 1, 1, dtype=torch.float64)
    value = gradient_penalty(lambda x: a * x.square().sum((1, 2, 3))[:, None] / 2, reals, fakes, 3.0, epsilon, grad_scale=grad_scale)
    lengths = (epsilon * reals + (1 - epsilon) * fakes).detach().flatten(1).norm(dim=1)
    torch.testing.assert_close(value, 3 * (0.7 * lengths - 1).square().mean(), **EXACT)
    value.backward()
    torch.testing.assert_close(a.grad, 3 * (2 * (0.7 * lengths - 1) * lengths).mean(), **EXACT)
    assert fakes.grad is None


def test_gradient_penalty_of_a_constant_critic_has_no_nan():
    w = torch.zeros(2, requires_grad=True)
    value = gradient_penalty(lambda x: x @ w[:, None], torch.randn(3, 2), torch.randn(3, 2), 10.0, torch.rand(3, 1))
    value.backward()
    assert value.item() == 10
    assert w.grad.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fakes": torch.zeros(3, 2, 4, 4)}, r"fakes must have the shape of reals \(4, 2, 4, 4\), got \(3, 2, 4, 4\)"),
        # This one would broadcast over the width.
        ({"epsilon": torch.zeros(4)}, r"epsilon must have one value for each pair, shape \(4, 1, 1, 1\), got \(4,\)"),
        ({"target": 0.0}, "target must be positive, got 0"),
    ],
)
def test_gradient_penalty_rejects(change, message):
    images = torch.zeros(4, 2, 4, 4)
    arguments = {"reals": images, "fakes": images, "weight": 1.0, "epsilon": torch.zeros(4, 1, 1, 1), **change}
    with pytest.raises(ValueError, match=f"gradient_penalty: {message}"):
        gradient_penalty(lambda x: x.sum((1, 2, 3))[:, None], **arguments)


def test_clip_weights():
    weight, bias = torch.nn.Parameter(torch.tensor([[-2.0, 0.05], [0.1, 3.0]])), torch.nn.Parameter(torch.tensor([-0.1, 0.11]))
    clip_weights([weight, bias], 0.1)
    torch.testing.assert_close(weight.detach(), torch.tensor([[-0.1, 0.05], [0.1, 0.1]]))
    torch.testing.assert_close(bias.detach(), torch.tensor([-0.1, 0.1]))
    with pytest.raises(ValueError, match="clip_weights: bound must be positive, got -1"):
        clip_weights([weight], -1)


def test_wgan_algorithm_on_a_linear_critic():
    """n = 5 critic steps and one of the generator, against algorithm 1 written out: gradients, RMSprop and clipping by hand.

    For C(x) = w.x and G(z) = z + theta: g_w = -(mean x - mean G(z)), g_theta = -w, as quantities to descend.
    """
    rate, bound, decay, eps = 0.02, 0.05, 0.99, 1e-8
    w, theta = draw(3).mul(0.05).requires_grad_(), draw(3).requires_grad_()
    batches = [(draw(8, 3) + 1, draw(8, 3)) for _ in range(6)]
    exact_w, exact_theta, square = w.detach().clone(), theta.detach().clone(), torch.zeros(3, dtype=torch.float64)

    critic, generator = torch.optim.RMSprop([w], lr=rate), torch.optim.RMSprop([theta], lr=rate)
    for x, z in batches[:5]:
        critic.zero_grad()
        LOSSES["wasserstein"].discriminator(x @ w, (z + theta.detach()) @ w).backward()
        critic.step()
        clip_weights([w], bound)
    generator.zero_grad()
    LOSSES["wasserstein"].generator((batches[5][1] + theta) @ w.detach(), None).backward()
    generator.step()

    for x, z in batches[:5]:
        gradient = -(x.mean(0) - (z + exact_theta).mean(0))
        square = decay * square + (1 - decay) * gradient**2
        exact_w = (exact_w - rate * gradient / (square.sqrt() + eps)).clamp(-bound, bound)
    exact_theta = exact_theta + rate * exact_w / ((1 - decay) ** 0.5 * exact_w.abs() + eps)
    assert exact_w.abs().max() == bound
    torch.testing.assert_close(w.detach(), exact_w, **EXACT)
    torch.testing.assert_close(theta.detach(), exact_theta, **EXACT)


def networks(img_resolution):
    """A small StyleGAN2 in float64, its biases and noise not zero."""
    sizes = {"channel_base": 32, "channel_max": 4}
    g = Generator(img_resolution, 1, z_dim=3, w_dim=3, num_layers=1, **sizes).double()
    d = Discriminator(img_resolution, 1, **sizes).double()
    with torch.no_grad():
        for name, parameter in [*g.named_parameters(), *d.named_parameters()]:
            if name.endswith(("noise_strength", "bias")) and "affine" not in name:
                parameter.normal_(std=0.1)
    return g, d


def d_penalty(kind, discriminator, reals, fakes, epsilon):
    if kind == "gp":
        return gradient_penalty(discriminator, reals, fakes, 10.0, epsilon)
    penalty, images = (r1_penalty, reals) if kind == "r1" else (r2_penalty, fakes)
    images = images.detach().requires_grad_()
    return penalty(discriminator(images), images, 5.0)


def g_penalty(kind, synthesis, ws, noise):
    images = synthesis(ws, noise_mode="const")
    if kind == "path":
        return PathLengthRegularizer().double()(images, ws, noise)
    return simple_path_length_penalty(images, ws, noise, 0.5)[0]


@pytest.mark.skipif(not compiled("cpu").loaded, reason="the CPU library is not built")
@pytest.mark.parametrize("kind", ["r1", "r2", "gp", "path", "simple path"])
def test_steps_through_the_networks_are_the_references(kind):
    """The parameters' gradients of each regulariser: second derivatives of every native op, in float64."""
    g, d = networks(16)
    z, noise, epsilon = draw(4, 3), draw(4, 1, 16, 16), torch.rand(4, 1, 1, 1, dtype=torch.float64)
    with torch.no_grad(), use_impl("reference"):
        reals, fakes = draw(4, 1, 16, 16), g(z, noise_mode="const")
    results = []
    for impl in ("reference", "native"):
        with use_impl(impl):
            if "path" in kind:
                module, value = g, g_penalty(kind, g.synthesis, g.mapping(z), noise)
            else:
                module, value = d, d_penalty(kind, d, reals, fakes, epsilon)
            results.append([value, *torch.autograd.grad(value, list(module.parameters()), allow_unused=True, materialize_grads=True)])
    assert sum(bool(t.any()) for t in results[0]) > len(results[0]) // 2
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("impl", ["reference", NATIVE])
@pytest.mark.parametrize("kind", ["r1", "r2", "gp"])
def test_discriminator_penalties_gradcheck(kind, impl):
    d = networks(8)[1]
    names = ["b8.fromrgb.weight", "b8.conv0.bias", "b8.conv1.weight", "b4.conv.weight", "b4.fc.weight"]
    reals, fakes, epsilon = draw(2, 1, 8, 8), draw(2, 1, 8, 8), torch.rand(2, 1, 1, 1, dtype=torch.float64)

    def function(*values):
        return d_penalty(kind, lambda x: functional_call(d, dict(zip(names, values, strict=True)), (x,)), reals, fakes, epsilon)

    with use_impl(impl):
        assert torch.autograd.gradcheck(function, tuple(d.get_parameter(name) for name in names), fast_mode=True)


@pytest.mark.parametrize("impl", ["reference", NATIVE])
@pytest.mark.parametrize("kind", ["path", "simple path"])
def test_path_penalties_gradcheck(kind, impl):
    g = networks(8)[0].synthesis
    names = ["b4.const", "b8.conv0.weight", "b8.conv0.affine.weight", "b8.conv1.bias", "b8.torgb.weight"]
    ws, noise = draw(2, g.num_ws, 3).requires_grad_(), draw(2, 1, 8, 8)
    # The running mean follows the lengths unseen by the gradient: it is held, so that finite differences do not see it either.
    regularizer = PathLengthRegularizer(decay=0.0).double()
    regularizer.mean.fill_(0.5)

    def function(*values):
        images = functional_call(g, dict(zip(names, values, strict=True)), (ws,), {"noise_mode": "const"})
        return regularizer(images, ws, noise) if kind == "path" else simple_path_length_penalty(images, ws, noise, 0.5)[0]

    with use_impl(impl):
        assert torch.autograd.gradcheck(function, tuple(g.get_parameter(name) for name in names), fast_mode=True)
