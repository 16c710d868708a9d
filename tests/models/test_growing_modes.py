"""The networks that grow under autocast, torch.compile and torch.export, the layout of their feature maps, copies and state dicts."""

import copy

import pytest
import torch
from growing_networks import GROWING, make_growing

from stylegan_ops.layers import Blur, EqualizedConv2d, EqualizedLinear, PixelNorm, StyleEpilogue

IN_CHANNELS_LAST = (EqualizedConv2d, StyleEpilogue, Blur)


@pytest.fixture(params=GROWING)
def family(request):
    return request.param


def watched(networks):
    """(module, dtype and layout of what it gives) of every call that follows."""
    seen = []
    for network in networks:
        for module in network.modules():
            if isinstance(module, (EqualizedConv2d, EqualizedLinear, StyleEpilogue, Blur, PixelNorm)):
                module.register_forward_hook(lambda m, args, y: seen.append((m, args[0], y)))
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("img_channels", [1, 3])
@pytest.mark.parametrize(("family", "sizes"), [("progan", {}), ("stylegan", {}), ("stylegan", {"fused_from": 8})])
def test_every_layers_dtype_and_layout(family, sizes, dtype, img_channels):
    """Under autocast every convolution runs in bfloat16 and what follows keeps it; the mapping, styles, images and logits are float32."""
    networks = G, D = make_growing(family, 16, img_channels, c_dim=2, **sizes)
    seen = watched(networks)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        images = G(torch.randn(2, 5), torch.eye(2))
        logits = D(images, torch.eye(2))
    convolutions = {name: m for net in networks for name, m in net.named_modules() if isinstance(m, EqualizedConv2d)}
    used = {id(m) for m, _, _ in seen}
    assert {name for name, m in convolutions.items() if id(m) not in used} == {"synthesis.torgb4", "fromrgb4"}  # of smaller stages
    for module, x, y in seen:
        if isinstance(module, EqualizedLinear):
            assert y.dtype == torch.float32, module
        else:
            assert y.dtype == (dtype if isinstance(module, EqualizedConv2d) else x.dtype), module
        if isinstance(module, IN_CHANNELS_LAST):
            grey = isinstance(module, EqualizedConv2d) and module.weight.shape[1] == 1
            assert grey or y.is_contiguous(memory_format=torch.channels_last), module
    assert images.dtype == logits.dtype == torch.float32
    (images.sum() + logits.sum()).backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 and p.grad.isfinite().all() for net in networks for p in net.parameters())


@torch.no_grad()
def test_autocast_is_close_to_float32(family):
    G, D = make_growing(family, 16)
    z = torch.randn(2, 5)
    images = G(z, noise_mode="const")
    logits = D(images)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(G(z, noise_mode="const"), images, rtol=0.05, atol=0.05 * float(images.abs().max()))
        torch.testing.assert_close(D(images), logits, rtol=0.05, atol=0.05 * float(logits.abs().max()))


def test_double_computes_in_float64(family):
    G, D = make_growing(family, c_dim=2)
    z, c = torch.randn(2, 5), torch.eye(2)
    images, logits = (single := G(z, c, noise_mode="const")), D(single, c)
    G.double(), D.double()
    assert G(z.double(), c.double(), noise_mode="const").dtype == D(images.double(), c.double()).dtype == torch.float64
    torch.testing.assert_close(G(z, c, noise_mode="const").float(), images, rtol=1e-4, atol=1e-4 * float(images.detach().abs().max()))
    torch.testing.assert_close(D(images, c).float(), logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_copies_stand_where_the_network_stands(family):
    G, D = make_growing(family, 16, alpha=0.5)
    z = torch.randn(2, 5)
    images = G(z, noise_mode="const")
    other_G, other_D = copy.deepcopy(G), copy.deepcopy(D)
    assert torch.equal(other_G(z, noise_mode="const"), images) and torch.equal(other_D(images), D(images))
    G.synthesis.grow_to(4)
    assert other_G(z).shape == (2, 3, 16, 16) and other_G.synthesis.is_fading


@torch.no_grad()
def test_a_state_dict_holds_all_but_the_stage(family):
    networks = make_growing(family, 16)
    others = make_growing(family, 16, alpha=1)
    z = torch.randn(2, 5)
    for network, other in zip(networks, others, strict=True):
        for parameter in other.parameters():
            parameter.normal_()
        other.load_state_dict(network.state_dict(), strict=True)
        assert not any("alpha" in name for name in network.state_dict())
    others[0].synthesis.grow_to(16, 0.25)
    others[1].grow_to(16, 0.25)
    images = networks[0](z, noise_mode="const")
    assert torch.equal(others[0](z, noise_mode="const"), images) and torch.equal(others[1](images), networks[1](images))


@torch.no_grad()
def test_compiles_at_two_stages(family):
    """One graph for each stage, and none anew for a step of the fade."""
    G, D = make_growing(family, 8)
    z = torch.randn(2, 5)

    def step(z):
        images = G(z, noise_mode="const")
        return images, D(images)

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for resolution, alpha in ((4, 1), (8, 0.25), (8, 0.5)):
        G.synthesis.grow_to(resolution, alpha)
        D.grow_to(resolution, alpha)
        for got, expected in zip(compiled(z), step(z), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@torch.no_grad()
def test_exports(family):
    G, D = make_growing(family, 8, c_dim=2)
    z, c = torch.randn(2, 5), torch.eye(2)
    exported = torch.export.export(G, (z, c), {"noise_mode": "const"}).module()
    torch.testing.assert_close(exported(z, c, noise_mode="const"), G(z, c, noise_mode="const"))
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(torch.export.export(D, (images, c)).module()(images, c), D(images, c))
