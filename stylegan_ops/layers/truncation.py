"""The truncation trick in w: codes move towards their mean, so that images are closer to the average and of higher quality."""

from __future__ import annotations

import math

import torch
from torch import nn

from ._checks import check_int, check_positive_int, check_real, check_shape

_BATCH = 1000


def truncate(ws: torch.Tensor, w_avg: torch.Tensor, truncation_psi: float = 0.7, truncation_cutoff: int | None = None) -> torch.Tensor:
    """Move codes towards their mean: `w' = w_avg + truncation_psi * (w - w_avg)`.

    Args:
        ws: codes [N, num_ws, w_dim], floating point.
        w_avg: their mean [w_dim], in the dtype of ws.
        truncation_psi: 1 keeps the codes, 0 gives the mean, below 0 lies what is opposite.
        truncation_cutoff: truncate only the first so many of the num_ws codes; None truncates all.

    Returns:
        [N, num_ws, w_dim] in the dtype of ws; ws itself where psi is 1.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Differentiable to any order in ws and w_avg.
    Source: Karras et al. 2019 (arXiv:1812.04948), appendix B; Brock et al. 2018 (arXiv:1809.11096), section 3.1, for z.
    """
    check_shape("truncate", "ws", ws, (None, None, None), "[N, num_ws, w_dim]")
    check_shape("truncate", "w_avg", w_avg, (ws.shape[2],), f"[w_dim] = [{ws.shape[2]}], as ws has it")
    if w_avg.dtype != ws.dtype:
        raise TypeError(f"truncate: w_avg must have the dtype of ws, {ws.dtype} (got {w_avg.dtype})")
    psi, cutoff = check_truncation("truncate", ws.shape[1], truncation_psi, truncation_cutoff)
    if psi == 1:
        return ws
    return torch.cat([w_avg.lerp(ws[:, :cutoff], psi), ws[:, cutoff:]], dim=1)


def check_truncation(owner: str, num_ws: int, psi: float, cutoff: int | None) -> tuple[float, int]:
    """Checks the two arguments by their names `truncation_psi` and `truncation_cutoff`; a cutoff of None becomes num_ws."""
    psi = check_real(owner, "truncation_psi", psi)
    if not -math.inf < psi < math.inf:
        raise ValueError(f"{owner}: truncation_psi must be finite (got {psi})")
    cutoff = num_ws if cutoff is None else check_int(owner, "truncation_cutoff", cutoff)
    if not 0 <= cutoff <= num_ws:
        raise ValueError(f"{owner}: truncation_cutoff must be within 0 and num_ws={num_ws} (got {cutoff})")
    return psi, cutoff


@torch.no_grad()
def estimate_w_avg(mapping: nn.Module, count: int = 10_000, seed: int = 0) -> torch.Tensor:
    """Estimate the mean code of a network that kept no running mean: `w_avg = E_z[f(z, c)]` over `count` draws.

    Args:
        mapping: called as `mapping(z, c)`, with the attributes `z_dim` and `c_dim`; gives ws [N, num_ws, w_dim], of which the first is
            taken. Labels come in turn, every class as often as the others.
        count: how many latent codes z, standard normal, at least 1.
        seed: of these codes, which are drawn on the CPU: they do not depend on the device.

    Returns:
        w_avg [w_dim], in the dtype and on the device of ws, without grad; summed up in float64.

    Raises:
        ValueError, TypeError: `count` is outside these rules.

    Source: Karras et al. 2019 (arXiv:1812.04948), appendix B.
    """
    count = check_positive_int("estimate_w_avg", "count", count)
    like = next(mapping.parameters())
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for start in range(0, count, _BATCH):
        size = min(_BATCH, count - start)
        z = torch.randn(size, mapping.z_dim, generator=generator).to(like)
        c = None
        if mapping.c_dim > 0:
            c = nn.functional.one_hot(torch.arange(start, start + size) % mapping.c_dim, mapping.c_dim).to(like)
        ws = mapping(z, c)
        total = total + ws[:, 0].double().sum(dim=0)
    return (total / count).to(ws.dtype)
