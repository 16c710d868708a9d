"""The networks of StyleGAN2: names, sizes, shapes, architectures, labels, errors."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylegan_ops.models.stylegan2 import ARCHITECTURES, CONFIG_E, CONFIG_F, Discriminator, Generator

PUBLISHED = [architecture for architecture in ARCHITECTURES if architecture != "msg"]  # no checkpoints of that are known

AFFINE = ["affine.weight", "affine.bias"]
CONV = ["weight", "bias", "resample_filter"]
SYNTHESIS = [*CONV, "noise_strength", "noise_const", *AFFINE]


def keys(prefix, names):
    return {f"{prefix}.{name}" for name in names}


def generator_keys(resolutions, architecture, num_layers, labels):
    expected = {"mapping.w_avg", "synthesis.b4.const"}
    for i in range(num_layers):
        expected |= keys(f"mapping.fc{i}", ["weight", "bias"])
    if labels:
        expected |= keys("mapping.embed", ["weight", "bias"])
    for r in resolutions:
        block = f"synthesis.b{r}"
        expected |= {f"{block}.resample_filter"} | keys(f"{block}.conv1", SYNTHESIS)
        if r > 4:
            expected |= keys(f"{block}.conv0", SYNTHESIS)
        if r > 4 and architecture == "resnet":
            expected |= keys(f"{block}.skip", ["weight", "resample_filter"])
        if architecture == "skip" or r == resolutions[-1]:
            expected |= keys(f"{block}.torgb", ["weight", "bias", *AFFINE])
    return expected


def discriminator_keys(resolutions, architecture, labels):
    expected = keys("b4.conv", CONV) | keys("b4.fc", ["weight", "bias"]) | keys("b4.out", ["weight", "bias"])
    for r in resolutions:
        if architecture == "skip" or r == resolutions[-1]:
            expected |= keys(f"b{r}.fromrgb", CONV)
        if r > 4:
            expected |= {f"b{r}.resample_filter"} | keys(f"b{r}.conv0", CONV) | keys(f"b{r}.conv1", CONV)
        if r > 4 and architecture == "resnet":
            expected |= keys(f"b{r}.skip", ["weight", "resample_filter"])
    if labels:
        expected |= keys("mapping.embed", ["weight", "bias"])
        for i in range(8):
            expected |= keys(f"mapping.fc{i}", ["weight", "bias"])
    return expected


def test_sizes_at_1024_pixels_are_those_of_published_checkpoints():
    with torch.device("meta"):
        networks = Generator(1024), Discriminator(1024)
    sizes = [(sum(p.numel() for p in net.parameters()), len(net.state_dict())) for net in networks]
    assert sizes == [(30_370_060, 182), (29_012_513, 82)]
    assert networks[0].num_ws == 18
    channels = [networks[0].synthesis.get_submodule(f"b{r}.conv1").weight.shape[0] for r in networks[0].synthesis.resolutions]
    assert channels == [512, 512, 512, 512, 512, 256, 128, 64, 32]


def test_configurations_e_and_f():
    """F is the default; E has half its feature maps from 64 px on (Karras et al. 2020, table 1)."""
    widths, counts = {}, {}
    for name, config in (("E", CONFIG_E), ("F", CONFIG_F)):
        with torch.device("meta"):
            G, D = Generator(1024, **config), Discriminator(1024, **config)
        widths[name] = [G.synthesis.get_submodule(f"b{r}.conv1").weight.shape[0] for r in G.synthesis.resolutions]
        assert widths[name] == [*[D.get_submodule(f"b{r}.conv1").weight.shape[0] for r in D.resolutions][::-1], widths[name][-1]]
        counts[name] = [sum(p.numel() for p in net.parameters()) for net in (G, D)]
    assert counts["F"] == [30_370_060, 29_012_513]
    assert [f // e for e, f in zip(widths["E"], widths["F"], strict=True)] == [1] * 4 + [2] * 5
    assert round(counts["E"][0] / 1e6) == 25  # "from 25M to 30M", appendix B


@pytest.mark.parametrize("architecture", PUBLISHED)
@pytest.mark.parametrize("c_dim", [0, 3])
def test_names_are_those_of_published_checkpoints(make_networks, architecture, c_dim):
    g, d = make_networks(16, c_dim=c_dim, architecture=architecture)
    assert set(g.state_dict()) == generator_keys([4, 8, 16], architecture, 2, c_dim > 0)
    assert set(d.state_dict()) == discriminator_keys([4, 8, 16], architecture, c_dim > 0)
    state = g.state_dict()
    assert state["synthesis.b4.const"].shape == (16, 4, 4)
    assert state["synthesis.b8.conv0.noise_const"].shape == (8, 8)
    assert state["synthesis.b8.conv0.noise_strength"].shape == ()
    assert state["synthesis.b8.conv0.resample_filter"].shape == (4, 4)
    assert state["synthesis.b16.conv0.weight"].shape == (4, 8, 3, 3)
    assert state["synthesis.b16.conv0.affine.weight"].shape == (8, 5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("d_architecture", ARCHITECTURES)
@pytest.mark.parametrize(("img_resolution", "img_channels", "n"), [(4, 3, 1), (8, 1, 3), (16, 5, 2)])
def test_shapes(make_networks, architecture, d_architecture, img_resolution, img_channels, n):
    g, d = make_networks(img_resolution, img_channels, architecture=architecture, d_architecture=d_architecture)
    images = g.synthesis.images(g.mapping(torch.randn(n, 6)))
    assert images[-1].shape == (n, img_channels, img_resolution, img_resolution)
    assert all(image.dtype == torch.float32 and image.is_contiguous() for image in images)
    logits = d(images[-1])
    assert logits.shape == (n, 1) and logits.dtype == torch.float32
    (logits.sum() + sum(image.sum() for image in images)).backward()
    missing = [name for net in (g, d) for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


def test_empty_batch(make_networks):
    g, d = make_networks()
    images = g(torch.randn(0, 6))
    assert images.shape == (0, 3, 8, 8)
    assert d(images).shape == (0, 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_double_computes_in_float64(make_networks, architecture):
    g, d = make_networks(c_dim=2, architecture=architecture)
    z, c = torch.randn(2, 6), torch.eye(2)
    single = g(z, c, noise_mode="const")
    double = g.double()(z, c, noise_mode="const")
    assert double.dtype == torch.float64
    torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)
    logits = d(single, c)
    assert d.double()(double, c).dtype == torch.float64
    torch.testing.assert_close(logits, d(single, c).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_init_kwargs_rebuild_the_network(make_networks, architecture):
    for net in make_networks(8, 1, c_dim=2, architecture=architecture, conv_clamp=256, channel_max=8):
        other = type(net)(**json.loads(json.dumps(net.init_kwargs)))
        assert other.init_kwargs == net.init_kwargs
        assert other.load_state_dict(net.state_dict(), strict=True)
        assert str(other) == str(net)


def test_sizes_may_be_numpys_and_the_filter_a_tensor():
    g = Generator(np.int64(8), z_dim=np.int64(4), w_dim=4, channel_max=np.int32(8), resample_filter=torch.tensor([1.0, 2.0, 1.0]))
    d = Discriminator(np.int64(8), channel_max=np.int32(8), resample_filter=np.array([1, 2, 1]))
    for net, taps in ((g, [1.0, 2.0, 1.0]), (d, [1, 2, 1])):
        kwargs = json.loads(json.dumps(net.init_kwargs))
        assert kwargs == net.init_kwargs and kwargs["resample_filter"] == taps
        assert type(net)(**kwargs).load_state_dict(net.state_dict(), strict=True)


def test_skip_generator_sums_upsampled_images(make_networks):
    """Upsampling is linear: the image is the sum of each toRGB's output, upsampled to the end."""
    g, _ = make_networks(16)
    parts = {}
    for r in (4, 8, 16):
        g.synthesis.get_submodule(f"b{r}.torgb").register_forward_hook(lambda m, a, y, r=r: parts.__setitem__(r, y))
    image = g(torch.randn(2, 6))
    up = g.synthesis.b8.upsample
    torch.testing.assert_close(image, up(up(parts[4])) + up(parts[8]) + parts[16])


