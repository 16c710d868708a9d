"""A pass computes the gradients of weights only where it is asked for them: R1 and path length are not."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from stylegan_ops import modulated_conv2d, setup_filter
from stylegan_ops._library import compiled

pytestmark = pytest.mark.skipif(not compiled("cpu").loaded, reason="the CPU library is not loaded")


class WeightGradients(TorchDispatchMode):
    """Counts the weight gradients that are computed."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "modulated_conv2d_weight" in func.name()
        return func(*args, **(kwargs or {}))


RESAMPLINGS = {
    name: {} if name == "plain" else {name: 2, "resample_filter": setup_filter([1, 3, 3, 1])} for name in ("plain", "up", "down")
}


@pytest.mark.parametrize("is_leaf", [True, False], ids=["parameter", "made of one"])
@pytest.mark.parametrize("resampling", RESAMPLINGS.values(), ids=RESAMPLINGS)
@pytest.mark.parametrize("styled", [True, False])
def test_only_what_is_asked_for_is_computed(resampling, styled, is_leaf):
    x, parameter = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)
    styles = torch.randn(2, 3, requires_grad=True) if styled else None
    weight = parameter if is_leaf else parameter * 1.5
    y = modulated_conv2d(x, weight, styles, padding=1, act="lrelu", impl="native", **resampling).square().sum()
    counts = []
    for inputs in ([x], [parameter], [x, parameter], None):
        with WeightGradients() as counter:
            if inputs is None:
                y.backward(retain_graph=True)
            else:
                torch.autograd.grad(y, inputs, retain_graph=True, create_graph=True)
        counts.append(counter.count)
    assert counts == [0, 1, 1, 1]


@pytest.mark.parametrize("resampling", RESAMPLINGS.values(), ids=RESAMPLINGS)
def test_second_derivatives_after_a_first_by_the_image_are_the_references(resampling):
    x, styles = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True), torch.randn(2, 3, dtype=torch.float64)
    found = []
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    for impl in ("native", "reference"):
        y = modulated_conv2d(x, weight, styles, padding=1, act="swish", impl=impl, **resampling)
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), weight)[0])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)
