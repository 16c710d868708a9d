"""Networks on the meta device: shapes without numbers, for tools that count before anything is allocated."""

import pytest
import torch


@pytest.mark.filterwarnings("error")
def test_every_family_runs_without_numbers(make_family):
    g, d = (network.to("meta") for network in make_family(c_dim=2))
    z, c = torch.empty(4, g.z_dim, device="meta"), torch.empty(4, 2, device="meta")
    for training in (True, False):
        g.train(training).requires_grad_(training), d.train(training)
        with torch.set_grad_enabled(training):
            images = g.synthesis.images(g.mapping(z, c), noise_mode="random")
            logits = d(images if len(images) > 1 else images[0], c)
        assert images[-1].is_meta and images[-1].shape == (4, 3, 8, 8) and logits.shape == (4, 1)
