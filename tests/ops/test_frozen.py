"""When something made of weights may be kept, and when it has to be made anew."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef

from stylegan_ops.ops._frozen import Stamp, is_frozen


@pytest.fixture
def weight():
    return nn.Parameter(torch.arange(3.0), requires_grad=False)


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.add_(1),
        lambda w: w.copy_(torch.ones(3)),
        lambda w: w.lerp_(torch.ones(3), 0.5),
        lambda w: torch._foreach_mul_([w], 3),
        lambda w: nn.init.constant_(w, 7),
        lambda w: setattr(w, "data", torch.ones(3)),
        lambda w: setattr(w, "data", w.data.double()),
    ],
    ids=["add_", "copy_", "lerp_", "foreach", "init", "data", "dtype"],
)
def test_a_change_shows(weight, change):
    other = nn.Parameter(torch.ones(3), requires_grad=False)
    before = Stamp([other, weight])
    assert before.fits([other, weight])
    change(weight)
    assert not before.fits([other, weight])


def test_memory_that_comes_back_to_an_old_address(weight):
    """That the old memory is gone is seen, whatever stands there now."""
    before = Stamp([weight])
    for value in range(20):
        weight.data = torch.full([3], float(value))
        assert not before.fits([weight])


def test_memory_that_the_weight_left_is_free(weight):
    """As after moving a network to another device."""
    before, old = Stamp([weight]), StorageWeakRef(weight.untyped_storage())
    weight.data = weight.data.double()
    assert old.expired()
    assert not before.fits([weight])


def test_a_state_dict_and_a_copy():
    layer = nn.Linear(2, 2).requires_grad_(False)
    before = Stamp([layer.weight])
    layer.load_state_dict(nn.Linear(2, 2).state_dict())
    assert not before.fits([layer.weight])
    assert not Stamp([layer.weight]).fits([copy.deepcopy(layer).weight])


def test_which_weights_are_frozen(weight):
    assert is_frozen([weight, weight])
    assert not is_frozen([weight, nn.Parameter(torch.ones(3))])
    assert not is_frozen([torch.ones(3)]), "a tensor that is no parameter may be another one at every call"
    with torch.inference_mode():
        assert not is_frozen([nn.Parameter(torch.ones(3), requires_grad=False)]), "it has no version"
    with torch.enable_grad():
        assert not is_frozen([weight])
    with FakeTensorMode():
        assert not is_frozen([weight]), "what is made then has no values"