def test_skip_discriminator_sees_downsampled_images(make_networks):
    _, d = make_networks(16)
    seen = {}
    for r in (4, 8, 16):
        d.get_submodule(f"b{r}.fromrgb").register_forward_pre_hook(lambda m, args, r=r: seen.__setitem__(r, args[0]))
    image = torch.randn(2, 3, 16, 16)
    d(image)
    assert torch.equal(seen[16], image)
    torch.testing.assert_close(seen[8], d.b16.downsample(image))
    torch.testing.assert_close(seen[4], d.b16.downsample(d.b16.downsample(image)))


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_residual_blocks_add_both_branches(network):
    torch.manual_seed(0)
    sizes = {"channel_base": 512, "channel_max": 64, "architecture": "resnet", "conv_clamp": 0.5}
    net = Generator(8, **sizes).synthesis if network == "generator" else Discriminator(8, **sizes)
    values = {}
    for name in ("conv1", "skip"):
        net.b8.get_submodule(name).register_forward_hook(lambda m, a, y, name=name: values.__setitem__(name, y))
    net.b8.register_forward_hook(lambda m, a, y: values.__setitem__("sum", y[0]))
    net(torch.randn(2, net.num_ws, 512) if network == "generator" else torch.randn(2, 3, 8, 8))
    assert torch.equal(values["sum"], values["conv1"] + values["skip"])
    # Each branch is scaled by sqrt(1/2), and its clamp with it.
    module = net.b8.conv1
    assert module.act_gain == pytest.approx(1)
    assert float(values["conv1"].detach().abs().max()) <= 0.5 * math.sqrt(0.5) + 1e-6
    assert module.act_clamp == pytest.approx(0.5 * math.sqrt(0.5))
    assert net.b8.skip.act_gain == pytest.approx(math.sqrt(0.5))


