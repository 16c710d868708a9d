"""What each resolution adds to a skip generator's image."""

import json

import pytest
import torch

from stylegan_ops.figures import (
    contribution_images,
    contribution_stds,
    contributions,
    contributions_of_run,
    contributions_plot,
    seeded_latents,
)
from stylegan_ops.training import CheckpointError, load_generator
from stylegan_ops.training.checkpoint import checkpoint_images, list_checkpoints
from stylegan_ops.training.grids import to_uint8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("conv_clamp", [None, 0.3])
def test_their_sum_is_the_image(make_generator, dtype, conv_clamp):
    G = make_generator(32, 2, conv_clamp=conv_clamp).to(dtype)
    ws = G.mapping(torch.randn(3, 6, dtype=dtype))
    parts = contributions(G, ws)
    assert parts.shape == (4, 3, 2, 32, 32)
    image = G.synthesis(ws, noise_mode="const")
    # Sums of four parts after at most three filters of 16 taps.
    torch.testing.assert_close(parts.sum(0), image, rtol=0, atol=64 * torch.finfo(dtype).eps * parts.abs().max().item())
    assert all(part.abs().amax() > 0 for part in parts)
    assert torch.equal(G.synthesis(ws, noise_mode="const"), image), "the hooks are gone"


def test_a_part_is_what_its_layer_adds(make_generator):
    """Without the toRGB layer of a resolution, that resolution's part is missing from the image."""
    G = make_generator(16).double()
    ws = G.mapping(torch.randn(2, 6))
    parts, image = contributions(G, ws), G.synthesis(ws, noise_mode="const")
    for part, r in zip(parts, G.synthesis.resolutions, strict=True):
        torgb = getattr(G.synthesis, f"b{r}").torgb
        kept = torgb.weight.clone(), torgb.bias.clone()
        torgb.weight.zero_(), torgb.bias.zero_()
        torch.testing.assert_close(image - G.synthesis(ws, noise_mode="const"), part, rtol=0, atol=1e-12)
        torgb.weight.copy_(kept[0]), torgb.bias.copy_(kept[1])


def test_images(make_generator):
    G = make_generator(8, c_dim=2)
    images = contribution_images(G, [5, 6])
    assert images.shape == (2, 3, 3, 8, 8) and images.dtype == torch.uint8
    z, c = seeded_latents(G, [5, 6])
    assert (images[:, -1].int() - to_uint8(G(z, c, noise_mode="const")).int()).abs().max() <= 1
    parts = to_uint8(contributions(G, G.mapping(z, c)))
    assert torch.equal(images[:, :-1], parts.transpose(0, 1))


def test_standard_deviations_are_over_all_images_and_pixels(make_generator):
    G = make_generator(8)
    stds, image_std = contribution_stds(G, 40, seed=2)  # more than two batches
    parts = contributions(G, G.mapping(*seeded_latents(G, range(2, 42)))).double()
    torch.testing.assert_close(stds, parts.flatten(1).std(dim=1, correction=0), rtol=1e-5, atol=0)
    torch.testing.assert_close(image_std, parts.sum(0).std(correction=0), rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match=r"^contribution_stds: count must be at least 1 \(got 0\)$"):
        contribution_stds(G, 0)


def test_a_run(run_folder):
    paths = list_checkpoints(run_folder)
    seen = []
    measured = contributions_of_run(paths, 20, progress=lambda items: seen.extend(items) or items)
    assert seen == paths
    assert json.loads(json.dumps(measured)) == measured
    assert measured["kimg"] == [0.5, 1.0, 2.5]
    assert measured["resolutions"] == [4, 8]
    stds, image_std = contribution_stds(load_generator(paths[1]), 20)
    assert measured["stds"][1] == stds.tolist() and measured["image_std"][1] == image_std.item()
    for row, relative, shares, image in zip(*(measured[key] for key in ("stds", "relative", "shares", "image_std")), strict=True):
        assert relative == pytest.approx([std / image for std in row])
        assert shares == pytest.approx([std / sum(row) for std in row])
    assert measured["stds"][0] != measured["stds"][2]


def test_the_plot_shows_the_numbers(run_folder):
    pytest.importorskip("matplotlib")
    measured = contributions_of_run(list_checkpoints(run_folder), 4)
    lines, stack = contributions_plot(measured).axes
    for i, line in enumerate(lines.get_lines()):
        assert line.get_xdata() == pytest.approx([0.5, 1, 2.5])
        assert line.get_ydata() == pytest.approx([relative[i] for relative in measured["relative"]])
    assert len(lines.get_lines()) == len(stack.collections) == 2
    assert stack.collections[-1].get_paths()[0].vertices[:, 1].max() == pytest.approx(100)  # the shares add up
    assert [text.get_text() for text in stack.get_legend().get_texts()] == ["8 × 8", "4 × 4"]
    alone = contributions_of_run(list_checkpoints(run_folder)[-1:], 4)
    low, high = contributions_plot(alone).axes[1].get_xlim()
    assert low < 2.5 < high


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
def test_refuses_other_architectures(make_generator, architecture):
    G = make_generator(8, architecture=architecture)
    with pytest.raises(ValueError, match=rf"^contributions: G must have the architecture skip, .* \(got {architecture}\)$"):
        contributions(G, torch.zeros(1, G.num_ws, 5))


def test_images_of_a_name():
    assert checkpoint_images("run/checkpoint-000020480.pt") == 20480
    with pytest.raises(CheckpointError, match=r"^checkpoint: 'network.pt' must be named checkpoint-IMAGES.pt$"):
        checkpoint_images("network.pt")
