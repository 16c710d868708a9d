"""What is kept for frozen weights is made once, and anew whenever a weight has changed."""

import copy
import gc

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef

from stylegan_ops.ops import _frozen
from stylegan_ops.ops._frozen import is_frozen, kept


@pytest.fixture
def weight():
    return nn.Parameter(torch.arange(3.0), requires_grad=False)


def doubled(weight, what="doubled"):
    return kept(what, [weight], lambda: weight * 2)


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


def test_it_is_made_once(weight):
    first = doubled(weight)
    assert doubled(weight) is first
    assert torch.equal(first, weight * 2)
    assert doubled(weight, "again") is not first


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.add_(1),
        lambda w: w.copy_(torch.ones(3)),
        lambda w: w.lerp_(torch.ones(3), 0.5),
        lambda w: torch._foreach_mul_([w], 3),
        lambda w: nn.init.constant_(w, 7),
        lambda w: setattr(w, "data", torch.ones(3)),
    ],
    ids=["add_", "copy_", "lerp_", "foreach", "init", "data"],
)
def test_a_change_makes_it_anew(weight, change):
    first = doubled(weight)
    change(weight)
    second = doubled(weight)
    assert second is not first
    assert torch.equal(second, weight * 2)


def test_data_that_comes_back_to_an_old_address(weight):
    """That the old memory is gone is seen, whatever stands there now."""
    doubled(weight)
    for value in range(20):
        weight.data = torch.full([3], float(value))
        assert torch.equal(doubled(weight), weight * 2)


def test_memory_that_the_weight_left_is_free(weight):
    """As after moving a network to another device."""
    doubled(weight)
    old = StorageWeakRef(weight.untyped_storage())
    weight.data = weight.data.double()
    assert old.expired()
    assert torch.equal(doubled(weight), weight * 2)


def test_any_of_several_weights(weight):
    other = nn.Parameter(torch.ones(3), requires_grad=False)
    first = kept("sum", [weight, other], lambda: weight + other)
    other.add_(1)
    assert torch.equal(kept("sum", [weight, other], lambda: weight + other), weight + other)
    assert not torch.equal(first, weight + other)


def test_a_load_of_a_state_dict(weight):
    layer = nn.Linear(2, 2).requires_grad_(False)
    doubled(layer.weight)
    layer.load_state_dict(nn.Linear(2, 2).state_dict())
    assert torch.equal(doubled(layer.weight), layer.weight * 2)


def test_it_goes_with_the_weight(weight):
    doubled(weight)
    before = len(_frozen._kept)
    del weight
    gc.collect()
    assert len(_frozen._kept) <= before


def test_a_copy_has_its_own(weight):
    doubled(weight)
    twin = copy.deepcopy(weight)
    twin.add_(1)
    assert torch.equal(doubled(twin), twin * 2)
    assert torch.equal(doubled(weight), weight * 2)


def test_what_was_made_in_inference_mode_may_be_used_outside(weight):
    with torch.inference_mode():
        made = doubled(weight)
    assert not made.is_inference()


def test_which_weights_are_frozen(weight):
    assert is_frozen(weight, weight)
    assert not is_frozen(weight, nn.Parameter(torch.ones(3)))
    assert not is_frozen(torch.ones(3)), "a tensor that is no parameter may be another one at every call"
    with torch.inference_mode():
        assert not is_frozen(nn.Parameter(torch.ones(3), requires_grad=False)), "it has no version"
    with torch.enable_grad():
        assert not is_frozen(weight)
    with FakeTensorMode():
        assert not is_frozen(weight), "what is made then has no values"
