"""What the rooms' tests share: data, layouts, and the one place that says how large an error may be.

How large an error may be. An op computes in its accumulation dtype A (float64 for float64, else float32) and rounds the result once to its
own dtype T. With eps(.) the distance of the numbers around 1, so that one rounding is off by at most eps/2:

    |error| <= terms * eps(A) * magnitude + eps(T) / 2 * (|result| + inner)

`terms` counts the operations that one result goes through: n for a sum of n products, in whatever order it is added up. That is the linear
bound of rounding analysis (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), not sqrt(n) of its statistical form:
the sums here are short, and a bound that always holds makes no test fail by bad luck. It is taken with eps instead of eps/2, half for
the op and half for the truth, which is rounded too where T is float64. An elementary function counts as ELEMENTARY operations.

`magnitude` is what the error is relative to: the sum of the absolute values of the terms, by default the absolute value of the result.
`inner` is what a value of dtype T contributes that is rounded before the last step, where there is one: a saved output, or a tensor handed
from one kernel to the next. Below the smallest normal number only an absolute error is asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

import pytest
import torch

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SIXTEEN_BIT = (torch.bfloat16, torch.float16)
LAYOUTS = (torch.contiguous_format, torch.channels_last)
ELEMENTARY = 4  # exp, expm1, log1p, a division or a root, each right to about two units in the last place
ODD_SIZES = (1, 7, 33, 129)

needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler")


def accumulate(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def randn(*shape: int, dtype: torch.dtype = torch.float64, layout: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """Random numbers that are exact in `dtype`, in a layout; channels_last only has a meaning for images."""
    return in_layout(torch.randn(shape, dtype=torch.float64).to(dtype), layout)


def in_layout(x: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    return x.contiguous(memory_format=layout if x.ndim == 4 else torch.contiguous_format)


def leaf(x: torch.Tensor | None) -> torch.Tensor | None:
    """The same numbers in the same layout as a leaf that asks for its gradient."""
    return None if x is None else x.detach().clone(memory_format=torch.preserve_format).requires_grad_()


def bound(
    truth: torch.Tensor,
    dtype: torch.dtype,
    terms: float,
    magnitude: torch.Tensor | None = None,
    inner: torch.Tensor | float = 0.0,
) -> torch.Tensor:
    """The largest error allowed, see the head of this file."""
    a, t = torch.finfo(accumulate(dtype)), torch.finfo(dtype)
    error = terms * a.eps * (truth.abs() if magnitude is None else magnitude) + 4 * a.tiny
    if dtype in SIXTEEN_BIT:
        error = error + t.eps / 2 * (truth.abs().clamp(min=t.tiny) + inner + error)
    return error.expand_as(truth)


def assert_right(
    actual: torch.Tensor,
    truth: torch.Tensor,
    *,
    dtype: torch.dtype,
    terms: float,
    magnitude: torch.Tensor | None = None,
    inner: torch.Tensor | float = 0.0,
    where: torch.Tensor | None = None,
) -> None:
    """Asserts shape, dtype, NaN and infinity, and that every element's error is within the bound.

    Args:
        actual: the op's result.
        truth: the same in float64.
        dtype: the dtype of the op's image, and of `actual` unless that is the gradient of a small operand.
        where: elements to look at; None for all.
    """
    assert actual.shape == truth.shape, f"shape {tuple(actual.shape)}, should be {tuple(truth.shape)}"
    assert truth.dtype == torch.float64
    allowed = bound(truth, dtype, terms, magnitude, inner)
    actual = actual.detach().double()
    if where is not None:
        actual, truth, allowed = actual[where], truth[where], allowed[where]
    finite = truth.isfinite()
    assert torch.equal(actual[~finite].nan_to_num(), truth[~finite].nan_to_num()), "NaN and infinity must be where they should be"
    assert torch.equal(actual.isnan(), truth.isnan()), "NaN must be where it should be"
    error = (actual - truth).abs()[finite] / allowed[finite]
    if error.numel() and not float(error.max()) <= 1:
        i = int(error.argmax())
        got, wanted = actual[finite][i].item(), truth[finite][i].item()
        many = int((error > 1).sum())
        pytest.fail(f"{many} of {error.numel()} elements off; the worst: {got!r}, should be {wanted!r}, {error.max():.3g} of the bound")


def assert_close_in_norm(
    actual: torch.Tensor, truth: torch.Tensor, *, dtype: torch.dtype, terms: float, roundings: int, what: str = "result"
) -> None:
    """Asserts that a tensor made in many steps is right as a whole.

    The errors of its elements are as good as independent, so that their norm grows with the elements' own: a rounding to T in each of the
    steps adds at most eps(T)/2 of the norm, and sums of n products in A at most n eps(A).
    """
    assert actual.shape == truth.shape, f"{what}: shape {tuple(actual.shape)}, should be {tuple(truth.shape)}"
    allowed = terms * torch.finfo(accumulate(dtype)).eps + (roundings * torch.finfo(dtype).eps / 2 if dtype in SIXTEEN_BIT else 0)
    error = float((actual.detach().double() - truth.detach()).norm() / truth.detach().norm().clamp(min=1e-300))
    assert error <= allowed, f"{what}: {error:.3g} of the norm is wrong, {allowed:.3g} allowed"


def assert_same_layout(y: torch.Tensor, x: torch.Tensor) -> None:
    """y lies in a layout in which x lies too; images of one channel or one pixel lie in both."""
    shared = [f for f in LAYOUTS if x.is_contiguous(memory_format=f) and y.is_contiguous(memory_format=f)]
    assert shared, f"strides {y.stride()} of shape {tuple(y.shape)}, but {x.stride()} of shape {tuple(x.shape)}"


def grads(
    y: torch.Tensor, inputs: Sequence[torch.Tensor | None], dy: torch.Tensor, create_graph: bool = False
) -> list[torch.Tensor | None]:
    """The gradients with regard to the inputs that are not None, None for the others."""
    wanted = [x for x in inputs if x is not None]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=create_graph))
    return [None if x is None else next(found) for x in inputs]


def non_dense(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Images with the same kinds of gaps and orders that users' views have, each made of the numbers of x `[N, C, H, W]`."""
    wide = torch.stack([x, x + 1], dim=-1).flatten(-2)  # every second column is x
    return {
        "sliced": wide[..., ::2],
        "cropped": torch.nn.functional.pad(x, [1, 2, 3, 1])[:, :, 3:-1, 1:-2],
        "transposed": x.transpose(2, 3).contiguous().transpose(2, 3),
        "permuted": x.permute(1, 0, 3, 2).contiguous().permute(1, 0, 3, 2),
        "expanded": x[:, :, :1].expand(-1, -1, x.shape[2], -1),
        "channel of channels_last": x.repeat(1, 2, 1, 1).contiguous(memory_format=torch.channels_last)[:, : x.shape[1]],
    }


