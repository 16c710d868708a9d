"""The number format of the networks' layers."""

from __future__ import annotations

import torch


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn "auto" into a format.

    bfloat16 where the device multiplies it in hardware: CUDA devices of compute capability 8.0 and up, CPUs with AMX or AVX512-BF16;
    float32 elsewhere.

    Args:
        precision: "auto", "float32", "bfloat16" or "float16".
        device: where the networks run.

    Returns:
        "float32", "bfloat16" or "float16".
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        # The CPU's features have no public query; their absence under these names counts as a no.
        queries = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        fast = any(getattr(torch.cpu, query, lambda: False)() for query in queries)
    return "bfloat16" if fast else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Give the context for the networks' forward passes: autocast to the format, or no change for float32."""
    return torch.autocast(device.type, dtype=getattr(torch, precision), enabled=precision != "float32")


def widen(x: torch.Tensor) -> torch.Tensor:
    """Give the tensor in float32 at least, for sums and losses behind layers of a narrower format."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
