"""The networks under autocast, torch.compile and torch.export, and the layout of their feature maps."""

import pytest
import torch

from stylegan_ops.layers import EqualizedConv2d, EqualizedLinear, SynthesisLayer, ToRGB
from stylegan_ops.models.stylegan2 import ARCHITECTURES

CONVOLUTIONS = (EqualizedConv2d, SynthesisLayer, ToRGB)


def record_layers(*networks):
    """Collects (module, its output) for each layer of each network during the following calls."""
    seen = []
    for network in networks:
        for module in network.modules():
            if isinstance(module, (*CONVOLUTIONS, EqualizedLinear)):
                module.register_forward_hook(lambda m, args, y: seen.append((m, y)))
    return seen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("img_channels", [1, 3])
def test_every_layers_dtype_and_layout(make_networks, architecture, dtype, img_channels):
    """Under autocast every convolution runs in bfloat16; the mapping, styles, images and logits stay float32."""
    g, d = make_networks(16, img_channels, c_dim=2, architecture=architecture)
    seen = record_layers(g, d)
    images_between = []
    for block in (g.synthesis.b4, g.synthesis.b8):
        block.register_forward_hook(lambda m, args, y: images_between.append(y[1]))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        pictures = g.synthesis.images(g.mapping(torch.randn(2, 6), torch.eye(2)))
        images = pictures[-1]
        logits = d(pictures if architecture == "msg" else images, torch.eye(2))
    layers = [m for net in (g, d) for m in net.modules() if isinstance(m, (*CONVOLUTIONS, EqualizedLinear))]
    assert {id(m) for m, _ in seen} == {id(m) for m in layers}
    for module, y in seen:
        if isinstance(module, CONVOLUTIONS):
            assert y.dtype == dtype, module
            # What fromRGB makes of a grey image is brought into channels_last behind it.
            grey = isinstance(module, EqualizedConv2d) and module.weight.shape[1] == 1
            assert grey or y.is_contiguous(memory_format=torch.channels_last), module
        else:
            assert y.dtype == torch.float32, module
    assert images.dtype == logits.dtype == torch.float32
    assert all(image is None or image.dtype == torch.float32 for image in images_between)
    (images.sum() + logits.sum()).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for net in (g, d) for p in net.parameters())


@torch.no_grad()
def test_autocast_is_close_to_float32(make_networks):
    g, d = make_networks(16)
    z = torch.randn(2, 6)
    images = g(z, noise_mode="const")
    logits = d(images)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(g(z, noise_mode="const"), images, rtol=0.05, atol=0.05 * float(images.abs().max()))
        torch.testing.assert_close(d(images), logits, rtol=0.05, atol=0.05 * float(logits.abs().max()))


@pytest.mark.parametrize(("architecture", "autocast"), [("orig", False), ("skip", True), ("resnet", False)])
def test_compiles(make_networks, architecture, autocast):
    g, d = make_networks(8, c_dim=2, architecture=architecture)
    z, c = torch.randn(2, 6), torch.eye(2)

    def step(z, c):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            images = g(z, c, noise_mode="const", truncation_psi=0.7, truncation_cutoff=2)
            return images, d(images, c)

    expected = step(z, c)
    torch._dynamo.reset()
    result = torch.compile(step, fullgraph=True, backend="aot_eager")(z, c)
    tolerance = 0.02 if autocast else 1e-5
    for got, want in zip(result, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * float(want.detach().abs().max()))
    gradients = []
    for outputs in (result, expected):
        loss = outputs[0].square().sum() + outputs[1].sum()
        gradients.append(torch.autograd.grad(loss, [*g.parameters(), *d.parameters()]))
    for got, want in zip(*gradients, strict=True):
        tolerance = 0.1 if autocast else 1e-4
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * max(1e-3, float(want.detach().abs().max())))


def test_compiles_with_random_noise(make_networks):
    g, _ = make_networks(8)
    torch._dynamo.reset()
    images = torch.compile(g, fullgraph=True, backend="aot_eager")(torch.randn(2, 6))
    assert images.shape == (2, 3, 8, 8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exports(make_networks, architecture):
    g, d = make_networks(8, c_dim=2, architecture=architecture)
    z, c = torch.randn(2, 6), torch.eye(2)
    exported = torch.export.export(g, (z, c), {"noise_mode": "const", "truncation_psi": 0.5}).module()
    torch.testing.assert_close(exported(z, c, noise_mode="const", truncation_psi=0.5), g(z, c, noise_mode="const", truncation_psi=0.5))
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(torch.export.export(d, (images, c)).module()(images, c), d(images, c))


def test_generator_exports_for_any_batch(make_networks):
    g, _ = make_networks(8, c_dim=2)
    batch = torch.export.Dim("batch")
    shapes = {"z": {0: batch}, "c": {0: batch}, "noise_mode": None}
    program = torch.export.export(g, (torch.randn(3, 6), torch.eye(2)[[0, 1, 1]]), {"noise_mode": "const"}, dynamic_shapes=shapes)
    z, c = torch.randn(5, 6), torch.eye(2)[[0, 1, 1, 0, 0]]
    torch.testing.assert_close(program.module()(z, c, noise_mode="const"), g(z, c, noise_mode="const"))


def test_inference_mode_matches(make_networks):
    g, d = make_networks(8)
    z = torch.randn(2, 6)
    expected = g(z, noise_mode="const")
    with torch.inference_mode():
        images = g(z, noise_mode="const")
        torch.testing.assert_close(images, expected)
        torch.testing.assert_close(d(images), d(expected.detach()))
