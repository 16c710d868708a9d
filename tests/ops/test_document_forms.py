"""The modulated convolution as teaching texts write it, sample by sample or as one grouped convolution, with 1e-6 under the root."""

import pytest
import torch
import torch.nn.functional as F
from support import leaf, randn

from stylegan_ops import modulated_conv2d

EPS = 1e-6
SHAPES = {"x": (3, 4, 6, 7), "weight": (5, 4, 3, 3), "styles": (3, 4)}


def one_by_one(x, weight, styles):
    """A convolution of its own for every sample, with its own weights."""
    pictures = []
    for sample, style in zip(x, styles, strict=True):
        w = weight * style[:, None, None]
        w = w / (w.square().sum((1, 2, 3), keepdim=True) + EPS).sqrt()
        pictures.append(F.conv2d(sample[None], w, padding=1)[0])
    return torch.stack(pictures)


def grouped(x, weight, styles):
    """All samples side by side in the channels, a group of the convolution for each."""
    n, i, height, width = x.shape
    w = torch.einsum("ni,oikl->noikl", styles, weight)
    w = w / (w.square().sum((2, 3, 4), keepdim=True) + EPS).sqrt()
    y = F.conv2d(x.reshape(1, n * i, height, width), w.flatten(0, 1), padding=1, groups=n)
    return y.reshape(n, -1, height, width)


@pytest.mark.parametrize("form", [one_by_one, grouped])
@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["usual weights", "weights of the size of eps"])
def test_equals_the_op_in_values_and_gradients(implementation, form, size):
    tensors = {name: randn(*shape) * (size if name == "weight" else 1) for name, shape in SHAPES.items()}
    dy = randn(3, 5, 6, 7)
    results = []
    for function in (form, lambda x, weight, styles: modulated_conv2d(x, weight, styles, padding=1, eps=EPS)):
        inputs = {name: leaf(value) for name, value in tensors.items()}
        y = function(**inputs)
        first = torch.autograd.grad(y, list(inputs.values()), dy, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), list(inputs.values()))
        results.append([y, *first, *second])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10 * float(expected.detach().abs().max()))


def test_the_eps_of_the_text_is_not_the_ops_own(implementation):
    """With weights as small as eps its root, the default 1e-8 gives another result: the argument is heard."""
    tensors = {name: randn(*shape) * (1e-3 if name == "weight" else 1) for name, shape in SHAPES.items()}
    y = modulated_conv2d(**tensors, padding=1)
    assert (y - one_by_one(**tensors)).abs().max() > 0.01 * y.abs().max()


def test_a_layer_of_the_text(implementation):
    """With torch's own linear layer for the styles, as the text has it."""
    affine = torch.nn.Linear(8, 4).double()
    weight, x, w = randn(5, 4, 3, 3), randn(2, 4, 6, 6), randn(2, 8)
    y = modulated_conv2d(x, weight, affine(w), padding=1, eps=EPS)
    torch.testing.assert_close(y, grouped(x, weight, affine(w)), rtol=1e-10, atol=1e-10)
