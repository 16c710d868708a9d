"""Progressive growing: the schedule against a loop over all images, the text form, the blending of real images."""

import copy
import pickle

import numpy as np
import pytest
import torch

from stylegan_ops.data import ImageDataset, prepare, training_loader
from stylegan_ops.training import GrowthSchedule, Stage, fade_reals, parse_per_resolution
from stylegan_ops.training.growing import large_gpu_batch_sizes

SCHEDULES = {
    "even": GrowthSchedule({4: 16, 8: 8, 16: 8, 32: 4}, stabilize_kimg=0.096, fade_kimg=0.064),
    "odd": GrowthSchedule({8: 7, 16: 5, 32: 3}, {16: 1.5}, stabilize_kimg=0.05, fade_kimg=0.031),
    "steep": GrowthSchedule({4: 64, 8: 32}, stabilize_kimg=0.001, fade_kimg=0.003),
    "no fade": GrowthSchedule({4: 4, 8: 4, 16: 4}, stabilize_kimg=0.01, fade_kimg=0),
    "one": GrowthSchedule({32: 4}, stabilize_kimg=0.01, fade_kimg=0.02),
}
AFTER = 50  # images of the last phase to look at


def enumerated(schedule: GrowthSchedule) -> list[tuple[int, str, float]]:
    """(resolution, phase, alpha) of every image, one phase after the other."""
    stabilize, fade = round(1000 * schedule.stabilize_kimg), round(1000 * schedule.fade_kimg)
    images = []
    for i, resolution in enumerate(sorted(schedule.batch_sizes)):
        if i > 0:
            images += [(resolution, "fade", n / fade) for n in range(1, fade + 1)]
        images += [(resolution, "stabilize", 1.0)] * stabilize
    return images + [images[-1]] * AFTER


@pytest.fixture(params=SCHEDULES)
def schedule(request) -> GrowthSchedule:
    return SCHEDULES[request.param]


def test_stage_of_every_image(schedule):
    for position, (resolution, _, alpha) in enumerate(enumerated(schedule)):
        expected = Stage(resolution, alpha, schedule.batch_sizes[resolution], schedule.lr_factors.get(resolution, 1.0))
        assert schedule.stage_at(position) == expected, position


def walk(schedule: GrowthSchedule, images: int, end: int) -> list[tuple[int, Stage]]:
    steps = []
    while images < end:
        steps.append((images, schedule.stage_at(images)))
        images += steps[-1][1].batch_size
    return steps


def test_steps_grow_only_and_resume_anywhere(schedule):
    per_image = enumerated(schedule)
    steps = walk(schedule, 0, len(per_image))
    grown = [(stage.resolution, stage.alpha) for _, stage in steps]
    assert grown == sorted(grown) and grown == [(per_image[p][0], per_image[p][2]) for p, _ in steps]
    assert all(0 < stage.alpha <= 1 for _, stage in steps)
    for number, (images, _) in enumerate(steps):
        again = pickle.loads(pickle.dumps(copy.deepcopy(schedule)))
        assert walk(again, images, len(per_image)) == steps[number:]


def test_alpha_is_linear_from_almost_nothing_to_one():
    schedule = SCHEDULES["even"]
    starts = [96, 96 + 64 + 96, 96 + 2 * (64 + 96)]
    for start, resolution in zip(starts, (8, 16, 32), strict=True):
        alphas = [schedule.stage_at(start + n).alpha for n in range(64)]
        np.testing.assert_allclose(np.diff(alphas), 1 / 64, rtol=1e-12)
        assert alphas[0] == 1 / 64 and alphas[-1] == 1 and schedule.stage_at(start + 64).alpha == 1
        assert schedule.stage_at(start - 1).resolution == resolution // 2 and schedule.stage_at(start - 1).alpha == 1
    assert schedule.stage_at(10**12) == Stage(32, 1.0, 4, 1.0)


