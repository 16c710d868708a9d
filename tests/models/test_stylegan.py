"""StyleGAN's networks against their definition in plain torch, float64: every switch, growing, styles, labels, errors."""

import json

import pytest
import torch
from stylegan_cases import SIZES, SWITCHES, assert_same, define, make
from stylegan_definition import blur, enlarge

from stylegan_ops.layers import estimate_w_avg
from stylegan_ops.models.stylegan import Discriminator, Generator


@pytest.mark.parametrize("fused_from", [8, 1024])
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: ", ".join(f"{k}={v}" for k, v in s.items()) or "default")
def test_matches_definition(switches, fused_from):
    G = make(**switches, fused_from=fused_from)
    D = define(G)
    z = torch.randn(3, 6, dtype=torch.float64)
    w = D.mapping(z)
    assert_same(G.mapping(z), w[:, None].repeat(1, 6, 1))
    assert_same(G(z, noise_mode="const"), D.images(w[:, None].expand(-1, 6, -1), 16))
    ws = torch.randn(3, 6, 5, dtype=torch.float64)
    images = G.synthesis(ws, noise_mode="const")
    assert images.shape == (3, 3, 16, 16) and images.is_contiguous()
    assert_same(images, D.images(ws, 16))
    D.noise = {}
    assert_same(G.synthesis(ws, noise_mode="none"), D.images(ws, 16))


def test_every_parameter_matters():
    """The definition reads all that the generator has: each parameter moves the image of both."""
    G = make(progressive=False, const_input=False)
    ws = torch.randn(2, 6, 5, dtype=torch.float64)
    (G(torch.randn(2, 6, dtype=torch.float64), noise_mode="const").square().sum() + G.synthesis(ws).sum()).backward()
    assert [name for name, p in G.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_both_ways_of_upsampling_are_equal():
    fused, plain = make(fused_from=8, blur_filter=None), make(fused_from=1024, blur_filter=None)
    plain.load_state_dict(fused.state_dict())
    assert fused.synthesis.up8.is_fused and not plain.synthesis.up16.is_fused
    ws = torch.randn(2, 6, 5, dtype=torch.float64)
    assert_same(fused.synthesis(ws, noise_mode="const"), plain.synthesis(ws, noise_mode="const"))
    widest = Generator(256, **SIZES | {"channel_base": 256, "channel_max": 2}).synthesis
    assert [r for r in widest.blocks[1:] if getattr(widest, f"up{r}").is_fused] == [128, 256]


def test_size_at_1024_pixels_is_that_of_the_published_generator():
    with torch.device("meta"):
        G = Generator(1024, progressive=False)
    assert sum(p.numel() for p in G.parameters()) == 26_212_019
    assert G.num_ws == 18
    assert [G.synthesis.get_submodule(f"conv{r}").weight.shape[0] for r in G.synthesis.blocks] == [512, 512, 512, 512, 256, 128, 64, 32, 16]


@pytest.mark.parametrize(("resolution", "alpha"), [(4, 1), (8, 0.0), (8, 0.3), (8, 1), (16, 0.75)])
def test_growing_matches_definition(resolution, alpha):
    G = make()
    D = define(G)
    G.synthesis.grow_to(resolution, alpha)
    ws = torch.randn(2, 6, 5, dtype=torch.float64)
    assert_same(G.synthesis(ws, noise_mode="const"), D.images(ws, resolution, alpha, growing=True))
    (images,) = G.synthesis.images(ws, noise_mode="const")
    assert images.shape == (2, 3, resolution, resolution)


def test_at_alpha_0_the_smaller_network_enlarged():
    G = make()
    ws = torch.randn(2, 6, 5, dtype=torch.float64)
    G.synthesis.grow_to(8)
    smaller = G.synthesis(ws, noise_mode="const")
    G.synthesis.grow_to(16, 0)
    assert torch.equal(G.synthesis(ws, noise_mode="const"), enlarge(smaller))


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, (12,), r"resolution must be one of 4, 8, 16 \(got 12\)"),
        (ValueError, (32,), r"resolution must be one of 4, 8, 16 \(got 32\)"),
        (TypeError, (8.0,), r"resolution must be an integer \(got 8.0\)"),
        (ValueError, (8, 1.5), r"alpha must be within 0 and 1 \(got 1.5\)"),
        (ValueError, (8, -0.1), r"alpha must be within 0 and 1 \(got -0.1\)"),
        (ValueError, (8, float("nan")), r"alpha must be within 0 and 1 \(got nan\)"),
        (TypeError, (8, "a"), r"alpha must be a real number \(got 'a'\)"),
        (ValueError, (4, 0.5), r"alpha must be 1 at the first resolution, 4 \(got 0.5\)"),
    ],
)
def test_grow_to_rejects(error, arguments, message):
    G, D = make(), Discriminator(16, channel_base=64, channel_max=8)
    for network, owner in ((G.synthesis, "SynthesisNetwork"), (D, "Discriminator")):
        with pytest.raises(error, match=f"^{owner}: {message}$"):
            network.grow_to(*arguments)
        assert (network.resolution, network.is_fading, float(network.alpha)) == (16, False, 1.0)
    with pytest.raises(ValueError, match=r"^SynthesisNetwork: resolution must be one of 16 \(got 8\)$"):
        make(progressive=False).synthesis.grow_to(8)