def gradcheck(f: Callable, *inputs: torch.Tensor) -> None:
    assert torch.autograd.gradcheck(f, [leaf(x) for x in inputs])


def gradgradcheck(f: Callable, *inputs: torch.Tensor) -> None:
    assert torch.autograd.gradgradcheck(f, [leaf(x) for x in inputs], gen_non_contig_grad_outputs=True)


def assert_compiles(f: Callable, backend: str, *inputs: torch.Tensor) -> None:
    """A function of one graph gives the values and gradients of the eager one."""
    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, backend=backend)
    results = []
    for g in (compiled, f):
        leaves = [leaf(x) for x in inputs]
        y = g(*leaves)
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


def assert_exports(f: Callable, *inputs: torch.Tensor, node: str | None = None) -> None:
    """A module that calls f exports, with f's op as a node, and the program gives f's results."""

    class Module(torch.nn.Module):
        def forward(self, *args):
            return f(*args)

    program = torch.export.export(Module(), inputs)
    torch.testing.assert_close(program.module()(*inputs), f(*inputs))
    targets = [str(n.target) for n in program.graph.nodes]
    assert node is None or f"stylegan_ops.{node}.default" in targets, f"{node} is not among {targets}"


def assert_rejects(error: type[Exception], message: str, function: Callable, /, *args, **kwargs) -> None:
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert str(caught.value) == message
