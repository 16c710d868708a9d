"""Path-length regularisation of generators with known Jacobians."""

import math

import pytest
import torch

from stylegan_ops.training import PathLengthRegularizer, default_path_weight, simple_path_length_penalty

N, NUM_WS, W_DIM, SIDE = 5, 3, 4, 6


def linear_generator(jacobian, ws):
    """g(ws) = sum_l J_l ws[:, l], J of shape [num_ws, w_dim, 2 * SIDE * SIDE]."""
    return torch.einsum("nlw,lwp->np", ws, jacobian).view(len(ws), 2, SIDE, SIDE)


def draw():
    random = torch.Generator().manual_seed(1)
    jacobian = torch.randn(NUM_WS, W_DIM, 2 * SIDE * SIDE, generator=random).requires_grad_()
    ws = torch.randn(N, NUM_WS, W_DIM, generator=random).requires_grad_()
    noise = torch.randn(N, 2, SIDE, SIDE, generator=random)
    return jacobian, ws, noise


def expected_lengths(jacobian, noise):
    projected = torch.einsum("lwp,np->nlw", jacobian, noise.flatten(1) / SIDE)
    return projected.square().sum(2).mean(1).sqrt()


@pytest.mark.parametrize("grad_scale", [1.0, 1024.0])
def test_linear_generator(grad_scale):
    jacobian, ws, noise = draw()
    regularizer = PathLengthRegularizer(decay=0.01)
    regularizer.mean.fill_(2.0)
    penalty = regularizer(linear_generator(jacobian, ws), ws, noise, grad_scale=grad_scale)

    exact = jacobian.detach().clone().requires_grad_()
    lengths = expected_lengths(exact, noise)
    mean = 2.0 + 0.01 * (lengths.mean().item() - 2.0)
    assert regularizer.mean.item() == pytest.approx(mean, rel=1e-6)
    expected = (lengths - mean).square().mean()
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    expected.backward()
    torch.testing.assert_close(jacobian.grad, exact.grad)


def test_expected_length_is_the_jacobians_norm():
    """E |J^T y|^2 = |J|_F^2 / (H W) for one style: the noise is scaled by 1 / sqrt(H W)."""
    random = torch.Generator().manual_seed(2)
    jacobian = torch.randn(1, 1, 2 * SIDE * SIDE, generator=random)
    ws = torch.zeros(20000, 1, 1, requires_grad=True)
    regularizer = PathLengthRegularizer(decay=1.0)
    images = linear_generator(jacobian, ws)
    regularizer(images, ws, torch.randn(images.shape, generator=random))
    # One style: |J^T y| is the size of a normal number of deviation |J| / SIDE, whose mean is sqrt(2 / pi) of it.
    expected = jacobian.norm().item() / SIDE * math.sqrt(2 / math.pi)
    assert regularizer.mean.item() == pytest.approx(expected, rel=0.03)


def test_codes_that_the_images_were_not_made_of_do_not_count():
    torch.manual_seed(0)
    weights, ws, noise = torch.randn(2, 5, 12), torch.randn(3, 6, 5, requires_grad=True), torch.randn(3, 1, 3, 4)
    images = torch.einsum("nlw,lwp->np", ws[:, :2], weights).reshape(noise.shape)
    cut = ws[:, :2].detach().requires_grad_()
    of_cut = torch.einsum("nlw,lwp->np", cut, weights).reshape(noise.shape)
    torch.testing.assert_close(PathLengthRegularizer()(images, ws, noise, 2), PathLengthRegularizer()(of_cut, cut, noise))


def test_zero_gradient_gives_finite_derivatives():
    _, ws, noise = draw()
    jacobian = torch.zeros(NUM_WS, W_DIM, 2 * SIDE * SIDE, requires_grad=True)
    regularizer = PathLengthRegularizer()
    regularizer(linear_generator(jacobian, ws), ws, noise).backward()
    assert jacobian.grad.isfinite().all()


def test_overflow_leaves_the_mean_alone():
    jacobian, ws, noise = draw()
    regularizer = PathLengthRegularizer()
    regularizer.mean.fill_(3.0)
    regularizer(linear_generator(jacobian * math.inf, ws), ws, noise)
    assert regularizer.mean.item() == 3.0


def test_batch_mean_is_averaged_over_processes():
    jacobian, ws, noise = draw()
    regularizer = PathLengthRegularizer(decay=1.0)
    regularizer(linear_generator(jacobian, ws), ws, noise, average=lambda mean: mean.fill_(7.0))
    assert regularizer.mean.item() == 7.0


def test_default_weight_is_the_papers():
    """gamma = ln 2 / (r^2 (ln r - ln 2)) for noise of unit variance; at 1024 pixels r^2 gamma = 1 / 9."""
    assert default_path_weight(1024) == pytest.approx(1 / 9)
    assert default_path_weight(4) == pytest.approx(1)


@pytest.mark.parametrize("a", [0.0, 10.0, torch.tensor(-0.5, dtype=torch.float64)])
def test_simple_penalty_of_a_linear_generator(a):
    """g(w) = w J: grad_w v = J y, so that p = |J y - a| over the whole batch, v = sum(w J y), dp/dJ = sum_n (J y_n - a) y_n^T / p."""
    jacobian, w, noise = (torch.randn(*shape, dtype=torch.float64) for shape in ((W_DIM, 2 * SIDE * SIDE), (N, W_DIM), (N, 2, SIDE, SIDE)))
    jacobian.requires_grad_()
    w.requires_grad_()
    penalty, variation = simple_path_length_penalty((w @ jacobian).view_as(noise), w, noise, a)
    penalty.backward()

    y, exact = noise.flatten(1), jacobian.detach()
    distances = y @ exact.T - a
    torch.testing.assert_close(penalty.detach(), distances.square().sum().sqrt())
    torch.testing.assert_close(variation, (w.detach() @ exact * y).sum())
    assert not variation.requires_grad
    torch.testing.assert_close(jacobian.grad, distances.T @ y / distances.square().sum().sqrt())


def test_simple_penalty_where_the_gradient_is_a():
    _, ws, noise = draw()
    jacobian = torch.zeros(NUM_WS, W_DIM, 2 * SIDE * SIDE, requires_grad=True)
    penalty, _ = simple_path_length_penalty(linear_generator(jacobian, ws), ws, noise, 0.0)
    penalty.backward()
    assert penalty.item() == 0
    assert not jacobian.grad.any()
