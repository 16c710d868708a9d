"""ProGAN's networks, and StyleGAN's discriminator which is one of them, against the paper's table 2 in plain torch, float64."""

import json

import pytest
import torch
from progan_definition import average, discriminator, generator, latent
from stylegan_definition import blur, enlarge

from stylegan_ops.models import stylegan
from stylegan_ops.models.progan import Discriminator, Generator

SIZES = {"channel_base": 64, "channel_max": 8}
STAGES = [(4, 1), (8, 0.0), (8, 0.3), (8, 1), (16, 0.75), (16, 1)]


def randomised(network):
    """In float64, the biases not zero."""
    with torch.no_grad():
        for name, parameter in network.double().named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    return network


def make_generator(img_resolution=16, img_channels=3, **more):
    return randomised(Generator(img_resolution, img_channels, **{**SIZES, "z_dim": 6, **more}))


def make_discriminator(img_resolution=16, img_channels=3, **more):
    return randomised(Discriminator(img_resolution, img_channels, **{**SIZES, **more}))


def table_names(network) -> dict[str, torch.Tensor]:
    """The parameters by the names of the definition: resolution and row of the table."""
    p = {}
    for name, value in network.state_dict().items():
        kind, *rest = name.removeprefix("synthesis.").split(".")
        part = rest[-1] if rest else None
        if kind.startswith(("torgb", "fromrgb")):
            row = kind.rstrip("0123456789")
            p[f"{kind.removeprefix(row)}.{row}.{part}"] = value
        elif kind == "b4":
            p[f"4.{rest[0]}.{part}"] = value
        elif kind.startswith("b") and rest:
            conv = "conv1" if rest == ["bias"] else rest[0]
            p[f"{kind[1:]}.{conv}.{part}"] = value
        elif kind == "conv":
            p[f"4.conv1.{part}"] = value
        elif kind == "input":
            p["input.weight"] = value
        elif kind == "input_bias":
            p["input.bias"] = value
        elif kind == "mapping":
            p[f"embed.{part}" if isinstance(network, Generator) else f"label.{rest[0].rstrip('0')}.{part}"] = value
    return p


def assert_same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(("resolution", "alpha"), STAGES)
@pytest.mark.parametrize("c_dim", [0, 3])
def test_generator_matches_definition(resolution, alpha, c_dim):
    G = make_generator(c_dim=c_dim)
    G.synthesis.grow_to(resolution, alpha)
    z, c = torch.randn(4, 6, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]] if c_dim else None
    p = table_names(G)
    assert_same(G.mapping(z, c)[:, 0], latent(p, z, c))
    images = G(z, c)
    assert images.shape == (4, 3, resolution, resolution) and images.is_contiguous()
    assert_same(images, generator(p, latent(p, z, c), resolution, alpha))


