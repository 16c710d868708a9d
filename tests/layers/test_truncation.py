"""truncate and estimate_w_avg: definition, bits, derivatives, sampling, errors."""

import pytest
import torch

from stylegan_ops.layers import MappingNetwork, estimate_w_avg, truncate


@pytest.mark.parametrize("cutoff", [None, 0, 1, 4])
@pytest.mark.parametrize("psi", [1, 0.7, 0, -0.5])
def test_truncate_matches_definition(psi, cutoff):
    ws, w_avg = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    expected = ws.clone()
    for layer in range(4 if cutoff is None else cutoff):
        expected[:, layer] = w_avg + psi * (ws[:, layer] - w_avg)
    torch.testing.assert_close(truncate(ws, w_avg, psi, cutoff), expected, rtol=1e-14, atol=1e-14)


def test_the_mapping_network_truncates_with_it():
    net, z = MappingNetwork(6, 0, 5, num_ws=4, num_layers=2), torch.randn(3, 6)
    torch.nn.init.normal_(net.w_avg)
    assert torch.equal(net(z, truncation_psi=0.6, truncation_cutoff=3), truncate(net(z), net.w_avg, 0.6, 3))


def test_truncate_is_differentiable_twice():
    ws = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    w_avg = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: truncate(*a, 0.3, 2), (ws, w_avg))
    assert torch.autograd.gradgradcheck(lambda *a: truncate(*a, 0.3, 2).square(), (ws, w_avg))


def test_truncate_rejects_bad_input():
    ws, w_avg = torch.zeros(2, 4, 5), torch.zeros(5)
    for call, error, message in [
        (lambda: truncate(ws[0], w_avg), ValueError, r"truncate: ws must have shape \[N, num_ws, w_dim\] \(got shape \(4, 5\)\)"),
        (
            lambda: truncate(ws, w_avg[:1]),
            ValueError,
            r"truncate: w_avg must have shape \[w_dim\] = \[5\], as ws has it \(got shape \(1,\)\)",
        ),
        (lambda: truncate(ws, w_avg.double()), TypeError, "truncate: w_avg must have the dtype of ws, torch.float32 .*"),
        (lambda: truncate(ws, w_avg, float("nan")), ValueError, r"truncate: truncation_psi must be finite \(got nan\)"),
        (lambda: truncate(ws, w_avg, 1, 5), ValueError, r"truncate: truncation_cutoff must be within 0 and num_ws=4 \(got 5\)"),
    ]:
        with pytest.raises(error, match=f"^{message}$"):
            call()


def test_estimate_is_the_mean_of_the_seeds_codes():
    net = MappingNetwork(6, 0, 5, num_ws=4, num_layers=2, lr_multiplier=1)
    z = torch.randn(2500, 6, generator=torch.Generator().manual_seed(3))  # more than two batches
    estimate = estimate_w_avg(net, 2500, seed=3)
    assert estimate.dtype == torch.float32 and not estimate.requires_grad
    # A sum in float32 is off by eps for each doubling of the number of terms.
    torch.testing.assert_close(estimate, net(z)[:, 0].detach().mean(0), rtol=1e-5, atol=1e-6)
    assert torch.equal(estimate, estimate_w_avg(net, 2500, seed=3))
    assert not torch.equal(estimate, estimate_w_avg(net, 2500, seed=4))


def test_estimate_converges_to_the_expectation():
    """A mapping whose mean is known: w = |z| has the mean sqrt(2 / pi), and 10,000 draws a standard error of 0.006."""

    class Folded(torch.nn.Linear):
        z_dim, c_dim = 3, 0

        def forward(self, z, c):
            return z.abs()[:, None]

    estimate = estimate_w_avg(Folded(3, 3))
    assert (estimate - (2 / torch.pi) ** 0.5).abs().max() < 5 * 0.006


def test_estimate_takes_every_class_in_turn():
    class Labels(torch.nn.Linear):
        z_dim, c_dim = 2, 4

        def forward(self, z, c):
            return c[:, None]

    assert estimate_w_avg(Labels(1, 1), 2000).tolist() == [0.25] * 4


def test_estimate_rejects_an_empty_sample():
    with pytest.raises(ValueError, match=r"^estimate_w_avg: count must be at least 1 \(got 0\)$"):
        estimate_w_avg(MappingNetwork(6, 0, 5, 4, 1), 0)
