"""Settings: defaults, JSON, errors, and what a resumed run may change."""

import json

import pytest

from stylegan_ops.training import PRESETS, TrainingConfig, default_path_weight


def test_json_round_trip():
    config = TrainingConfig.for_resolution(64, kimg=12, xflip=True)
    assert TrainingConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("resolution", [4, 8, 32, 64, 128, 256, 512, 1024])
def test_defaults_by_resolution(resolution):
    config = TrainingConfig.for_resolution(resolution)
    assert config.r1_gamma == pytest.approx(0.0002 * resolution**2 / config.batch_size)
    assert config.path_weight == default_path_weight(resolution)
    assert config.ema_kimg == pytest.approx(config.batch_size * 10 / 32)
    assert config.channel_base >= resolution


def test_given_wins_over_preset_wins_over_default():
    demo = TrainingConfig.for_resolution(32, preset="demo", batch_size=4, g_lr=None)
    assert demo.preset == "demo"
    assert demo.batch_size == 4
    for name in PRESETS["demo"].keys() - {"batch_size"}:
        assert getattr(demo, name) == PRESETS["demo"][name]


def test_one_end_replaces_the_other():
    assert (TrainingConfig.for_resolution(32).kimg, TrainingConfig.for_resolution(32).minutes) == (25000, None)
    timed = TrainingConfig.for_resolution(32, minutes=5)
    assert (timed.kimg, timed.minutes) == (None, 5)
    counted = TrainingConfig.for_resolution(32, preset="demo", kimg=3)
    assert (counted.kimg, counted.minutes) == (3, None)
    both = TrainingConfig.for_resolution(32, kimg=3, minutes=5)
    assert (both.kimg, both.minutes) == (3, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "TrainingConfig: batch_size must be at least 1 (0)"),
        ({"g_lr": 0.0}, "TrainingConfig: g_lr must be above 0 (0.0)"),
        ({"g_lr": float("nan")}, "TrainingConfig: g_lr must be above 0 (nan)"),
        ({"r1_gamma": -1.0}, "TrainingConfig: r1_gamma must be at least 0 (-1.0)"),
        ({"style_mixing": 1.5}, "TrainingConfig: style_mixing must be between 0 and 1 (1.5)"),
        ({"beta2": 1.0}, "TrainingConfig: beta2 must be at least 0 and below 1 (1.0)"),
        ({"g_architecture": "deep"}, "TrainingConfig: g_architecture must be one of orig, skip, resnet, msg ('deep')"),
        ({"precision": "int8"}, "TrainingConfig: precision must be one of auto, float32, bfloat16, float16 ('int8')"),
        ({"preset": "best"}, "TrainingConfig: preset must be one of demo ('best')"),
        ({"seed": -1}, "TrainingConfig: seed must be at least 0 (-1)"),
    ],
)
def test_rejects_values(settings, message):
    with pytest.raises(ValueError) as error:
        TrainingConfig.for_resolution(32, **settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1.5}, "TrainingConfig: batch_size must be int (1.5)"),
        ({"xflip": 1}, "TrainingConfig: xflip must be bool (1)"),
        ({"kimg": "many"}, "TrainingConfig: kimg must be float or None ('many')"),
    ],
)
def test_rejects_types(settings, message):
    with pytest.raises(TypeError) as error:
        TrainingConfig.for_resolution(32, **settings)
    assert str(error.value) == message


def test_rejects_unknown_settings_of_a_file():
    with pytest.raises(ValueError, match=r"settings must be known \(speed\)"):
        TrainingConfig.from_json({**TrainingConfig().to_json(), "speed": 3})


def test_resumed_run_may_change_its_length_only():
    config = TrainingConfig.for_resolution(32, minutes=5)
    longer = config.resumed_with({"kimg": 10, "snapshot_kimg": 2, "threads": 2, "g_lr": None, "batch_size": 32})
    assert (longer.kimg, longer.minutes, longer.snapshot_kimg, longer.snapshot_minutes) == (10, None, 2, None)
    with pytest.raises(ValueError, match=r"TrainingConfig: g_lr must stay 0.0025 in a resumed run \(0.01\)"):
        config.resumed_with({"g_lr": 0.01})