def test_each_layer_reads_its_own_w(make_networks):
    """Block r's toRGB shares its w with the first convolution of the next block; num_ws counts convolutions and the last toRGB."""
    g, _ = make_networks(16)
    assert g.num_ws == 6
    ws = torch.arange(6.0)[None, :, None].expand(1, 6, 5)
    read = {}
    for name, module in g.synthesis.named_modules():
        if name.endswith("affine"):
            module.register_forward_pre_hook(lambda m, args, name=name: read.__setitem__(name.removesuffix(".affine"), int(args[0][0, 0])))
    g.synthesis(ws)
    assert read == {
        "b4.conv1": 0, "b4.torgb": 1, "b8.conv0": 1, "b8.conv1": 2, "b8.torgb": 3, "b16.conv0": 3, "b16.conv1": 4, "b16.torgb": 5,
    }  # fmt: skip


def test_noise_modes(make_networks):
    g, _ = make_networks()
    z = torch.randn(2, 6)
    assert torch.equal(g(z, noise_mode="const"), g(z, noise_mode="const"))
    assert not torch.equal(g(z), g(z))
    assert not torch.equal(g(z, noise_mode="const"), g(z, noise_mode="none"))


def test_truncation_moves_towards_the_mean_image(make_networks):
    g, _ = make_networks()
    torch.nn.init.normal_(g.mapping.w_avg)
    z = torch.randn(3, 6)
    mean = g.synthesis(g.mapping.w_avg.expand(3, g.num_ws, 5), noise_mode="const")
    torch.testing.assert_close(g(z, truncation_psi=0, noise_mode="const"), mean)
    partly = g(z, truncation_psi=0, truncation_cutoff=2, noise_mode="const")
    assert not torch.allclose(partly, mean) and not torch.allclose(partly, g(z, noise_mode="const"))


def test_labels_matter_in_both_networks(make_networks):
    g, d = make_networks(c_dim=3)
    z = torch.randn(1, 6).expand(3, 6)
    images = g(z, torch.eye(3), noise_mode="const")
    assert (images[0] - images[1]).abs().max() > 1e-4
    same = images[:1].expand(3, -1, -1, -1)
    logits = d(same, torch.eye(3))
    assert len(logits.unique()) == 3


def test_conditional_discriminator_projects(make_networks):
    _, d = make_networks(c_dim=3)
    seen = {}
    d.b4.out.register_forward_hook(lambda m, a, y: seen.__setitem__("out", y))
    d.mapping.fc7.register_forward_hook(lambda m, a, y: seen.__setitem__("cmap", y))
    logits = d(torch.randn(3, 3, 8, 8), torch.eye(3))
    assert seen["cmap"].shape == seen["out"].shape == (3, 16)
    torch.testing.assert_close(logits[:, 0], torch.einsum("nc,nc->n", seen["out"], seen["cmap"]) / 4)


def test_conv_clamp_bounds_every_layer(make_networks):
    g, d = make_networks(conv_clamp=0.05)
    outputs = []
    for net in (g, d):
        for name, module in net.named_modules():
            if name.endswith(("conv0", "conv1", "torgb", "fromrgb", "b4.conv")):
                module.register_forward_hook(lambda m, a, y: outputs.append(float(y.detach().abs().max())))
    d(g(torch.randn(2, 6)))
    assert len(outputs) == 3 + 2 + 2 + 3
    assert all(value == pytest.approx(0.05) for value in outputs)


