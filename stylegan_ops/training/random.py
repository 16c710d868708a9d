"""Random draws as pure functions of (seed, step, purpose), so that any run can be continued from its step number alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def derive_seed(seed: int, *purpose: object) -> int:
    """Derive an independent 63-bit seed from the run's seed and what it is for.

    Args:
        seed: the run's seed.
        *purpose: anything with a stable `str`, such as a step number and the name of a phase.

    Returns:
        int in [0, 2^63).
    """
    digest = hashlib.blake2b(repr((seed, *map(str, purpose))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """Make a CPU generator for one purpose.

    The CPU's generator is used on every device: its numbers do not depend on the hardware.

    Args:
        seed: the run's seed.
        *purpose: as for `derive_seed`.

    Returns:
        torch.Generator on the CPU.
    """
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def normal_images(shape: Sequence[int], indices: Sequence[int], seed: int, *purpose: object) -> torch.Tensor:
    """Draw one N(0, I) image for each index of the global batch, without drawing the others.

    Args:
        shape: [C, H, W] of one image.
        indices: positions in the global batch.
        seed: the run's seed.
        *purpose: as for `derive_seed`.

    Returns:
        Tensor [len(indices), C, H, W], float32, on the CPU.
    """
    noise = torch.empty(len(indices), *shape)
    for row, index in zip(noise, indices, strict=True):
        row.normal_(generator=generator(seed, *purpose, index))
    return noise
