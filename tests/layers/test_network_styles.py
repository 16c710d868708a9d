"""A network in inference has the styles of all layers made at once, with the same result."""

import copy

import pytest
import torch

from stylegan_ops import use_impl
from stylegan_ops._library import LIBRARIES
from stylegan_ops.models.stylegan2 import Generator
from stylegan_ops.ops import _demodulation

pytestmark = pytest.mark.skipif(not LIBRARIES["cpu"].loaded, reason="needs the compiled CPU library")


def generator(architecture="skip", dtype=torch.float64):
    torch.manual_seed(0)
    G = Generator(16, z_dim=8, w_dim=8, channel_base=64, channel_max=12, architecture=architecture, conv_clamp=256)
    for name, p in G.named_parameters():
        if "synthesis" in name and not name.endswith("weight"):
            torch.nn.init.normal_(p)
    return G.to(dtype).eval().requires_grad_(False)


@pytest.fixture
def made(monkeypatch):
    """How often the styles of a network were made at once."""
    calls = []
    call = _demodulation.NetworkStyles.__call__
    monkeypatch.setattr(_demodulation.NetworkStyles, "__call__", lambda self, styles: calls.append(styles.shape) or call(self, styles))
    return calls


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
@pytest.mark.parametrize("noise_mode", ["none", "const"])
@torch.no_grad()
def test_the_images_are_the_same(made, architecture, noise_mode):
    G = generator(architecture)
    ws = torch.randn(3, G.num_ws, 8, dtype=torch.float64)
    images = G.synthesis(ws, noise_mode=noise_mode)
    assert len(made) == 1
    with use_impl("reference"):
        torch.testing.assert_close(images, G.synthesis(ws, noise_mode=noise_mode), rtol=1e-9, atol=1e-9)
    assert len(made) == 1
    assert torch.equal(images, G.synthesis(ws, noise_mode=noise_mode))
    torch.testing.assert_close(images, G.requires_grad_(True).synthesis(ws, noise_mode=noise_mode), rtol=1e-9, atol=1e-9)
    assert len(made) == 2


@torch.no_grad()
def test_random_noise_differs_by_layer_sample_and_call(made):
    G = generator()
    for p in G.parameters():
        p.zero_()
    for module in G.modules():  # the image is the noise of the last layer, and that of those before
        if hasattr(module, "noise_strength"):
            module.noise_strength.fill_(1)
    G.synthesis.b16.torgb.affine.bias.fill_(1)
    G.synthesis.b16.torgb.weight.fill_(1)
    ws = torch.zeros(2, G.num_ws, 8, dtype=torch.float64)
    torch.manual_seed(1)
    first, second = G.synthesis(ws), G.synthesis(ws)
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    torch.manual_seed(1)
    assert torch.equal(first, G.synthesis(ws))
    assert len(made) == 3 and first.std() > 0.1


@torch.no_grad()
def test_a_changed_weight_is_seen(made):
    G, ws = generator(), None
    for name, p in G.synthesis.named_parameters():
        ws = torch.randn(1, G.num_ws, 8, dtype=torch.float64)
        G.synthesis(ws, noise_mode="const")
        p.add_(torch.randn_like(p))
        images = G.synthesis(ws, noise_mode="const")
        with use_impl("reference"):
            torch.testing.assert_close(images, G.synthesis(ws, noise_mode="const"), rtol=1e-8, atol=1e-8, msg=name)
    assert made


@torch.no_grad()
def test_styles_that_a_hook_edits(made):
    G = generator()
    ws = torch.randn(1, G.num_ws, 8, dtype=torch.float64)
    plain = G.synthesis(ws, noise_mode="const")
    handle = G.synthesis.b8.conv1.affine.register_forward_hook(lambda module, args, styles: styles.square())
    edited = G.synthesis(ws, noise_mode="const")
    assert not torch.allclose(edited, plain)
    with use_impl("reference"):
        torch.testing.assert_close(edited, G.synthesis(ws, noise_mode="const"), rtol=1e-9, atol=1e-9)
    handle.remove()
    seen = []
    handle = G.synthesis.b8.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    G.synthesis(ws, noise_mode="const")
    assert seen[0].shape == (1, 8)
    handle.remove()
    assert len(made) == 1
    assert torch.equal(plain, G.synthesis(ws, noise_mode="const"))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
