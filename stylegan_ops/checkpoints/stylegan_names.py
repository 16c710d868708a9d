"""The tensors of a StyleGAN generator under names that every layout can put its own in the place of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .karras2019 import is_fused
from .layout import FLIP, Step, Table, resolutions


class Part(NamedTuple):
    """A tensor: what it is, the index of its resolution (0 is 4x4) and of its convolution there (0 or 1), and "weight" or "bias".

    Kinds: dense (i is the layer), const, weight (of a convolution), bias (behind it), noise (its strength), noise_const, style, torgb,
    w_avg.
    """

    kind: str
    i: int = 0
    k: int = 0
    part: str = "weight"


def stylegan_parts(steps: int, num_layers: int) -> Iterator[tuple[Part, str]]:
    """All tensors of a generator of so many resolutions, but for its filters, and our name of each."""
    both = ("weight", "bias")
    yield from ((Part("dense", i, part=part), f"mapping.fc{i}.{part}") for i in range(num_layers) for part in both)
    yield Part("w_avg"), "mapping.w_avg"
    yield Part("const"), "synthesis.const"
    for i, r in enumerate(resolutions(steps)):
        for k in range(2):
            ours = f"synthesis.epilogue{r}_{k}"
            if (i, k) != (0, 0):
                yield Part("weight", i, k), f"synthesis.conv{r}.weight" if k else f"synthesis.up{r}.conv.weight"
            yield Part("bias", i, k), f"{ours}.bias"
            yield Part("noise", i, k), f"{ours}.noise.strength"
            yield Part("noise_const", i, k), f"{ours}.noise.noise_const"
            yield from ((Part("style", i, k, part), f"{ours}.adain.affine.{part}") for part in both)
        yield from ((Part("torgb", i, part=part), f"synthesis.torgb{r}.{part}") for part in both)


def stylegan_table(steps: int, num_layers: int, name: Callable[[Part], tuple[str, Step] | str | None]) -> Table:
    """The table of a layout that has the published weights: those upsampled to 128 px and more are of a transposed convolution, see
    `karras2019`.

    Args:
        steps: how many resolutions.
        num_layers: of the mapping network.
        name: gives their name of a part, with the steps to ours; None where they have none.
    """
    table: Table = {}
    for part, ours in stylegan_parts(steps, num_layers):
        found = name(part)
        if found is None:
            continue
        theirs, *changes = (found,) if isinstance(found, str) else found
        if part.kind == "weight" and part.k == 0 and is_fused(4 << part.i):
            changes.append(FLIP)
        table[theirs] = (ours, *changes)
    return table