def test_a_step_across_a_boundary_keeps_the_stage_of_its_first_image():
    schedule = SCHEDULES["odd"]  # steps of 7 at 8 px, fade from image 50 on
    steps = dict(walk(schedule, 0, 70))
    assert steps[49] == Stage(8, 1.0, 7, 1.0) and steps[56] == Stage(16, 7 / 31, 5, 1.5)


def test_defaults():
    schedule = GrowthSchedule.scaled_to(64, 16)
    assert schedule.batch_sizes == {4: 256, 8: 128, 16: 64, 32: 32, 64: 16} and schedule.resolutions == (4, 8, 16, 32, 64)
    assert (schedule.stabilize_kimg, schedule.fade_kimg) == (800, 800)
    assert schedule.stage_at(799_999).resolution == 4 and schedule.stage_at(800_000) == Stage(8, 1 / 800_000, 128, 1.0)
    assert GrowthSchedule.scaled_to(16, 512).batch_sizes == {4: 512, 8: 512, 16: 512}
    assert schedule.with_batch_sizes({64: 8}).batch_sizes == {**schedule.batch_sizes, 64: 8} and schedule.batch_sizes[64] == 16


def test_batches_of_a_large_gpu():
    assert large_gpu_batch_sizes(512, 1) == dict(zip((4, 8, 16, 32, 64, 128, 256, 512), (256, 256, 128, 128, 48, 22, 10, 4), strict=True))
    assert large_gpu_batch_sizes(1024, 1)[1024] == 4
    assert large_gpu_batch_sizes(256, 4) == {4: 256, 8: 256, 16: 128, 32: 128, 64: 48, 128: 24, 256: 12}


