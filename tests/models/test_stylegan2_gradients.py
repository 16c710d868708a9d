"""Derivatives of the whole networks, as R1 and path-length regularisation take them, on every implementation."""

import pytest
import torch
from torch.func import functional_call

from stylegan_ops import use_impl
from stylegan_ops._library import compiled
from stylegan_ops.models.stylegan2 import ARCHITECTURES

NATIVE = pytest.param("native", marks=pytest.mark.skipif(not compiled("cpu").loaded, reason="the CPU library is not built"))
IMPLS = ["reference", NATIVE]
TINY = {"img_resolution": 8, "img_channels": 1, "channel_base": 16, "channel_max": 2}


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generator_gradcheck(make_networks, impl, architecture):
    g = make_networks(**TINY, architecture=architecture)[0].double().synthesis
    ws = torch.randn(2, g.num_ws, 5, dtype=torch.float64, requires_grad=True)
    names = ["b4.const", "b8.conv0.weight", "b8.conv0.affine.weight", "b8.conv1.noise_strength", "b8.conv1.bias", "b8.torgb.weight"]
    parameters = [g.get_parameter(name) for name in names]

    def function(ws, *values):
        return functional_call(g, dict(zip(names, values, strict=True)), (ws,), {"noise_mode": "const"})

    with use_impl(impl):
        assert torch.autograd.gradcheck(function, (ws, *parameters), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (ws, *parameters), fast_mode=True)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_discriminator_gradcheck(make_networks, impl, architecture):
    d = make_networks(**TINY, architecture=architecture, c_dim=2)[1].double()
    image = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    names = ["b8.fromrgb.weight", "b8.conv0.bias", "b8.conv1.weight", "b4.conv.weight", "b4.fc.weight", "mapping.embed.weight"]
    parameters = [d.get_parameter(name) for name in names]

    def function(image, *values):
        return functional_call(d, dict(zip(names, values, strict=True)), (image, torch.eye(2)))

    with use_impl(impl):
        assert torch.autograd.gradcheck(function, (image, *parameters), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (image, *parameters), fast_mode=True)


def r1(d, images, labels):
    """Gradients with respect to D's parameters of `mean(||grad_x D(x)||^2)` (Mescheder et al. 2018)."""
    images = images.requires_grad_()
    (gradient,) = torch.autograd.grad(d(images, labels).sum(), images, create_graph=True)
    penalty = gradient.square().sum([1, 2, 3]).mean()
    return torch.autograd.grad(penalty, list(d.parameters()), allow_unused=True, materialize_grads=True)


def path_length(g, z, labels):
    """Gradients with respect to G's parameters of `mean((||J_w^T y|| - 1)^2)` (Karras et al. 2020, equation 4)."""
    ws = g.mapping(z, labels)
    images = g.synthesis(ws, noise_mode="const")
    y = torch.linspace(-1, 1, images.numel(), dtype=images.dtype).view_as(images)
    (jacobian,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    lengths = jacobian.square().sum(2).mean(1).sqrt()
    return torch.autograd.grad((lengths - 1).square().mean(), list(g.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_regularisers_have_finite_gradients_equal_between_implementations(make_networks, architecture):
    g, d = make_networks(16, c_dim=3, architecture=architecture)
    z, images = torch.randn(3, 6), torch.randn(3, 3, 16, 16)
    results = {}
    for impl in ["reference", "native"] if compiled("cpu").loaded else ["reference"]:
        for dtype in (torch.float32, torch.float64):
            g.to(dtype), d.to(dtype)
            with use_impl(impl):
                results[impl, dtype] = r1(d, images.to(dtype), torch.eye(3)) + path_length(g, z, torch.eye(3))
    truth = results.pop(("reference", torch.float64))
    assert sum(t.abs().max() > 0 for t in truth) > len(truth) // 2
    for (_, dtype), gradients in results.items():
        for got, expected in zip(gradients, truth, strict=True):
            assert got.isfinite().all()
            tolerance = 1e-9 if dtype == torch.float64 else 2e-4
            torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance * max(1.0, float(expected.abs().max())))


@pytest.mark.skipif(not compiled("cpu").loaded, reason="the CPU library is not built")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_native_matches_reference_in_float64(make_networks, architecture):
    g, d = make_networks(16, 5, c_dim=3, architecture=architecture, conv_clamp=1.0)
    g.double(), d.double()
    z = torch.randn(3, 6, dtype=torch.float64)
    results = []
    for impl in ("reference", "native"):
        with use_impl(impl):
            images = g(z, torch.eye(3), noise_mode="const")
            logits = d(images, torch.eye(3))
            results.append([images, logits, *torch.autograd.grad(logits.sum(), [*g.parameters(), *d.parameters()], materialize_grads=True)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
