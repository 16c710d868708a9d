"""adain, its gradients and the sizes of their rounding errors, by numpy in float64: independent of PyTorch and of the package."""

import numpy as np
import torch
from closed_forms import Expected
from support import ELEMENTARY, accumulate, randn

EPS = 1e-8

# 512 channels or pixels are a block of the CPU kernel
SHAPES = [(1, 1, 1, 1), (2, 3, 7, 5), (1, 1, 33, 33), (3, 17, 1, 3), (2, 129, 5, 3), (1, 600, 1, 7), (2, 33, 33, 17), (1, 3, 129, 33)]

# scale, shift, noise, its strength, bias
COMBINATIONS = [
    (True, True, None, None, True),
    (False, False, None, None, False),
    (True, False, "shared", None, True),
    (False, True, "plane", "number", False),
    (True, True, "per sample", "channels", True),
    (True, True, "per sample", "tensor", True),
    (False, False, "shared", "channels", False),
]


class Operands:
    """`all` holds what adain takes: x of `dtype`, the others as the op itself would cast them."""

    def __init__(self, shape, dtype, layout, scale, shift, noise, strength, bias):
        (n, c, h, w), small = shape, accumulate(dtype)
        shapes = {None: None, "plane": (h, w), "shared": (1, 1, h, w), "per sample": (n, 1, h, w)}
        self.all = (
            randn(*shape, dtype=dtype, layout=layout),
            randn(n, c, dtype=small) if scale else None,
            randn(n, c, dtype=small) if shift else None,
            randn(*shapes[noise], dtype=small) if noise else None,
            {None: None, "number": 0.75, "tensor": randn(1, dtype=small), "channels": randn(c, dtype=small)}[strength],
            randn(c, dtype=small) if bias else None,
        )

    def image(self):
        """x, noise and strength in float64, ready to be broadcast; `z = x + noise * strength + bias` and the size of its terms."""
        x, _, _, noise, strength, bias = self.all
        parts = [
            x.double(),
            torch.zeros(1, 1, 1, 1) if noise is None else noise.double().reshape(-1, 1, *x.shape[2:]),
            1.0 if strength is None else strength if isinstance(strength, float) else strength.double()[:, None, None],
            0.0 if bias is None else bias.double()[:, None, None],
        ]
        x, noise, strength, bias = parts
        return x, noise, strength, x + noise * strength + bias, x.abs() + (noise * strength).abs() + abs(bias)

    def styles(self):
        x, scale, shift = self.all[:3]
        like = torch.ones(x.shape[:2], dtype=torch.float64)
        return [(v if t is None else t.double())[:, :, None, None].numpy() for t, v in ((scale, like), (shift, 0 * like))]


def mean(v):
    return v.mean(axis=(2, 3), keepdims=True)


class Truth:
    """y for the operands, and how far rounding may carry an implementation from it per operation (`y_size`); with dy its gradients."""

    def __init__(self, operands, act, gain=1.0, eps=EPS):
        x, noise, strength, z, size = operands.image()
        inner = Expected(z, size, torch.float64, act, gain=gain)
        u, u_size = inner.y.numpy(), inner.y_size.numpy()
        scale, shift = operands.styles()
        centred = u - mean(u)
        r = 1 / np.sqrt(mean(centred**2) + eps)
        unit = centred * r
        off = u_size + mean(u_size)  # of centred
        rough = 1 + 2 * mean(np.abs(centred) * off) * r**2  # of r, as a part of it
        unit_size = r * off + np.abs(unit) * rough
        self.terms = 2 * x[0, 0].numel() + 6 * ELEMENTARY + 10
        self.y = torch.from_numpy(unit * scale + shift)
        self.y_size = torch.from_numpy(np.abs(scale) * unit_size + np.abs(shift))
        self.parts = x, noise, strength, inner, scale, r, unit, unit_size, rough

    def gradients(self, dy):
        """`{name: (gradient, size)}` of x, scale, shift, noise, strength (per channel) and bias."""
        x, noise, strength, inner, scale, r, unit, unit_size, rough = self.parts
        dy = dy.double().numpy()
        size = np.abs(dy)
        du = scale * r * (dy - mean(dy) - unit * mean(dy * unit))
        of_units = unit_size * mean(size * np.abs(unit)) + np.abs(unit) * mean(size * unit_size)
        du_size = np.abs(scale) * r * ((size + mean(size) + np.abs(unit) * mean(size * np.abs(unit))) * rough + of_units)
        dz, dz_size = du * inner.slope.numpy(), du_size * inner.slope.abs().numpy() + np.abs(du) * inner.slope_size.numpy()
        dz, dz_size = torch.from_numpy(dz), torch.from_numpy(dz_size)
        over = [0, 1] if noise.shape[0] == 1 else [1]
        noise, strength = noise.expand(dz.shape[0], 1, *dz.shape[2:]), torch.as_tensor(strength, dtype=torch.float64)
        styles = {name: torch.from_numpy(v.sum((2, 3))) for name, v in (("scale", dy * unit), ("shift", dy))}
        sizes = {name: torch.from_numpy(v.sum((2, 3))) for name, v in (("scale", size * unit_size), ("shift", size))}
        return {
            "x": (dz, dz_size),
            "scale": (styles["scale"], sizes["scale"]),
            "shift": (styles["shift"], sizes["shift"]),
            "noise": ((dz * strength).sum(over), (dz_size * strength.abs()).sum(over)),
            "strength": ((dz * noise).sum([0, 2, 3]), (dz_size * noise.abs()).sum([0, 2, 3])),
            "bias": (dz.sum([0, 2, 3]), dz_size.sum([0, 2, 3])),
        }
