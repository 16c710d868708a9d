"""Derivatives of every family's networks, as R1 and path-length regularisation take them: right, and the same on every implementation."""

import pytest
import torch
from torch.func import functional_call

from stylegan_ops import use_impl
from stylegan_ops._library import compiled
from stylegan_ops.training import PathLengthRegularizer, r1_penalty

needs_native = pytest.mark.skipif(not compiled("cpu").loaded, reason="the CPU library is not built")
IMPLS = ["reference", pytest.param("native", marks=needs_native)]
TINY = {"img_resolution": 8, "img_channels": 1, "channel_base": 16, "channel_max": 2}


def check(network, x, *others, **how):
    """Both derivatives in x and in all parameters, as one vector, in float64, against differences along random directions."""
    shapes = {name: p.shape for name, p in network.named_parameters()}
    vector = torch.nn.utils.parameters_to_vector(network.parameters()).detach().requires_grad_()

    def function(x, vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        values = {name: part.view(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
        return functional_call(network, values, (x, *others), how)

    assert torch.autograd.gradcheck(function, (x, vector), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, vector), fast_mode=True)


@pytest.mark.parametrize("impl", IMPLS)
def test_generator_gradcheck(make_family, impl):
    G = make_family(**TINY)[0].double().synthesis
    with use_impl(impl):
        check(G, torch.randn(2, G.num_ws, 5, dtype=torch.float64, requires_grad=True), noise_mode="const")


@pytest.mark.parametrize("impl", IMPLS)
def test_discriminator_gradcheck(make_family, impl):
    D = make_family(**TINY, c_dim=2)[1].double()
    with use_impl(impl):
        check(D, torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True), torch.eye(2, dtype=torch.float64))


def r1(D, images, labels):
    images = images.clone().requires_grad_()
    return r1_penalty(D(images, labels), images, gamma=1.0)


def path_length(G, z, labels):
    """With a running mean that stands still at 1."""
    ws = G.mapping(z, labels)
    if not ws.requires_grad:  # a ProGAN's code comes from z alone
        ws.requires_grad_()
    images = G.synthesis(ws, noise_mode="const")
    noise = torch.linspace(-1, 1, images.numel(), dtype=images.dtype).view_as(images)
    regularizer = PathLengthRegularizer(decay=1e-12).to(images.dtype)
    regularizer.mean.fill_(1.0)
    return regularizer(images, ws, noise)


def gradients(loss, network):
    return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)


def assert_same(results, truth, tolerance):
    """Relative to each tensor; what is smaller than a millionth of the largest is what is left of sums that cancel."""
    largest = max(float(t.detach().norm()) for t in truth)
    for got, expected in zip(results, truth, strict=True):
        assert got.isfinite().all()
        size = max(float(expected.detach().norm()), 1e-6 * largest)
        assert float((got.detach().double() - expected.detach()).norm()) <= tolerance * size


@pytest.mark.parametrize("c_dim", [0, 3])
def test_regularisers_are_equal_between_implementations(make_family, c_dim):
    networks = G, D = make_family(16, c_dim=c_dim)
    z, images = torch.randn(3, G.z_dim), torch.randn(3, 3, 16, 16)
    labels = torch.eye(3) if c_dim else None
    results = {}
    for impl in ["reference", "native"] if compiled("cpu").loaded else ["reference"]:
        for dtype in (torch.float32, torch.float64):
            for network in networks:
                network.to(dtype)
            with use_impl(impl):
                penalties = r1(D, images.to(dtype), labels), path_length(G, z.to(dtype), labels)
                results[impl, dtype] = [*penalties, *gradients(penalties[0], D), *gradients(penalties[1], G)]
    truth = results.pop(("reference", torch.float64))
    assert sum(t.abs().max() > 0 for t in truth) > len(truth) // 2
    for (_, dtype), found in results.items():
        assert_same(found, truth, 1e-9 if dtype == torch.float64 else 1e-3)


def test_regularisers_have_the_slope_of_their_gradients(make_family):
    """A step along a random direction of the parameters changes each penalty as its gradients say."""
    G, D = (network.double() for network in make_family(8))
    z, images = torch.randn(2, G.z_dim, dtype=torch.float64), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for network, penalty in ((D, lambda: r1(D, images, None)), (G, lambda: path_length(G, z, None))):
        steps = [torch.randn_like(p) for p in network.parameters()]
        slope = sum(float((g * s).sum()) for g, s in zip(gradients(penalty(), network), steps, strict=True))
        values, h = [], 1e-6
        for move in (h, -2 * h):
            with torch.no_grad():
                for parameter, step in zip(network.parameters(), steps, strict=True):
                    parameter.add_(step, alpha=move)
            values.append(float(penalty().detach()))
        assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)


@needs_native
def test_native_matches_reference_in_float64(make_family):
    G, D = (network.double() for network in make_family(16, 5, c_dim=3, conv_clamp=1.0))
    z, labels = torch.randn(3, G.z_dim, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    results = []
    for impl in ("reference", "native"):
        with use_impl(impl):
            images = G(z, labels, noise_mode="const")
            logits = D(images, labels)
            results.append([images, logits, *gradients(logits.sum(), G), *gradients(D(images.detach(), labels).sum(), D)])
    assert_same(results[1], results[0], 1e-9)
