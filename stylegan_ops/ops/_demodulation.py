"""Demodulation: Karras et al. 2020 (arXiv:1912.04958), equation 3. One layer's coefficients with any derivative, those of a whole
network for inference, and how styles and weights are kept inside float16's range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .. import _impl
from ._checks import accumulate_dtype, no_autocast
from ._frozen import is_frozen
from ._registry import native, refuses_derivative, register


def demodulation(weight: torch.Tensor, styles: torch.Tensor, eps: float) -> torch.Tensor:
    """`d_no = (sum_ik (s_ni w_oik)^2 + eps)^-1/2` `[N, O]` for weights `[O, I, K_h, K_w]`, in the dtype of the styles `[N, I]`."""
    if accumulate_dtype(weight.dtype) != styles.dtype:
        weight = weight.to(styles.dtype)
    return native("modulated_conv2d_demodulation")(weight, styles, eps)


def energy(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`sum_k w_oik^2` `[O, I]`."""
    return weight.to(dtype).square().sum([2, 3])


def size_of_largest(v: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """For each row of v `[N, I]` a power of two such that v divided by it is at most 1, and at least 1/2 somewhere: `[N, 1]`, times
    `factor`."""
    factors = v.new_full([1, 2], factor)
    return native("modulated_conv2d_styles")(v.detach()[None], v.new_empty([0]), factors, [v.shape[1]], [1], [0], 0.0)[1][:, None]


def size_of_weight(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """That of all weights, `[]`."""
    return size_of_largest(torch.linalg.vector_norm(weight.detach(), math.inf).to(dtype).reshape(1, 1)).squeeze()


def root_of_terms(terms: int) -> float:
    """A power of two, at least the root of the number of products in a sum. With styles of at most 1 divided by it, weights of at most
    1 and an x of at most 256, neither a product nor a sum of them leaves float16."""
    return 2.0 ** math.ceil((terms - 1).bit_length() / 2)


@dataclass(frozen=True)
class LayerStyle:
    """One layer's styles `[N, I]`, with all that is made of them and the weights.

    Attributes:
        styles: what x is multiplied by, or None. scale: what the result is multiplied by, `[N, O]` or None, demodulation included.
        size: what the weights are to be divided by, or None. noise: drawn for the layer, `[N, 1, H', W']` or None.
        kept: where the weights are kept as the kernels read them, or None: they may change.
    """

    styles: torch.Tensor | None
    scale: torch.Tensor | None
    size: torch.Tensor | None
    noise: torch.Tensor | None = None
    kept: dict | None = None

    @classmethod
    def of(cls, x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor | None, demodulate: bool, eps: float) -> LayerStyle:
        scale = demodulation(weight, styles, eps) if demodulate else None
        if styles is None or x.dtype != torch.float16:
            return cls(styles, scale, None)
        size, divisor = size_of_weight(weight, styles.dtype), size_of_largest(styles, root_of_terms(weight[0].numel()))
        factor = divisor * size
        scale = factor.expand(-1, weight.shape[0]) if scale is None else scale * factor
        return cls(styles / divisor, scale, size)


def _fake(weight, styles, eps):
    return styles.new_empty([styles.shape[0], weight.shape[0]])


def _setup(ctx, inputs, output):
    weight, styles, _ = inputs
    ctx.save_for_backward(weight, styles, output)


def _backward(ctx, g):
    # d = r^-1/2 with r = s^2 E^T + eps: dr = -g d^3 / 2, ds = 2 s (dr E), dE = dr^T s^2, dw = 2 w dE.
    weight, styles, d = ctx.saved_tensors
    needs_weight, needs_styles, _ = ctx.needs_input_grad
    ds = dw = None
    with no_autocast(weight.device):
        twice = -g * d * d * d
        if needs_styles:
            ds = styles * (twice @ energy(weight, styles.dtype))
        if needs_weight:
            dw = (weight * (twice.t() @ styles.square())[:, :, None, None]).to(weight.dtype)
    return dw, ds, None


def _styles_fake(styles, roots, factors, in_channels, out_channels, demodulates, eps):
    n = styles.shape[1]
    return styles.new_empty([n * sum(in_channels)]), styles.new_empty([n * sum(out_channels)])


register("modulated_conv2d_demodulation", fake=_fake, setup_context=_setup, backward=_backward)
register("modulated_conv2d_styles", fake=_styles_fake, backward=refuses_derivative("modulated_conv2d_styles"))


class NetworkStyles:
    """The `LayerStyle` of all layers of a network in one launch, for inference. It is of no use once a weight has changed.

    Args:
        weights: each layer's `[O, I, K_h, K_w]`.
        demodulates: for each layer, whether it has coefficients.
        dtype: of the styles, float32 or float64.
        is_bounded: keep the styles and weights inside float16's range.
        eps: added under the root.
    """

    def __init__(self, weights: Sequence[torch.Tensor], demodulates: Sequence[bool], dtype: torch.dtype, is_bounded: bool, eps: float):
        self.in_channels = [w.shape[1] for w in weights]
        self.out_channels = [w.shape[0] if demodulated or is_bounded else 0 for w, demodulated in zip(weights, demodulates, strict=True)]
        self.demodulates = [int(d) for d in demodulates]
        roots = [energy(w, dtype).sqrt().flatten() for w, d in zip(weights, demodulates, strict=True) if d]
        self.roots = torch.cat(roots) if roots else weights[0].new_empty([0], dtype=dtype)
        self.sizes = [size_of_weight(w, dtype) for w in weights] if is_bounded else [None] * len(weights)
        roots_of_terms = torch.tensor([root_of_terms(w[0].numel()) for w in weights], dtype=dtype, device=weights[0].device)
        self.factors = torch.stack([roots_of_terms, roots_of_terms * torch.stack(self.sizes)], 1) if is_bounded else None
        self.eps = eps
        self.kept: list[dict] = [{} for _ in weights]

    @staticmethod
    def serves(parameters: Sequence[torch.Tensor]) -> bool:
        """Whether a network of these parameters may have its styles made at once, now."""
        return is_frozen(parameters) and _impl.is_native("modulated_conv2d", None, parameters[0])

    def __call__(self, styles: torch.Tensor) -> list[LayerStyle]:
        """From the styles `[layers, N, at least I]`."""
        n = styles.shape[1]
        s, d = native("modulated_conv2d_styles")(
            styles, self.roots, self.factors, self.in_channels, self.out_channels, self.demodulates, self.eps
        )
        s, d = s.split([n * c for c in self.in_channels]), d.split([n * c for c in self.out_channels])
        made = zip(s, d, self.in_channels, self.out_channels, self.sizes, self.kept, strict=True)
        return [LayerStyle(si.view(n, i), di.view(n, o) if o else None, size, kept=kept) for si, di, i, o, size, kept in made]