def test_discriminator_matches_definition_at_4_pixels():
    """The epilogue in plain PyTorch: fromRGB, minibatch standard deviation, convolution, two linear layers."""
    torch.manual_seed(0)
    d = Discriminator(4, 2, channel_base=16, channel_max=3).double()
    x = torch.randn(4, 2, 4, 4, dtype=torch.float64)

    def lrelu(v):
        return F.leaky_relu(v, 0.2) * math.sqrt(2)

    b = d.b4
    y = lrelu(F.conv2d(x, b.fromrgb.weight / math.sqrt(2)))
    std = torch.sqrt(y.var(0, correction=0) + 1e-8).mean()
    y = torch.cat([y, std.expand(4, 1, 4, 4)], 1)
    y = lrelu(F.conv2d(y, b.conv.weight / math.sqrt(4 * 9), padding=1))
    y = lrelu(y.flatten(1) @ b.fc.weight.t() / math.sqrt(48))
    torch.testing.assert_close(d(x), y @ b.out.weight.t() / math.sqrt(3), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("resolution", [0, 2, 3, 12, -4])
def test_rejects_resolutions(resolution):
    rule = "at least 1" if resolution < 1 else "a power of two of at least 4"
    for network, owner in ((Generator, "SynthesisNetwork"), (Discriminator, "Discriminator")):
        with pytest.raises(ValueError, match=rf"^{owner}: img_resolution must be {rule} \(got {resolution}\)$"):
            network(resolution)


def test_rejects_bad_arguments(make_networks):
    for network, owner in ((Generator, "SynthesisNetwork"), (Discriminator, "Discriminator")):
        for kwargs, message in [
            ({"architecture": "plain"}, r"architecture must be one of orig, skip, resnet, msg \(got 'plain'\)"),
            ({"img_channels": 0}, r"img_channels must be at least 1 \(got 0\)"),
            ({"channel_base": 4}, r"channel_base must be at least img_resolution=8 \(got 4\)"),
            ({"channel_max": 0}, r"channel_max must be at least 1 \(got 0\)"),
        ]:
            with pytest.raises(ValueError, match=f"^{owner}: {message}$"):
                network(8, **{"channel_base": 64, "channel_max": 4, **kwargs})
    with pytest.raises(ValueError, match=r"^SynthesisNetwork: norm_eps must be None or above 0 \(got 0\)$"):
        Generator(8, channel_max=4, norm_eps=0)
    with pytest.raises(ValueError, match=r"^Discriminator: c_dim must be at least 0 \(got -1\)$"):
        Discriminator(8, c_dim=-1, channel_max=4)
    with pytest.raises(TypeError, match=r"^Discriminator: c_dim must be an integer \(got 1.5\)$"):
        Discriminator(8, c_dim=1.5)
    with pytest.raises(TypeError, match=r"^Discriminator: img_resolution must be an integer \(got 8.0\)$"):
        Discriminator(8.0)


@pytest.mark.parametrize(("network", "layer"), [(Generator, "SynthesisLayer"), (Discriminator, "EqualizedConv2d")])
def test_rejects_a_clamp_that_is_none(network, layer):
    for clamp in (-1, float("nan")):
        with pytest.raises(ValueError, match=rf"^{layer}: conv_clamp must be None or at least 0 \(got {float(clamp)}\)$"):
            network(8, channel_max=4, conv_clamp=clamp)
    with pytest.raises(TypeError, match=rf"^{layer}: conv_clamp must be a real number \(got 'a'\)$"):
        network(8, channel_max=4, conv_clamp="a")


def test_rejects_bad_input(make_networks):
    g, d = make_networks()
    labelled_g, labelled_d = make_networks(c_dim=3)
    z, image = torch.zeros(2, 6), torch.zeros(2, 3, 8, 8)
    for call, message in [
        (lambda: g(torch.zeros(2, 7)), r"MappingNetwork: z must have shape \[N, 6\], z_dim being 6 \(got shape \(2, 7\)\)"),
        (lambda: labelled_g(z), r"MappingNetwork: c must be given as labels \[N, 3\], since c_dim is 3 \(got None\)"),
        (lambda: g.synthesis(torch.zeros(2, 3, 5)), r"SynthesisNetwork: ws must have shape \[N, 4, 5\] \(got shape \(2, 3, 5\)\)"),
        (lambda: g.synthesis(torch.zeros(2, 5)), r"SynthesisNetwork: ws must have shape \[N, 4, 5\] \(got shape \(2, 5\)\)"),
        (lambda: g(z, noise_mode="fixed"), r"SynthesisLayer: noise_mode must be one of random, const, none \(got 'fixed'\)"),
        (lambda: d(torch.zeros(2, 3, 16, 16)), r"Discriminator: img must have shape \[N, 3, 8, 8\] \(got shape \(2, 3, 16, 16\)\)"),
        (lambda: d(torch.zeros(2, 1, 8, 8)), r"Discriminator: img must have shape \[N, 3, 8, 8\] \(got shape \(2, 1, 8, 8\)\)"),
        (lambda: labelled_d(image), r"Discriminator: c must be given as labels \[N, 3\], since c_dim is 3 \(got None\)"),
        (
            lambda: labelled_d(image, torch.zeros(3, 3)),
            r"Discriminator: c must have shape \[2, 3\], the batch size and c_dim \(got shape \(3, 3\)\)",
        ),
        (
            lambda: d(image, torch.zeros(2, 3)),
            r"Discriminator: c must have shape \[2, 0\], the batch size and c_dim \(got shape \(2, 3\)\)",
        ),
    ]:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()
    with pytest.raises(TypeError, match=r"^Discriminator: img must be of a floating-point dtype \(got torch.uint8\)$"):
        d(image.byte())
