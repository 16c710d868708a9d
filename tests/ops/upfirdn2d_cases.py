"""The cases of upfirdn2d: factors, paddings, filters and sizes, chosen so that each meets each other's kinds without a full product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch


@dataclass(frozen=True)
class Case:
    """One call: pairs are (x, y), padding is (left, right, top, bottom)."""

    name: str
    shape: tuple[int, int, int, int]
    f: torch.Tensor | None
    up: tuple[int, int] = (1, 1)
    down: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    flip_filter: bool = False
    gain: float = 1.0

    def taps_2d(self) -> np.ndarray:
        if self.f is None:
            return np.ones((1, 1))
        f = self.f.double().numpy()
        return np.outer(f, f) if f.ndim == 1 else f

    def taps_1d(self) -> np.ndarray | None:
        """The taps of both axes if the filter is given by one row of them."""
        if self.f is None:
            return np.ones(1)
        return self.f.double().numpy() if self.f.ndim == 1 else None

    def absolute(self) -> Case:
        return replace(self, f=None if self.f is None else self.f.abs(), gain=abs(self.gain))

    # The arguments in the shortest form that says the same.
    @property
    def up_argument(self):
        return self.up[0] if self.up[0] == self.up[1] else list(self.up)

    @property
    def down_argument(self):
        return self.down[0] if self.down[0] == self.down[1] else list(self.down)

    @property
    def padding_argument(self):
        left, right, top, bottom = self.padding
        if left == right == top == bottom:
            return left
        return [left, top] if (left, top) == (right, bottom) else list(self.padding)


def _cases() -> list[Case]:
    random = np.random.default_rng(0)

    def taps(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32))

    binomial = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    filters = [taps(3, 4), binomial, taps(4), binomial.outer(binomial), taps(5, 5), taps(6), None, taps(1, 3), taps(1)]
    paddings = [(0, 0, 0, 0), (2, 2, 2, 2), (3, 3, 1, 1), (2, 1, 0, 3), (-1, 2, 1, -1), (-1, -1, -1, -1), (7, 0, 0, 9)]
    shapes = [(2, 3, 7, 9), (1, 1, 33, 7), (1, 17, 8, 9), (1, 64, 7, 7), (2, 15, 8, 10), (1, 16, 9, 8)]

    cases = []
    pairs = [(1, 1), (2, 2), (3, 3), (1, 2), (2, 1), (3, 1), (2, 3)]
    factors = [*product([(1, 1), (2, 2), (3, 3)], repeat=2), *zip(pairs, reversed(pairs), strict=True), ((4, 1), (1, 4)), ((2, 1), (4, 3))]
    for i, (up, down) in enumerate(factors):
        for j in range(3):  # three cases each, with another filter, padding and size
            k = 3 * i + j
            arguments = filters[k % 9], up, down, paddings[k % 7], bool(k % 2), (1.0, 4.0, -0.5)[k % 3]
            cases.append(Case(f"{k}", shapes[k % 6], *arguments))
    return cases + [
        Case("identity", (2, 3, 5, 7), None),
        Case("one tap", (2, 3, 5, 7), torch.tensor([[2.0]]), gain=0.5),
        Case("zero taps", (1, 3, 5, 7), torch.zeros(3, 3)),
        Case("32 x 32 taps", (1, 2, 37, 40), taps(32, 32), padding=(2, 2, 2, 2)),
        Case("32 x 32 taps, short image", (1, 3, 7, 9), taps(32, 32), (2, 2), (1, 1), (15, 16, 16, 15)),
        Case("32 taps, up and down", (1, 3, 9, 10), taps(32), (2, 2), (2, 2), (16, 15, 16, 15)),
        Case("one row of taps", (1, 3, 9, 10), taps(1, 6), padding=(2, 3, 0, 0)),
        Case("one column of taps", (1, 20, 9, 10), taps(6, 1), down=(1, 2), padding=(0, 0, 2, 3)),
        Case("one pixel in", (2, 3, 1, 1), taps(4), (2, 2), (1, 1), (2, 1, 2, 1)),
        Case("one pixel out", (2, 20, 4, 4), taps(4, 4)),
        Case("only padding kept", (1, 2, 1, 1), None, (1, 1), (3, 3), (1, 0, 1, 0)),
        Case("padding wider than the filter", (1, 3, 3, 3), taps(3, 3), (2, 2), (1, 1), (9, 8, 7, 9)),
        Case("cropped to the middle", (1, 17, 9, 9), taps(2, 2), (2, 2), (1, 1), (-7, -6, -5, -8)),
        Case("cropped beyond the image", (1, 2, 1, 2), taps(2, 2), padding=(-3, 30, 9, -1)),
        # rows longer than a tile of the kernel, 4096 elements, in few and in many channels
        Case("wide row", (1, 2, 3, 5003), binomial, padding=(2, 1, 2, 1)),
        Case("wide row up", (1, 1, 2, 5003), taps(4, 3), (2, 2), (1, 1), (2, 1, 2, 1)),
        Case("wide row up 3", (1, 3, 2, 2801), binomial, (3, 1), (1, 1), (2, 1, 2, 1)),
        Case("wide row down", (1, 3, 5, 5003), binomial, (1, 1), (2, 2), (1, 1, 1, 1)),
        Case("wide row up and down", (1, 2, 2, 4999), taps(5), (3, 2), (2, 3), (2, 2, 2, 2)),
        Case("many channels", (1, 600, 5, 37), binomial, (2, 2), (1, 1), (2, 1, 2, 1)),
        Case("many channels down", (1, 600, 4, 45), taps(4, 4), (1, 1), (2, 1), (2, 1, 2, 1)),
        Case("blur of an up-convolution", (1, 2, 257, 257), binomial.outer(binomial), padding=(1, 1, 1, 1), gain=4.0),
    ]


CASES = _cases()