@torch.no_grad()
def test_autocast(made, dtype, tolerance):
    """To a few roundings: 2^-8 and 2^-11 each, in seven layers."""
    G = generator(dtype=torch.float32)
    for module in G.modules():
        if hasattr(module, "affine"):
            module.affine.bias.mul_(1000)  # beyond float16 with what it is multiplied by
    ws = torch.randn(2, G.num_ws, 8)
    with torch.autocast("cpu", dtype):
        images = G.synthesis(ws, noise_mode="const")
    truth = G.double().synthesis(ws.double(), noise_mode="const")
    assert (images.double() - truth).norm() <= tolerance * truth.norm()
    assert len(made) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_network_of_16_bit(made, dtype):
    """Whose filters are cast with it: their taps are exact there."""
    G = generator(dtype=dtype)
    ws = torch.randn(2, G.num_ws, 8, dtype=dtype)
    truth = generator().to(dtype).double().synthesis(ws.double(), noise_mode="const")
    for is_trained in (False, True):
        images = G.requires_grad_(is_trained).synthesis(ws, noise_mode="const")
        assert (images.double() - truth).norm() <= 16 * torch.finfo(dtype).eps * truth.norm()
    assert len(made) == 2


def test_not_in_training(made):
    G = generator()
    ws = torch.randn(1, G.num_ws, 8, dtype=torch.float64)
    G.synthesis(ws, noise_mode="const")  # gradients are recorded
    with torch.no_grad():
        G.train().synthesis(ws, noise_mode="const")
        G.eval().requires_grad_(True).synthesis(ws, noise_mode="const")
        G.requires_grad_(False)(torch.randn(0, 8, dtype=torch.float64))
    assert made == []


def images_and_reference(G, ws):
    images = G.synthesis(ws, noise_mode="const")
    with use_impl("reference"), torch.inference_mode(False):
        return images, G.synthesis(ws, noise_mode="const")


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {}])
def test_an_optimiser_between_two_samples(made, options):
    """A fused optimiser writes without counting up the versions: the training call between the samples tells."""
    G = generator().train().requires_grad_(True)
    optimizer = torch.optim.Adam(G.parameters(), lr=0.1, **options)
    ws = torch.randn(2, G.num_ws, 8, dtype=torch.float64)
    for _ in range(3):
        optimizer.zero_grad()
        G.synthesis(ws, noise_mode="const").square().mean().backward()
        optimizer.step()
        G.eval().requires_grad_(False)
        with torch.no_grad():
            torch.testing.assert_close(*images_and_reference(G, ws), rtol=1e-8, atol=1e-8)
        G.train().requires_grad_(True)
    assert len(made) == 3


@torch.no_grad()
def test_other_ways_to_change_weights(made):
    G, other = generator(), generator("skip")
    for p in other.parameters():
        p.add_(torch.randn_like(p) / 8)
    ws = torch.randn(1, G.num_ws, 8, dtype=torch.float64)
    twin = copy.deepcopy(G)
    images_and_reference(G, ws)
    for change in (
        lambda: G.load_state_dict(other.state_dict()),
        lambda: torch._foreach_lerp_(list(G.parameters()), list(twin.parameters()), 0.5),
        lambda: [setattr(p, "data", p.data * 1.5) for p in G.parameters()],
        lambda: setattr(G.synthesis.b8.conv0, "weight", torch.nn.Parameter(G.synthesis.b8.conv0.weight * 2, requires_grad=False)),
        lambda: setattr(G.synthesis, "b8", twin.synthesis.b8),
    ):
        change()
        torch.testing.assert_close(*images_and_reference(G, ws), rtol=1e-8, atol=1e-8)
    assert made


def test_in_and_out_of_inference_mode(made):
    G = generator(dtype=torch.float32)
    ws = torch.randn(1, G.num_ws, 8)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.inference_mode(), torch.autocast("cpu", dtype):
            first = G.synthesis(ws, noise_mode="const")
        with torch.no_grad(), torch.autocast("cpu", dtype):
            assert torch.equal(first, G.synthesis(ws, noise_mode="const"))
    w = ws.clone().requires_grad_()
    G.synthesis(w, noise_mode="const").sum().backward()  # projection: gradients of the codes, frozen weights
    assert w.grad.abs().sum() > 0
    assert len(made) == 4