def test_a_style_acts_from_its_layer_on():
    """Codes 2k and 2k + 1 belong to resolution 4 * 2^k: what lies before them does not change, what lies behind does."""
    G = make().synthesis
    ws, others = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    seen = {}
    for r in (4, 8, 16):
        for i in range(2):
            key = f"epilogue{r}_{i}"
            G.get_submodule(key).register_forward_hook(lambda m, a, y, key=key: seen.__setitem__(key, y))
    G(ws, noise_mode="const")
    before = dict(seen)
    for code, changed in enumerate(before):
        mixed = ws.clone()
        mixed[:, code] = others[:, code]
        G(mixed, noise_mode="const")
        assert [key for key in before if not torch.equal(seen[key], before[key])] == list(before)[code:], changed


def test_codes_of_resolutions_not_reached_are_not_read():
    G = make().synthesis
    G.grow_to(8)
    ws = torch.randn(2, 6, 5, dtype=torch.float64)
    images = G(ws, noise_mode="const")
    ws[:, 4:] = float("nan")
    assert torch.equal(G(ws, noise_mode="const"), images)


def test_noise_modes():
    G = make()
    z = torch.randn(1, 6, dtype=torch.float64).expand(2, -1)
    assert torch.equal(G(z, noise_mode="const")[0], G(z, noise_mode="const")[1])
    first, second = G(z)
    assert not torch.allclose(first, second)  # each sample has noise of its own
    assert not torch.allclose(G(z, noise_mode="const"), G(z, noise_mode="none"))
    with pytest.raises(ValueError, match=r"^NoiseInjection: noise_mode must be one of random, const, none \(got 'fixed'\)$"):
        G(z, noise_mode="fixed")


def test_truncation():
    G = make()
    G.mapping.w_avg.copy_(estimate_w_avg(G.mapping, 500))
    z = torch.randn(3, 6, dtype=torch.float64)
    w = define(G).mapping(z)
    ws = G.mapping(z, truncation_psi=0.7, truncation_cutoff=4)
    assert_same(ws[:, :4], (G.mapping.w_avg + 0.7 * (w - G.mapping.w_avg))[:, None].expand(-1, 4, -1))
    assert_same(ws[:, 4:], w[:, None].expand(-1, 2, -1))
    mean = G(z, truncation_psi=0, noise_mode="const")
    assert_same(mean, define(G).images(G.mapping.w_avg.expand(3, 6, 5), 16))


