"""`torch_utils.ops.grid_sample_gradfix`: bilinear sampling that can be differentiated twice.

Other than theirs: `enabled` changes nothing and nothing warns; from torch 2.13 on, the second derivative by the grid is there, too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

enabled = False  # training scripts assign it
_torch_differentiates_twice = torch.__version__ >= (2, 13)


def grid_sample(input: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """`torch.nn.functional.grid_sample`, bilinear, zeros outside, `align_corners=False`."""
    if _torch_differentiates_twice:
        return _sample(input, grid)
    return _GridSample.apply(input, grid)


def _sample(input: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class _GridSample(torch.autograd.Function):
    """For torch before 2.13, which differentiates grid_sample once: it is linear in the image, and its adjoint's derivative is itself."""

    @staticmethod
    def forward(ctx, input, grid):
        ctx.save_for_backward(input, grid)
        return _sample(input, grid)

    @staticmethod
    def backward(ctx, dy):
        return _GridSampleBackward.apply(dy, *ctx.saved_tensors)


class _GridSampleBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, dy, input, grid):
        ctx.save_for_backward(grid)
        bilinear, zeros, wanted = 0, 0, [True, True]
        return torch.ops.aten.grid_sampler_2d_backward(dy, input, grid, bilinear, zeros, False, wanted)

    @staticmethod
    def backward(ctx, g_input, g_grid):
        """By the image alone: a graph in which the grid asks for a second derivative has none there, and says so."""
        (grid,) = ctx.saved_tensors
        if ctx.needs_input_grad[2]:
            raise RuntimeError("grid_sample: the second derivative by the grid needs torch 2.13 (its first is there)")
        return grid_sample(g_input, grid), None, None
