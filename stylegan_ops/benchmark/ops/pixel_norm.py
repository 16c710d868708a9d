"""pixel_norm: forward and backward."""

from __future__ import annotations

from stylegan_ops import pixel_norm

from .. import baseline
from ..cases import Case, MemoryBound, Options, memory_cases


def cases(options: Options) -> list[Case]:
    v = MemoryBound(pixel_norm, baseline.pixel_norm, (), (2, 3), (3, 6))
    return memory_cases(options, "pixel_norm", {"over channels": v})
