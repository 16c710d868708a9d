"""Their `impl` argument in the words of `stylegan_ops.use_impl`."""

from __future__ import annotations


def implementation(function: str, impl: str) -> str | None:
    """`"cuda"`, their best, is ours: as set by `use_impl`, whatever the device; `"ref"` is the plain PyTorch reference."""
    if impl == "cuda":
        return None
    if impl == "ref":
        return "reference"
    raise ValueError(f"{function}: impl must be 'cuda' or 'ref' (got {impl!r})")
