"""Operands of conv_epilogue in their several forms, and the sizes of images on which its kernel takes different ways."""

import torch
from support import ELEMENTARY, accumulate, randn

TERMS = 6 + 2 * ELEMENTARY  # scale, noise, strength, bias, gain, and an activation of up to two elementary functions

# 512 channels or pixels are a block of the kernel, 32768 elements a work item
SHAPES = [(1, 1, 1, 1), (2, 3, 7, 5), (1, 1, 33, 33), (3, 17, 1, 3), (2, 129, 5, 3), (1, 600, 3, 3), (2, 33, 33, 17), (2, 512, 7, 7)]

# scale, noise, its strength, bias
COMBINATIONS = [
    (False, None, None, False),
    (True, None, None, False),
    (False, "shared", None, True),
    (True, "plane", "number", False),
    (True, "per sample", "tensor", True),
    (False, "per sample", None, False),
    (True, "shared", "tensor", True),
    (False, "plane", "tensor", True),
    (False, None, None, True),
    (True, "per sample", "number", True),
]


class Operands:
    """`all` holds what conv_epilogue takes: y of `dtype`, the others as the op itself would cast them."""

    def __init__(self, shape, dtype, layout, scale, noise, strength, bias):
        (n, c, h, w), small = shape, accumulate(dtype)
        y = randn(*shape, dtype=dtype, layout=layout)
        shapes = {None: None, "plane": (h, w), "shared": (1, 1, h, w), "per sample": (n, 1, h, w)}
        scale = randn(n, c, dtype=small) if scale else None
        noise = randn(*shapes[noise], dtype=small) if noise else None
        strength = {None: None, "number": 0.75, "tensor": randn(1, dtype=small)}[strength]
        self.all = y, scale, noise, strength, randn(c, dtype=small) if bias else None

    def factors(self) -> list[torch.Tensor | float]:
        """y, scale, noise, strength and bias in float64, ready to be broadcast."""
        y, scale, noise, strength, bias = self.all
        return [
            y.double(),
            1.0 if scale is None else scale.double()[:, :, None, None],
            0.0 if noise is None else noise.double(),
            1.0 if strength is None else float(strength),
            0.0 if bias is None else bias.double()[:, None, None],
        ]

    def argument(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`z = y * scale + noise * strength + bias` and the sum of the absolute values of its terms."""
        y, scale, noise, strength, bias = self.factors()
        parts = y * scale, y * 0 + noise * strength, y * 0 + bias
        return sum(parts), sum(p.abs() for p in parts)