@pytest.mark.parametrize(("resolution", "alpha"), STAGES)
@pytest.mark.parametrize("c_dim", [0, 3])
def test_discriminator_matches_definition(resolution, alpha, c_dim):
    D = make_discriminator(c_dim=c_dim)
    D.grow_to(resolution, alpha)
    image, c = torch.randn(4, 3, resolution, resolution, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    c = c if c_dim else None
    logits = D(image, c)
    assert logits.shape == (4, 1)
    assert_same(logits, discriminator(table_names(D), image, resolution, alpha, c))
    assert torch.equal(D([image], c), logits)


@pytest.mark.parametrize(("resolution", "alpha"), STAGES)
@pytest.mark.parametrize("fused_from", [8, 1024])
@pytest.mark.parametrize("taps", [(1, 2, 1), (1, 4, 6, 4, 1)])
def test_stylegans_discriminator_blurs_before_it_halves(resolution, alpha, fused_from, taps):
    D = randomised(stylegan.Discriminator(16, blur_filter=taps, fused_from=fused_from, **SIZES))
    D.grow_to(resolution, alpha)
    image = torch.randn(4, 3, resolution, resolution, dtype=torch.float64)
    assert_same(D(image), discriminator(table_names(D), image, resolution, alpha, blur=lambda x: blur(x, taps)))


def test_at_alpha_0_the_smaller_network():
    G, D = make_generator(), make_discriminator()
    z, image = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    G.synthesis.grow_to(8)
    D.grow_to(8)
    smaller = G(z), D(average(image))
    G.synthesis.grow_to(16, 0)
    D.grow_to(16, 0)
    assert torch.equal(G(z), enlarge(smaller[0]))
    assert_same(D(image), smaller[1])
    grown = make_generator()
    grown.load_state_dict(G.state_dict())
    G.synthesis.grow_to(16, 1)
    assert torch.equal(G(z), grown(z))


def test_fading_is_linear_in_alpha_for_the_image():
    G = make_generator()
    z = torch.randn(2, 6, dtype=torch.float64)
    images = []
    for alpha in (0, 0.25, 1):
        G.synthesis.grow_to(16, alpha)
        images.append(G(z))
    assert_same(images[1], 0.75 * images[0] + 0.25 * images[2])


def test_layers_not_reached_get_no_gradient_and_faded_ones_do():
    G, D = make_generator(), make_discriminator()
    for network in (G.synthesis, D):
        network.grow_to(8, 0.5)
    D(G(torch.randn(2, 6, dtype=torch.float64))).sum().backward()
    trained = {name for network in (G, D) for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    everything = {name for network in (G, D) for name, _ in network.named_parameters()}
    assert everything - trained == {name for name in everything if "16" in name}


def test_size_at_1024_pixels():
    with torch.device("meta"):
        G, D = Generator(1024), Discriminator(1024)
    assert sum(p.numel() for p in G.parameters()) == 23_079_115
    rows = {r: min(16384 // r, 512) for r in (2**i for i in range(2, 11))}
    count = sum(3 * c + c for c in rows.values())  # fromRGB
    count += sum(9 * c * c + c + 9 * c * rows[r // 2] + rows[r // 2] for r, c in rows.items() if r > 4)
    count += 513 * 512 * 9 + 512 + 512 * 16 * 512 + 512 + 512 + 1
    assert sum(p.numel() for p in D.parameters()) == count


def test_labels_matter_in_both_networks():
    G, D = make_generator(c_dim=3), make_discriminator(c_dim=3)
    z, labels = torch.randn(1, 6, dtype=torch.float64).expand(3, 6), torch.eye(3, dtype=torch.float64)
    images = G(z, labels)
    assert min((images[i] - images[i - 1]).detach().abs().max() for i in range(3)) > 1e-4
    assert len(D(images[:1].expand(3, -1, -1, -1), labels).unique()) == 3


def test_init_kwargs_rebuild_the_networks():
    for network in (make_generator(8, 1, c_dim=2).float(), make_discriminator(8, 1, c_dim=2, mbstd_group_size=2).float()):
        other = type(network)(**json.loads(json.dumps(network.init_kwargs)))
        assert other.init_kwargs == network.init_kwargs
        assert other.load_state_dict(network.state_dict(), strict=True) and str(other) == str(network)


def test_empty_batch():
    images = make_generator(8)(torch.randn(0, 6))
    assert images.shape == (0, 3, 8, 8)
    assert make_discriminator(8)(images).shape == (0, 1)


def test_rejects_bad_arguments():
    for call, error, message in [
        (lambda: Generator(12), ValueError, r"SynthesisNetwork: img_resolution must be a power of two of at least 4 \(got 12\)"),
        (lambda: Generator(8, 0), ValueError, r"SynthesisNetwork: img_channels must be at least 1 \(got 0\)"),
        (lambda: Generator(8, z_dim=0), ValueError, r"LatentInput: z_dim must be at least 1 \(got 0\)"),
        (lambda: Generator(8, c_dim=-1), ValueError, r"LatentInput: c_dim must be at least 0 \(got -1\)"),
        (lambda: Generator(8, c_dim=1.5), TypeError, r"LatentInput: c_dim must be an integer \(got 1.5\)"),
        (lambda: Discriminator(2), ValueError, r"Discriminator: img_resolution must be a power of two of at least 4 \(got 2\)"),
        (lambda: Discriminator(8, 0), ValueError, r"Discriminator: img_channels must be at least 1 \(got 0\)"),
        (lambda: Discriminator(8, c_dim=-1), ValueError, r"Discriminator: c_dim must be at least 0 \(got -1\)"),
        (lambda: Discriminator(8, channel_max=0), ValueError, r"Discriminator: channel_max must be at least 1 \(got 0\)"),
        (lambda: Discriminator(8, blur_filter=(1, 1)), ValueError, r"Blur: taps must be an odd number of taps \(got 2\)"),
    ]:
        with pytest.raises(error, match=f"^{message}$"):
            call()


def test_rejects_bad_input():
    G, D, labelled = make_generator(8), make_discriminator(8), make_discriminator(8, c_dim=3)
    z, image = torch.zeros(2, 6), torch.zeros(2, 3, 8, 8)
    D.grow_to(4)
    for call, error, message in [
        (lambda: G(torch.zeros(2, 5)), ValueError, r"LatentInput: z must have shape \[N, 6\], z_dim being 6 \(got shape \(2, 5\)\)"),
        (lambda: G(z.long()), TypeError, r"LatentInput: z must be of a floating-point dtype \(got torch.int64\)"),
        (
            lambda: G(z, truncation_psi=0.7),
            ValueError,
            r"LatentInput: truncation_psi must be 1 in a ProGAN, which has no intermediate codes \(got 0.7\)",
        ),
        (
            lambda: make_generator(8, c_dim=3)(z),
            ValueError,
            r"LatentInput: c must be given as labels \[N, 3\], since c_dim is 3 \(got None\)",
        ),
        (
            lambda: G.synthesis(torch.zeros(2, 2, 6)),
            ValueError,
            r"SynthesisNetwork: ws must have shape \[N, 1, 6\] \(got shape \(2, 2, 6\)\)",
        ),
        (lambda: D(image), ValueError, r"Discriminator: img must have shape \[N, 3, 4, 4\] \(got shape \(2, 3, 8, 8\)\)"),
        (lambda: D([image, image]), ValueError, r"Discriminator: img must be one image, of the present resolution \(got 2\)"),
        (lambda: D(None), TypeError, r"Discriminator: img must be a tensor \(got NoneType\)"),
        (lambda: labelled(image), ValueError, r"Discriminator: c must be given as labels \[N, 3\], since c_dim is 3 \(got None\)"),
        (
            lambda: labelled(image, torch.zeros(1, 3)),
            ValueError,
            r"Discriminator: c must have shape \[2, 3\], the batch size and c_dim \(got shape \(1, 3\)\)",
        ),
    ]:
        with pytest.raises(error, match=f"^{message}$"):
            call()