def test_labels_matter_in_both_networks():
    G = make(c_dim=3)
    D = Discriminator(16, c_dim=3, channel_base=64, channel_max=8).double()
    z, labels = torch.randn(1, 6, dtype=torch.float64).expand(3, 6), torch.eye(3, dtype=torch.float64)
    images = G(z, labels, noise_mode="const")
    assert min((images[i] - images[i - 1]).detach().abs().max() for i in range(3)) > 1e-4
    assert len(D(images[:1].expand(3, -1, -1, -1), labels).unique()) == 3


def test_init_kwargs_rebuild_the_networks():
    torch.manual_seed(1)
    networks = [make(8, 1, c_dim=2, **switches).float() for switches in SWITCHES]
    networks += [Discriminator(8, 1, c_dim=2, channel_base=64, channel_max=8, blur_filter=taps) for taps in (None, (1, 2, 1))]
    for network in networks:
        other = type(network)(**json.loads(json.dumps(network.init_kwargs)))
        assert other.init_kwargs == network.init_kwargs
        assert other.load_state_dict(network.state_dict(), strict=True) and str(other) == str(network)


def test_rejects_bad_arguments():
    for kwargs, error, message in [
        ({"activation": "tanh"}, ValueError, r"SynthesisNetwork: activation must be one of lrelu, relu \(got 'tanh'\)"),
        ({"img_channels": 0}, ValueError, r"SynthesisNetwork: img_channels must be at least 1 \(got 0\)"),
        ({"w_dim": 0}, ValueError, r"SynthesisNetwork: w_dim must be at least 1 \(got 0\)"),
        ({"z_dim": 0}, ValueError, r"MappingNetwork: z_dim must be at least 1 \(got 0\)"),
        ({"channel_base": 4}, ValueError, r"SynthesisNetwork: channel_base must be at least img_resolution=16 \(got 4\)"),
        ({"img_resolution": 12}, ValueError, r"SynthesisNetwork: img_resolution must be a power of two of at least 4 \(got 12\)"),
        ({"img_resolution": 8.0}, TypeError, r"SynthesisNetwork: img_resolution must be an integer \(got 8.0\)"),
        ({"blur_filter": (1, 1)}, ValueError, r"Blur: taps must be an odd number of taps \(got 2\)"),
    ]:
        with pytest.raises(error, match=f"^{message}$"):
            Generator(**{"img_resolution": 16, **SIZES, **kwargs})


def test_rejects_bad_input():
    G, labelled = make(), make(c_dim=3)
    z = torch.zeros(2, 6)
    for call, message in [
        (lambda: G(torch.zeros(2, 7)), r"MappingNetwork: z must have shape \[N, 6\], z_dim being 6 \(got shape \(2, 7\)\)"),
        (lambda: labelled(z), r"MappingNetwork: c must be given as labels \[N, 3\], since c_dim is 3 \(got None\)"),
        (
            lambda: labelled(z, torch.zeros(2, 4)),
            r"MappingNetwork: c must have shape \[2, 3\], the batch size and c_dim \(got shape \(2, 4\)\)",
        ),
        (lambda: G.synthesis(torch.zeros(2, 3, 5)), r"SynthesisNetwork: ws must have shape \[N, 6, 5\] \(got shape \(2, 3, 5\)\)"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


def test_empty_batch():
    for switches in SWITCHES:
        G = make(8, **switches).float()
        assert G(torch.randn(0, 6)).shape == (0, 3, 8, 8)
    assert Discriminator(8, channel_base=64, channel_max=8)(torch.randn(0, 3, 8, 8)).shape == (0, 1)


def test_blur_of_the_definition_sums_to_one():
    """The oracle itself: away from the border a constant stays, at the border a quarter per side is lost."""
    y = blur(torch.ones(1, 1, 5, 5, dtype=torch.float64), (1, 2, 1))
    assert y[0, 0, 2, 2] == 1 and y[0, 0, 0, 2] == 0.75 and y[0, 0, 0, 0] == 0.75**2
