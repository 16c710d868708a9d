"""The grid over psi, and the mean code it goes by."""

import pytest
import torch
from torch import nn

from stylegan_ops.figures import mean_w, seeded_latents, truncation
from stylegan_ops.layers import estimate_w_avg
from stylegan_ops.training.grids import to_uint8


def test_rows_are_seeds_and_columns_psi(make_generator):
    G = make_generator(8, c_dim=2)
    images = truncation(G, [3, 4], [-1, 0, 0.5, 1])
    assert images.shape == (2, 4, 3, 8, 8) and images.dtype == torch.uint8
    for i, seed in enumerate([3, 4]):
        for j, psi in enumerate([-1, 0, 0.5, 1]):
            expected = to_uint8(G(*seeded_latents(G, [seed]), truncation_psi=psi, noise_mode="const"))[0]
            assert (images[i, j].int() - expected.int()).abs().max() <= 1  # rounding, by the batch
    assert torch.equal(images[0, 1], images[1, 1])  # the average image
    assert not torch.equal(images[0, 3], images[1, 3])
    assert torch.equal(images, truncation(G, [3, 4], [-1, 0, 0.5, 1]))


def test_a_missing_mean_is_estimated(make_generator):
    G = make_generator(4)
    assert mean_w(G) is G.mapping.w_avg
    G.mapping.w_avg.zero_()
    assert torch.equal(mean_w(G), estimate_w_avg(G.mapping))
    average = truncation(G, [0], [0])
    expected = to_uint8(G.synthesis(estimate_w_avg(G.mapping).expand(1, G.num_ws, -1), noise_mode="const"))
    assert torch.equal(average[0], expected)
    assert not G.mapping.w_avg.any()


def test_rejects(make_generator):
    class Plain(nn.Module):
        num_ws = 1

    G = make_generator(4)
    for call, message in [
        (lambda: truncation(Plain(), [0]), r"truncation: G must have a mapping network; a ProGAN has none .*"),
        (lambda: truncation(G, [0], []), r"truncation: psis must hold at least one number \(got none\)"),
        (lambda: truncation(G, [0], [float("inf")]), r"truncate: truncation_psi must be finite \(got inf\)"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()
