"""The MSG-GAN pair: a picture at every resolution, each read by the block of the discriminator that is of its size."""

import pytest
import torch
import torch.nn.functional as F


@pytest.fixture
def networks(make_networks):
    g, d = make_networks(16, architecture="msg")
    return g.double(), d.double()


def pictures(n=2):
    return [torch.randn(n, 3, r, r, dtype=torch.float64) for r in (4, 8, 16)]


def test_generator_makes_a_picture_of_every_resolution(networks):
    """Each is the toRGB of its own block: none is a sum of the ones before, as a skip generator's are."""
    g, _ = networks
    made = {}
    for r in (4, 8, 16):
        g.synthesis.get_submodule(f"b{r}.torgb").register_forward_hook(lambda m, a, y, r=r: made.__setitem__(r, y))
    ws = torch.randn(2, g.num_ws, 5, dtype=torch.float64)
    images = g.synthesis.images(ws, noise_mode="const")
    assert [tuple(image.shape) for image in images] == [(2, 3, r, r) for r in (4, 8, 16)]
    assert all(torch.equal(image, made[image.shape[2]]) and image.is_contiguous() for image in images)
    assert torch.equal(g.synthesis(ws, noise_mode="const"), images[-1])


def test_every_block_reads_the_picture_of_its_size(networks):
    """Layer by layer: fromRGB of the largest, then the features of the block above with the picture's channels behind them."""
    _, d = networks
    images = pictures()
    read = {}
    for r, module in ((16, d.b16.fromrgb), (8, d.b8.conv0), (4, d.b4.mbstd)):
        module.register_forward_pre_hook(lambda m, args, r=r: read.__setitem__(r, args[0]))
    d(images)
    assert torch.equal(read[16], images[2])
    for r, image in ((8, images[1]), (4, images[0])):
        assert read[r].shape[1] > 3 and torch.equal(read[r][:, -3:], image)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_every_picture_changes_the_logits_and_gets_a_gradient(networks, scale):
    _, d = networks
    images = [image.requires_grad_() for image in pictures()]
    logits = d(images)
    gradients = torch.autograd.grad(logits.sum(), images)
    assert gradients[scale].abs().max() > 1e-6
    others = list(images)
    others[scale] = torch.randn_like(others[scale])
    assert (d(others) - logits).abs().min() > 1e-6


def test_the_generator_learns_from_every_scale(networks):
    g, d = networks
    images = g.synthesis.images(torch.randn(2, g.num_ws, 5, dtype=torch.float64))
    for i, r in enumerate((4, 8, 16)):
        seen = [image if i == j else image.detach() for j, image in enumerate(images)]
        (gradient,) = torch.autograd.grad(d(seen).sum(), g.synthesis.get_parameter(f"b{r}.torgb.weight"), retain_graph=True)
        assert gradient.abs().max() > 0


def test_a_single_image_stands_for_its_averages(networks):
    _, d = networks
    image = pictures()[-1]
    by_hand = [image.unflatten(3, (16 // k, k)).unflatten(2, (16 // k, k)).mean((3, 5)) for k in (4, 2, 1)]
    torch.testing.assert_close(d(image), d(by_hand), rtol=1e-12, atol=1e-12)
    assert torch.equal(d(image), d([image]))


def test_matches_definition_at_8_pixels(make_networks):
    """The whole discriminator in plain torch: resample, convolve and activate, with the filter [1, 3, 3, 1]."""
    d = make_networks(8, architecture="msg")[1].double()
    small, large = torch.randn(4, 3, 4, 4, dtype=torch.float64), torch.randn(4, 3, 8, 8, dtype=torch.float64)

    def conv(x, layer, **how):
        return F.conv2d(x, layer.weight / layer.weight[0].numel() ** 0.5, **how)

    def act(x, layer):
        return F.leaky_relu(x + layer.bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * 2**0.5

    taps = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    kernel = taps.outer(taps).expand(8, 1, 4, 4)
    x = act(conv(large, d.b8.fromrgb), d.b8.fromrgb)
    x = act(conv(x, d.b8.conv0, padding=1), d.b8.conv0)
    x = act(conv(F.conv2d(F.pad(x, [2, 2, 2, 2]), kernel, groups=8), d.b8.conv1, stride=2), d.b8.conv1)
    x = torch.cat([x, small], 1)
    x = torch.cat([x, (x.var(0, correction=0) + 1e-8).sqrt().mean().expand(4, 1, 4, 4)], 1)
    x = act(conv(x, d.b4.conv, padding=1), d.b4.conv)
    x = act(x.flatten(1) @ d.b4.fc.weight.T / d.b4.fc.weight.shape[1] ** 0.5, d.b4.fc)
    expected = x @ d.b4.out.weight.T / d.b4.out.weight.shape[1] ** 0.5 + d.b4.out.bias
    torch.testing.assert_close(d([small, large]), expected, rtol=1e-9, atol=1e-9)


def test_only_the_blocks_below_the_image_have_more_channels(networks, make_networks):
    _, d = networks
    plain = make_networks(16, architecture="orig")[1]
    widths = [{name: net.get_parameter(name).shape[1] for name in ("b16.conv0.weight", "b8.conv0.weight", "b4.conv.weight")}
              for net in (d, plain)]  # fmt: skip
    assert [a - b for a, b in zip(widths[0].values(), widths[1].values(), strict=True)] == [0, 3, 3]


def test_smallest_network_has_one_picture(make_networks):
    g, d = make_networks(4, architecture="msg")
    images = g.synthesis.images(torch.randn(2, g.num_ws, 5))
    assert len(images) == 1 and d(images).shape == (2, 1)


def test_rejects_pictures(networks, make_networks):
    _, d = networks
    images = [image.float() for image in pictures()]
    for given, message in [
        (images[1:], r"img must be one image, or 3 from 4x4 up \(got 2\)"),
        ([], r"img must be one image, or 3 from 4x4 up \(got 0\)"),
        (images[::-1], r"img must have shape \[N, 3, 4, 4\] \(got shape \(2, 3, 16, 16\)\)"),
        ([images[0], images[1][:, :1], images[2]], r"img must have shape \[N, 3, 8, 8\] \(got shape \(2, 1, 8, 8\)\)"),
        (images[1], r"img must have shape \[N, 3, 16, 16\] \(got shape \(2, 3, 8, 8\)\)"),
        ([images[0][:1], *images[1:]], r"img must have as many samples at 4x4 as at 16x16, 2 \(got 1\)"),
    ]:
        with pytest.raises(ValueError, match=f"^Discriminator: {message}$"):
            d(given)
    with pytest.raises(TypeError, match=r"^Discriminator: img must be a tensor \(got NoneType\)$"):
        d(None)
    with pytest.raises(ValueError, match=r"^Discriminator: img must be one image \(got 3\)$"):
        make_networks(16, architecture="resnet")[1](images)
