"""`torch_utils.ops.upfirdn2d`: resampling with FIR filters. Arguments as in the functions of these names in `stylegan_ops`.

Other than theirs: the gain of a separable filter is applied once, in the accumulation dtype (their generations differ in which of the two
passes takes it); bfloat16 and empty batches work everywhere; mistakes are ValueError and TypeError, not AssertionError. `impl="cuda"` is
the fastest here on every device, `"ref"` plain PyTorch, both differentiable to any order in x.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ... import ops
from ._impl import implementation

_inited = True  # the kernels are compiled on installation; code that looks here finds nothing left to do
_plugin = None

Pixels = int | Sequence[int]


def _init() -> bool:
    return True


def setup_filter(
    f: torch.Tensor | Sequence | float | None,
    device: torch.device = torch.device("cpu"),  # noqa: B008
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """The float32 filter tensor that the functions below take. Other than theirs: taps that sum to 0 cannot be normalised, an error."""
    return ops.setup_filter(f, device, normalize, flip_filter, gain, separable)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Pixels = 1,
    down: Pixels = 1,
    padding: Pixels = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Zero-insert, pad or crop (one number, `[x, y]` or `[x0, x1, y0, y1]`), filter, keep every n-th pixel."""
    return ops.upfirdn2d(x, f, up, down, padding, flip_filter, gain, impl=implementation("upfirdn2d", impl))


def filter2d(
    x: torch.Tensor, f: torch.Tensor | None, padding: Pixels = 0, flip_filter: bool = False, gain: float = 1, impl: str = "cuda"
) -> torch.Tensor:
    """Filters; with padding 0 the size stays."""
    return ops.filter2d(x, f, padding, flip_filter, gain, impl=implementation("filter2d", impl))


def upsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Pixels = 2,
    padding: Pixels = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Upsamples; with padding 0 the size is `up` times x's."""
    return ops.upsample2d(x, f, up, padding, flip_filter, gain, impl=implementation("upsample2d", impl))


def downsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    down: Pixels = 2,
    padding: Pixels = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Downsamples; with padding 0 the size is x's divided by `down`."""
    return ops.downsample2d(x, f, down, padding, flip_filter, gain, impl=implementation("downsample2d", impl))