def test_order_of_the_keys_does_not_matter():
    assert GrowthSchedule({16: 1, 4: 3, 8: 2}) == GrowthSchedule({4: 3, 8: 2, 16: 1})
    assert GrowthSchedule({16: 1, 4: 3, 8: 2}).stage_at(0).resolution == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GrowthSchedule({}), r"batch_sizes must be of powers of two .* \(none\)"),
        (lambda: GrowthSchedule({4: 8, 16: 8}), r"without gaps \(4, 16\)"),
        (lambda: GrowthSchedule({6: 8, 12: 8}), "powers of two"),
        (lambda: GrowthSchedule({2: 8, 4: 8}), "powers of two from 4 on"),
        (lambda: GrowthSchedule({4: 8, 8: 0}), r"batch_sizes must be above 0 \(at 8 pixels: 0\)"),
        (lambda: GrowthSchedule({4: 8}, {4: -1.0}), r"lr_factors must be above 0 \(at 4 pixels: -1.0\)"),
        (lambda: GrowthSchedule({4: 8}, {4: float("nan")}), "lr_factors must be above 0"),
        (lambda: GrowthSchedule({4: 8}, {8: 1.0}), r"lr_factors must be of 4 pixels \(8\)"),
        (lambda: GrowthSchedule({4: 8}, stabilize_kimg=0), r"stabilize_kimg must be at least 0.001, one image \(0\)"),
        (lambda: GrowthSchedule({4: 8}, fade_kimg=-1), r"fade_kimg must be at least 0 \(-1\)"),
        (lambda: GrowthSchedule.scaled_to(96, 4), r"resolution must be a power of two from 4 on \(96\)"),
        (lambda: GrowthSchedule.scaled_to(8, 0), "batch_sizes must be above 0"),
        (lambda: GrowthSchedule({4: 8, 8: 4}).with_batch_sizes({16: 2}), r"batch_sizes must be of 4, 8 pixels \(16\)"),
        (lambda: GrowthSchedule({4: 8}).stage_at(-1), r"images must be at least 0 \(-1\)"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rejects_a_batch_that_is_no_number_of_images():
    with pytest.raises(TypeError, match="batch_sizes must be whole numbers"):
        GrowthSchedule({4: 8.5})


def test_parse_per_resolution():
    assert list(parse_per_resolution("16:32, 4:64,8:64", int, "--batch").items()) == [(4, 64), (8, 64), (16, 32)]
    assert parse_per_resolution("128:1.5", float, "--lr") == {128: 1.5}


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("", int, r"--x: must be RESOLUTION:NUMBER,..., NUMBER a whole number \('' of ''\)"),
        ("4:64,", int, "must be RESOLUTION:NUMBER"),
        ("4=64", int, r"\('4=64' of '4=64'\)"),
        ("4:64:8", int, "NUMBER a whole number"),
        ("4:1.5", int, "NUMBER a whole number"),
        ("4:much", float, "NUMBER a number"),
        ("5:64", int, r"resolutions must be powers of two from 4 on \(5\)"),
        ("2:64", int, r"powers of two from 4 on \(2\)"),
        ("-8:64", int, r"powers of two from 4 on \(-8\)"),
        ("8:0", int, r"numbers must be above 0 and finite \('8:0'\)"),
        ("8:nan", float, "above 0 and finite"),
        ("8:inf", float, "above 0 and finite"),
        ("8:4,16:2,8:4", int, r"each resolution must be given once \(8\)"),
    ],
)
def test_parse_rejects(text, kind, message):
    with pytest.raises(ValueError, match=message):
        parse_per_resolution(text, kind, "--x")


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fade_reals_is_the_blend_of_two_resolutions(alpha, dtype):
    images = torch.randn(3, 2, 6, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    x = images.numpy().astype(np.float64)
    coarse = (x[..., 0::2, 0::2] + x[..., 0::2, 1::2] + x[..., 1::2, 0::2] + x[..., 1::2, 1::2]) / 4
    expected = alpha * x + (1 - alpha) * np.kron(coarse, np.ones((2, 2)))
    faded = fade_reals(images, alpha)
    assert faded.dtype == dtype
    # Four additions, a division and a blend of numbers below 5.
    np.testing.assert_allclose(faded.numpy(), expected, rtol=0, atol=8 * 5 * torch.finfo(dtype).eps)


def test_fade_reals_at_one_returns_the_images_and_is_differentiable():
    images = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert fade_reals(images, 1.0) is images
    assert torch.autograd.gradcheck(lambda x: fade_reals(x, 0.3), images)
    assert torch.autograd.gradgradcheck(lambda x: fade_reals(x, 0.3), images)


@pytest.mark.parametrize(
    ("images", "alpha", "error", "message"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 0.5, TypeError, "images must be floating"),
        (torch.zeros(1, 3, 5, 4), 0.5, ValueError, r"even H and W \(\[1, 3, 5, 4\]\)"),
        (torch.zeros(3, 4, 4), 0.5, ValueError, r"must be \[N, C, H, W\]"),
        (torch.zeros(1, 3, 4, 4), 1.5, ValueError, r"alpha must be between 0 and 1 \(1.5\)"),
        (torch.zeros(1, 3, 4, 4), float("nan"), ValueError, "alpha must be between 0 and 1"),
    ],
)
def test_fade_reals_rejects(images, alpha, error, message):
    with pytest.raises(error, match=message):
        fade_reals(images, alpha)


def test_levels_of_one_data_set_give_one_stream_over_a_growing_training(data_path, tmp_path):
    """Every position of the stream is trained on once, in order, whatever resolution and batch size it falls to."""
    prepare(data_path, tmp_path / "pyramid.zip", 8, pyramid=True)
    full = ImageDataset(tmp_path / "pyramid.zip")
    schedule = GrowthSchedule({4: 6, 8: 4}, stabilize_kimg=0.02, fade_kimg=0.01)
    stream = training_loader(full.at(4), 1, seed=3)
    images, seen = 0, []
    for images, stage in walk(schedule, 0, 60):
        batch, _ = next(training_loader(full.at(stage.resolution), stage.batch_size, seed=3, start=images))
        assert batch.shape == (stage.batch_size, 3, stage.resolution, stage.resolution)
        seen += [image.float().view(3, 4, stage.resolution // 4, 4, -1).mean((2, 4)).round().byte() for image in batch]
    assert images > 30 and all(torch.equal(next(stream)[0][0], image) for image in seen)
