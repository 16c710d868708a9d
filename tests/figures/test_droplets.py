"""AdaIN follows a spike, demodulation does not."""

import pytest
import torch

import stylegan_ops
from stylegan_ops.figures import droplet_maps, droplets, droplets_plot

HEIGHTS = [0, 1, 10, 32, 1e3, 1e5]


@pytest.mark.parametrize("resolution", [8, 32])
@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_levels_match_the_closed_form(resolution, impl):
    with stylegan_ops.use_impl(impl):
        measured = droplets(HEIGHTS, resolution)
    expected = [(1 + h * h / resolution**2) ** -0.5 for h in HEIGHTS]
    assert measured["closed_form"].tolist() == pytest.approx(expected, rel=1e-12)
    # AdaIN's eps of 1e-8 beside a variance of 1 leaves eight digits; the ratio of two demodulated maps loses none.
    assert measured["levels"]["AdaIN"].tolist() == pytest.approx(expected, rel=1e-7)
    assert measured["levels"]["demodulation"].tolist() == pytest.approx([1] * len(HEIGHTS), rel=1e-12)


def test_the_closed_form_is_that_of_the_variance():
    """Against the definition of the variance, with no normalisation of ours: pixels of mean 0 and variance 1, and a spike."""
    rest = torch.randn(63, dtype=torch.float64)
    rest = (rest - rest.mean()) / rest.std(correction=0)
    for h, level in zip((0.0, 3.0, 80.0), droplets([0.0, 3.0, 80.0], 8)["closed_form"], strict=True):
        plain, spiked = (torch.cat([rest, torch.tensor([spike], dtype=torch.float64)]).std(correction=0) for spike in (0.0, h))
        assert plain / spiked == pytest.approx(level.item(), rel=1e-12)


def test_magnitudes():
    sizes = (0.1, 3.0, 7.0)
    magnitudes = droplets([1], 16, sizes, channel=0)["magnitudes"]
    assert magnitudes["input"].tolist() == pytest.approx(sizes, rel=1e-12)
    assert magnitudes["demodulation"].tolist() == pytest.approx(sizes, rel=1e-7)
    assert magnitudes["AdaIN"].tolist() == pytest.approx([1, 1, 1], rel=0.02)  # the one pixel that counts for the norm alone


def test_maps_are_smooth_and_reproducible():
    maps = droplet_maps(32)
    assert maps.shape == (1, 4, 32, 32)
    assert torch.equal(maps, droplet_maps(32)) and not torch.equal(maps, droplet_maps(32, seed=1))
    steps = (maps[..., 1:] - maps[..., :-1]).std(dim=[2, 3]) / maps.std(dim=[2, 3])
    assert (steps < 0.6).all()  # sqrt(2) for white noise


def test_rejects():
    for call, message in [
        (lambda: droplets([]), r"droplets: heights must hold at least one number \(got none\)"),
        (lambda: droplets([1], channel=4), r"droplets: channel must be in 0 to 3 \(got 4\)"),
        (lambda: droplet_maps(30), r"droplet_maps: resolution must be a multiple of 4 of at least 8 \(got 30\)"),
        (lambda: droplet_maps(16, [1, 0]), r"droplet_maps: magnitudes must be finite numbers above 0, at least one \(got \(1, 0\)\)"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


def test_the_plot_shows_the_numbers():
    pytest.importorskip("matplotlib")
    figure = droplets_plot(16)
    levels = next(axes for axes in figure.findobj(lambda artist: hasattr(artist, "get_xscale")) if axes.get_xscale() == "log")
    closed, adain, demodulation = levels.get_lines()
    assert adain.get_ydata() == pytest.approx(closed.get_ydata(), rel=1e-6)
    assert demodulation.get_ydata() == pytest.approx([1] * 33)
    assert closed.get_xdata()[[0, -1]] == pytest.approx([1, 1e4])
    assert levels.get_xlabel() and levels.get_ylabel() and levels.get_title()
