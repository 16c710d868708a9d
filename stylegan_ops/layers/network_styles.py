"""What all modulated layers of a synthesis network need of the codes w, made at once for inference: one product of matrices for their
affine transformations, one launch for styles and demodulation, one for the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional as F

from ..ops._demodulation import LayerStyle, NetworkStyles
from ..ops._frozen import Stamp
from .equalized import EqualizedLinear
from .modulated import DEMODULATION_EPS, SynthesisLayer, ToRGB

# What is made of a network's weights, and their state then.
_prepared: WeakKeyDictionary[nn.Module, tuple[Stamp, dict]] = WeakKeyDictionary()


def network_styles(
    network: nn.Module, layers: Sequence[SynthesisLayer | ToRGB], ws: torch.Tensor, which: Sequence[int], noise_mode: str
) -> list[LayerStyle] | None:
    """Each layer's `LayerStyle`, or None where the layers have to do it themselves: in training, without native kernels, and where
    someone else's code stands between (`_is_plain`).

    Args:
        network: the network, in `eval()` mode and without `requires_grad` where its styles are to be made at once.
        layers: its modulated layers.
        ws: [N, num_ws, w_dim].
        which: for each layer, which of the codes it takes.
        noise_mode: see `SynthesisLayer`; noise is drawn for "random".

    What is made of the weights for it is kept until one of them changes (see `Stamp`), or the network is called for training.
    """
    if torch.compiler.is_compiling():
        return None
    parameters = [p for layer in layers for p in (layer.weight, layer.affine.weight, layer.affine.bias)]
    if network.training or not NetworkStyles.serves(parameters):
        _prepared.pop(network, None)  # an optimiser may follow
        return None
    if ws.shape[0] == 0 or not all(map(_is_plain, layers)):
        return None
    stamp, made = _prepared.get(network, (None, {}))  # one look: another thread's call may drop it
    if stamp is None or not stamp.fits(parameters):
        _prepared[network] = Stamp(parameters), (made := {})
    x = parameters[0]
    if x.is_meta:
        return None
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64 else x.dtype
    if dtype not in made:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            made[dtype] = _prepare(layers, which, dtype == torch.float16)
    index, affine, bias, make = made[dtype]
    with torch.autocast(x.device.type, enabled=False):
        codes = ws.to(affine.dtype).index_select(1, index).transpose(0, 1)
        styles = make(torch.baddbmm(bias, codes, affine))
    if noise_mode != "random":
        return styles
    sizes = [layer.resolution**2 if isinstance(layer, SynthesisLayer) else 0 for layer in layers]
    n = ws.shape[0]
    noises = torch.randn(n * sum(sizes), device=x.device, dtype=affine.dtype).split([n * size for size in sizes])
    return [
        replace(style, noise=noise.view(n, *layer.noise_shape())) if isinstance(layer, SynthesisLayer) else style
        for layer, style, noise in zip(layers, styles, noises, strict=True)
    ]


def _is_plain(layer: SynthesisLayer | ToRGB) -> bool:
    """Whether nobody looks at what the layer is given, or changes its styles, as hooks do that edit images; and its eps is the usual."""
    affine = layer.affine
    is_ours = type(layer) in (SynthesisLayer, ToRGB) and type(affine) is EqualizedLinear
    is_usual = not isinstance(layer, SynthesisLayer) or layer.eps == DEMODULATION_EPS
    return is_ours and is_usual and not (layer._forward_pre_hooks or affine._forward_pre_hooks or affine._forward_hooks)


def _prepare(layers, which, is_bounded):
    """The index of the codes, the affine transformations [layers, w_dim, I] and [layers, 1, I] with zeros behind, and the demodulation."""
    dtype, device = (torch.float64 if layers[0].weight.dtype == torch.float64 else torch.float32), layers[0].weight.device
    most = max(layer.weight.shape[1] for layer in layers)
    matrices, vectors = [], []
    for layer in layers:
        gain = 1.0 if isinstance(layer, SynthesisLayer) else layer.weight_gain
        behind = (0, most - layer.weight.shape[1])
        matrices.append(F.pad(layer.affine.weight.to(dtype).t() * (layer.affine.weight_gain * gain), behind))
        vectors.append(F.pad(layer.affine.bias.to(dtype)[None] * (layer.affine.bias_gain * gain), behind))
    demodulates = [isinstance(layer, SynthesisLayer) for layer in layers]
    make = NetworkStyles([layer.weight for layer in layers], demodulates, dtype, is_bounded, DEMODULATION_EPS)
    return torch.tensor(which, device=device), torch.stack(matrices), torch.stack(vectors), make
