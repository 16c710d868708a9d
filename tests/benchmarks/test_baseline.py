"""The baseline computes what the ops and networks do, in outputs, gradients and second derivatives; it shares no code with them."""

import dataclasses
import itertools

import pytest
import torch

from stylegan_ops import (
    adain,
    bias_act,
    conv_epilogue,
    downsample2d,
    filter2d,
    filtered_lrelu,
    modulated_conv2d,
    pixel_norm,
    setup_filter,
    upsample2d,
)
from stylegan_ops.benchmark import baseline, training
from stylegan_ops.benchmark.cases import LAYOUTS, Options
from stylegan_ops.models.stylegan2 import Discriminator, Generator
from stylegan_ops.ops.bias_act import ACTIVATIONS

TINY = Options(resolution=16, channel_base=64, batch=4)


def close(a, b):
    return torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def images(layout, *shape):
    return torch.randn(shape, dtype=torch.float64).contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ops_agree(layout):
    x, f = images(layout, 2, 6, 8, 8), setup_filter([1, 3, 3, 1])
    b, scale = torch.randn(6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    noise, strength = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    assert set(baseline.ACTIVATIONS) == set(ACTIVATIONS)
    for act in ACTIVATIONS:
        close(baseline.bias_act(x, b, act), bias_act(x, b, act=act))
    close(baseline.conv_epilogue(x, scale, noise, strength, b), conv_epilogue(x, scale, noise, strength, b, "lrelu"))
    shift, strengths = torch.randn(2, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    close(baseline.adain(x, scale, shift, noise, strengths, b), adain(x, scale, shift, noise, strengths, b, "lrelu"))
    close(baseline.pixel_norm(x), pixel_norm(x))
    g = setup_filter([1, 2, 4, 6, 8, 9, 9, 8, 6, 4, 2, 1])
    close(baseline.filtered_lrelu(x, b, g), filtered_lrelu(x, g, g, b, 2, 2, 11))
    close(baseline.upsample(x, f), upsample2d(x, f))
    close(baseline.fir(x, f, padding=1, stride=2), downsample2d(x, f))
    close(baseline.fir(x, f, padding=2)[:, :, :-1, :-1], filter2d(x, f))


@pytest.mark.parametrize(("layout", "up", "grouped"), list(itertools.product(LAYOUTS, (1, 2), (True, False))))
def test_modulated_conv2d_agrees_and_keeps_the_layout(layout, up, grouped):
    x, f = images(layout, 3, 5, 6, 6), setup_filter([1, 3, 3, 1])
    w, styles = torch.randn(4, 5, 3, 3, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    y = baseline.modulated_conv2d(x, baseline.modulated_weights(w, styles), f if up == 2 else None, grouped)
    close(y, modulated_conv2d(x, w, styles, up=up, padding=1, resample_filter=f if up == 2 else None, flip_weight=up == 1))
    assert y.is_contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize("batch", [1, 3, 4])
@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_networks_agree(batch, noise_mode):
    options = dataclasses.replace(TINY, batch=batch)
    G, D = (net.double() for net in training.modules(options))
    z, x = torch.randn(batch, 512, dtype=torch.float64), torch.randn(batch, 3, 16, 16, dtype=torch.float64)

    def with_seed(form):
        torch.manual_seed(1)
        with torch.no_grad():
            return form(z, noise_mode=noise_mode)

    for how in baseline.Generator.WAYS.values():
        close(with_seed(baseline.Generator(G.state_dict(), **how)), with_seed(G))
    for how in baseline.Discriminator.WAYS.values():
        close(baseline.Discriminator(D.state_dict(), **how)(x), D(x))


@pytest.mark.parametrize(("way_g", "way_d"), list(itertools.product(baseline.Generator.WAYS, baseline.Discriminator.WAYS)))
def test_gradients_of_every_phase_agree(way_g, way_d):
    errors = training.compare(TINY, (way_g, way_d))
    assert list(errors) == list(training.PHASES) and max(errors.values()) < training.TOLERANCE


@pytest.mark.parametrize(
    ("network", "name"), [("g", "synthesis.b8.conv0.noise_strength"), ("g", "mapping.fc0.bias"), ("d", "b8.conv1.bias")]
)
def test_the_comparison_finds_one_wrong_parameter(monkeypatch, network, name):
    """The check before timing can fail: one parameter of the baseline moved."""
    made = training.baseline_networks

    def moved(options, ways):
        networks = made(options, ways)
        with torch.no_grad():
            getattr(networks, network)[name].add_(0.5)
        return networks

    monkeypatch.setattr(training, "baseline_networks", moved)
    with pytest.raises(RuntimeError, match=r"training, .*: the gradients of native and baseline must agree \(relative error"):
        training.compare(TINY, ("grouped contiguous", "contiguous"))


def test_a_step_moves_the_phases_own_parameters_only():
    for form in ("auto", "baseline"):
        iteration = training.iteration(form, "float32", TINY, ("grouped contiguous", "channels_last"))
        for phase in training.PHASES:
            before = {id(p): p.detach().clone() for group in (iteration.networks.g, iteration.networks.d) for p in group.values()}
            iteration.step(phase)
            mine = iteration.members(phase)
            assert any(not torch.equal(p, before[id(p)]) for p in mine.values())
            others = iteration.networks.d if mine is iteration.networks.g else iteration.networks.g
            assert all(torch.equal(p, before[id(p)]) for p in others.values())


def test_both_start_from_the_same_weights_and_data():
    native, plain = (training.iteration(form, "float32", TINY, ("grouped contiguous", "contiguous")) for form in ("auto", "baseline"))
    assert torch.equal(native.z, plain.z) and torch.equal(native.reals, plain.reals)
    for mine, theirs in ((native.networks.g, plain.networks.g), (native.networks.d, plain.networks.d)):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert all(mine[name].data_ptr() != theirs[name].data_ptr() for name in mine)


def test_the_arithmetic_counts_no_inserted_zeros():
    from stylegan_ops.benchmark.models import flop

    G, D = Generator(8, channel_base=32, channel_max=4), Discriminator(8, channel_base=32, channel_max=4)
    # Pixels times weights: conv1 and torgb at 4; conv0 (at 4, upsampling), conv1 and torgb at 8.
    assert flop(G, 2) == 2 * 2 * (16 * (4 * 4 * 9 + 3 * 4) + 16 * 4 * 4 * 9 + 64 * (4 * 4 * 9 + 3 * 4))
    # fromrgb and conv0 at 8, conv1 and skip to 4; the last convolution at 4 with one channel more.
    assert flop(D, 2) == 2 * 2 * (64 * (3 * 4 + 4 * 4 * 9) + 16 * (4 * 4 * 9 + 4 * 4) + 16 * (5 * 4 * 9))
