"""Draws are functions of (seed, step, purpose) and of the place in the global batch."""

import torch

from stylegan_ops.training.random import derive_seed, generator, normal_images


def test_same_purpose_same_numbers():
    first = torch.randn(4, generator=generator(1, 7, "G"))
    torch.randn(100)  # the global stream has no part in it
    assert torch.equal(first, torch.randn(4, generator=generator(1, 7, "G")))


def test_each_part_of_the_purpose_matters():
    seeds = {derive_seed(seed, step, phase) for seed in range(5) for step in range(5) for phase in ("G", "D", "path")}
    assert len(seeds) == 75
    assert derive_seed(1, "12", "3") != derive_seed(1, "1", "23")
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_image_depends_on_its_index_alone():
    whole = normal_images((2, 3, 3), range(8), 0, 5, "path noise")
    assert torch.equal(whole[1::2], normal_images((2, 3, 3), range(1, 8, 2), 0, 5, "path noise"))
    assert whole.unique().numel() == whole.numel()
