"""The cases of filtered_lrelu, and its definition and first derivatives in numpy: one step after the other, filters as loops over taps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from upfirdn2d_cases import Case as Resampling


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int, int]
    fu: torch.Tensor | None
    fd: torch.Tensor | None
    up: int = 1
    down: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # left, right, top, bottom
    bias: bool = True
    flip_filter: bool = False
    activation: dict = field(default_factory=dict)  # gain, slope, clamp

    @property
    def kwargs(self) -> dict:
        return {
            **{"fu": self.fu, "fd": self.fd, "up": self.up, "down": self.down, "padding": list(self.padding)},
            **{"flip_filter": self.flip_filter, **self.activation},
        }

    @property
    def gain(self) -> float:
        return self.activation.get("gain", 2**0.5)

    @property
    def slope(self) -> float:
        return self.activation.get("slope", 0.2)

    @property
    def clamp(self) -> float:
        return self.activation.get("clamp", np.inf)

    @cached_property
    def taps(self) -> tuple[np.ndarray, np.ndarray]:
        """Both filters in two dimensions, as they are correlated with, the gain of the first included."""
        both = [Resampling("", (0, 0, 0, 0), f).taps_2d() for f in (self.fu, self.fd)]
        both = both if self.flip_filter else [f[::-1, ::-1] for f in both]
        return both[0] * self.up**2, both[1]

    @property
    def terms(self) -> int:
        return sum(t.size for t in self.taps) + 16


def rise(x: np.ndarray, taps: np.ndarray, case: Case) -> np.ndarray:
    """Zero-insert, pad or crop, correlate."""
    n, c, h, w = x.shape
    left, right, top, bottom = case.padding
    y = np.zeros((n, c, h * case.up, w * case.up))
    y[:, :, :: case.up, :: case.up] = x
    y = np.pad(y, [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    y = y[:, :, max(-top, 0) : y.shape[2] - max(-bottom, 0), max(-left, 0) : y.shape[3] - max(-right, 0)]
    return correlate(y, taps)


def correlate(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    height, width = x.shape[2] - taps.shape[0] + 1, x.shape[3] - taps.shape[1] + 1
    return sum(tap * x[:, :, ky : ky + height, kx : kx + width] for (ky, kx), tap in np.ndenumerate(taps))


def fall(z: np.ndarray, taps: np.ndarray, case: Case) -> np.ndarray:
    return correlate(z, taps)[:, :, :: case.down, :: case.down]


def fall_adjoint(dy: np.ndarray, taps: np.ndarray, case: Case, size: tuple[int, int]) -> np.ndarray:
    """Each result back to the fine pixels that it is a sum of."""
    z = np.zeros((*dy.shape[:2], *size))
    for (ky, kx), tap in np.ndenumerate(taps):
        rows, columns = (slice(k, k + (n - 1) * case.down + 1, case.down) for k, n in zip((ky, kx), dy.shape[2:], strict=True))
        z[:, :, rows, columns] += tap * dy
    return z


def rise_adjoint(dz: np.ndarray, taps: np.ndarray, case: Case, size: tuple[int, int]) -> np.ndarray:
    left, right, top, bottom = case.padding
    height, width = dz.shape[2] + taps.shape[0] - 1, dz.shape[3] + taps.shape[1] - 1
    padded = np.zeros((*dz.shape[:2], height, width))
    for (ky, kx), tap in np.ndenumerate(taps):
        padded[:, :, ky : ky + dz.shape[2], kx : kx + dz.shape[3]] += tap * dz
    crop = [(max(-top, 0), max(-bottom, 0)), (max(-left, 0), max(-right, 0))]
    whole = np.pad(padded, [(0, 0), (0, 0), *crop])[:, :, max(top, 0) :, max(left, 0) :]
    return whole[:, :, : size[0] * case.up : case.up, : size[1] * case.up : case.up]


class Truth:
    """The op on x and b in float64, with the sums of the absolute values of its terms."""

    def __init__(self, case: Case, x: torch.Tensor, b: torch.Tensor | None) -> None:
        self.case, self.size = case, x.shape[2:]
        up, down = case.taps
        self.absolute = np.abs(up), np.abs(down)
        x, b = x.double().numpy(), 0.0 if b is None else b.double().numpy()[:, None, None]
        self.z = rise(x + b, up, case)
        a = np.where(self.z > 0, self.z, self.z * case.slope) * case.gain
        self.steepness = abs(case.gain) * max(1.0, abs(case.slope))
        self.slopes = np.where(np.abs(a) >= case.clamp, 0.0, np.where(self.z > 0, case.gain, case.gain * case.slope))
        self.y = torch.from_numpy(fall(np.clip(a, -case.clamp, case.clamp), down, case))
        size = rise(np.abs(x) + np.abs(b), self.absolute[0], case) * self.steepness
        self.y_size = torch.from_numpy(fall(size, self.absolute[1], case))

    def dx(self, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradient in x, and the sums of the absolute values of its terms."""
        up, down = self.case.taps
        dy, fine = dy.double().numpy(), self.z.shape[2:]
        dx = rise_adjoint(fall_adjoint(dy, down, self.case, fine) * self.slopes, up, self.case, self.size)
        size = fall_adjoint(np.abs(dy), self.absolute[1], self.case, fine) * self.steepness
        return torch.from_numpy(dx), torch.from_numpy(rise_adjoint(size, self.absolute[0], self.case, self.size))

    def tangent(self, v: torch.Tensor) -> torch.Tensor:
        """The derivative in the direction v of x."""
        up, down = self.case.taps
        return torch.from_numpy(fall(rise(v.double().numpy(), up, self.case) * self.slopes, down, self.case))


