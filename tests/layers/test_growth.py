"""Growing: the present resolution, and the weight of the newest layers."""

import copy

import pytest
import torch

from stylegan_ops.layers import Growing


def test_starts_at_its_full_size():
    network = Growing([4, 8, 16])
    assert (network.resolution, network.is_fading, float(network.alpha)) == (16, False, 1.0)
    assert network.state_dict() == {}  # where a training stands is the training's to keep


@pytest.mark.parametrize(("resolution", "alpha", "is_fading"), [(4, 1, False), (8, 0, True), (16, 0.25, True), (16, 1.0, False)])
def test_grow_to(resolution, alpha, is_fading):
    network = Growing([4, 8, 16])
    network.grow_to(resolution, alpha)
    assert (network.resolution, network.is_fading, float(network.alpha)) == (resolution, is_fading, alpha)
    other = copy.deepcopy(network)
    network.grow_to(16)
    assert (other.resolution, other.is_fading, float(other.alpha)) == (resolution, is_fading, alpha)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_fade_weighs_both(dtype):
    network = Growing([4, 8])
    old, new = torch.randn(2, 2, 3, 4, 4).to(dtype)
    for alpha in (0, 0.25, 0.5):
        network.grow_to(8, alpha)
        blend = network.fade(old, new)
        assert blend.dtype == dtype
        tolerance = 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(blend, (1 - alpha) * old + alpha * new, rtol=tolerance, atol=tolerance)


def test_a_changed_alpha_needs_no_new_graph():
    """The weight is a tensor: a compiled network is not compiled again at every step of a fade."""
    network = Growing([4, 8])
    network.grow_to(8, 0.25)
    count = 0

    def backend(graph, inputs):
        nonlocal count
        count += 1
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(lambda old, new: network.fade(old, new), backend=backend, fullgraph=True)
    old, new = torch.zeros(2), torch.ones(2)
    for alpha in (0.25, 0.5, 0.75):
        network.grow_to(8, alpha)
        assert compiled(old, new).tolist() == [alpha, alpha]
    assert count == 1