def _cases() -> list[Case]:
    random = np.random.default_rng(0)

    def taps(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape)))

    sharp = {"gain": -1.3, "slope": -0.4, "clamp": 0.5}
    return [
        Case("StyleGAN3, up 2, down 2", (2, 3, 9, 12), taps(12), taps(12), 2, 2, (11, 11, 11, 11), activation={"clamp": 1.0}),
        Case("StyleGAN3, up 4, down 2", (1, 5, 9, 7), taps(24), taps(12), 4, 2, (21, 20, 19, 18)),
        Case("its adjoint's factors", (1, 2, 18, 21), taps(12), taps(24), 2, 4, (17, 17, 16, 18), bias=False),
        Case("radial fd", (1, 3, 8, 9), taps(12), taps(12, 12), 2, 2, (11, 11, 11, 11), flip_filter=True),
        Case("two axes", (2, 5, 7, 8), taps(3, 4), taps(5, 2), 2, 1, (2, 3, 1, 2), activation=sharp),
        Case("two axes, down 3", (1, 6, 13, 11), taps(5, 5), taps(2, 7), 3, 3, (4, 5, 5, 4), flip_filter=True),
        Case("no filters", (2, 3, 5, 7), None, None),
        Case("no filter up, down 2", (1, 4, 9, 8), None, taps(4), 1, 2, (1, 1, 1, 1), activation={"slope": 0.0, "gain": 1.0}),
        Case("no filter down", (1, 17, 5, 4), taps(6), None, 2, 1, (3, 2, 2, 3), activation={"clamp": 0.0}),
        Case("cropped", (1, 3, 9, 10), taps(4), taps(3), 2, 2, (-3, -2, -1, -4)),
        Case("wide padding", (1, 2, 3, 3), taps(3), taps(4), 2, 2, (19, 9, 8, 30)),
        Case("one pixel in", (2, 3, 1, 1), taps(4), taps(4), 2, 1, (4, 3, 5, 3)),
        Case("one pixel out", (1, 8, 4, 4), taps(4), taps(5, 5), 2, 4, (1, 0, 1, 0)),
        Case("factor 4", (1, 3, 6, 5), taps(2), taps(3), 4, 4, (2, 1, 1, 2), activation=sharp),
        Case("a filter shorter than its factor", (1, 3, 11, 9), taps(2), taps(2), 3, 4),
        # several tiles of a block and bands of the CPU, channels that do not fill a vector
        Case("several tiles", (1, 2, 41, 70), taps(6), taps(6), 2, 2, (5, 5, 5, 5)),
        Case("several bands", (1, 2, 130, 601), taps(4), taps(4), 2, 2, (3, 3, 3, 3)),
        Case("many channels", (1, 261, 34, 9), taps(12), taps(12), 2, 2, (11, 11, 11, 11)),
        Case("wide row", (1, 1, 3, 2501), taps(6), taps(4), 2, 2, (4, 3, 4, 3)),
        # beyond the kernels' limits: composed of other ops
        Case("25 taps", (1, 2, 14, 15), taps(25), taps(25), 2, 2, (24, 24, 24, 24)),
        Case("factor 5", (1, 2, 6, 5), taps(10), taps(8), 5, 1, (7, 7, 7, 7)),
    ]


CASES = _cases()
