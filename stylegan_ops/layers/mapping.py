"""The fully connected stack in front of a network's latent or label input, and the mapping network made of it."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_int, check_labels, check_positive_int, check_shape
from .equalized import EqualizedLinear
from .pixel_norm import PixelNorm
from .truncation import check_truncation, truncate


class MappingLayers(nn.Module):
    """Turn a latent code, a label, or both, into one vector.

    1. Normalise z to unit mean square; embed c linearly and normalise it in the same way.
    2. Concatenate the two.
    3. `num_layers` fully connected layers.

    Args:
        z_dim: length of z; 0 for a stack that sees labels only.
        c_dim: length of a label; 0 for none. Not both may be 0.
        w_dim: length of the result and of every layer between.
        num_layers: number of fully connected layers.
        lr_multiplier: learning rate of the fully connected layers relative to the network's other layers.
        activation: their activation.
        he_gain: see `EqualizedLinear`.
        norm_eps: of step 1.

    Parameters:
        embed: EqualizedLinear(c_dim, w_dim), if c_dim > 0. fc0, fc1, ...: EqualizedLinear(..., w_dim).

    Raises:
        ValueError, TypeError: for sizes outside these rules.

    Source: Karras et al. 2019 (arXiv:1812.04948), section 2 and appendix C; labels: Karras et al. 2020 (arXiv:2006.06676), appendix.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        activation: str = "lrelu",
        he_gain: float | None = None,
        norm_eps: float = 1e-8,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        z_dim, c_dim = check_int(owner, "z_dim", z_dim), check_int(owner, "c_dim", c_dim)
        if z_dim < 0 or c_dim < 0 or z_dim + c_dim == 0:
            raise ValueError(f"{owner}: z_dim and c_dim must be at least 0 and not both 0 (got {z_dim} and {c_dim})")
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = check_positive_int(owner, "w_dim", w_dim)
        self.num_layers = check_positive_int(owner, "num_layers", num_layers)
        self.normalize = PixelNorm(norm_eps)
        features = z_dim
        if c_dim > 0:
            self.embed = EqualizedLinear(c_dim, w_dim)
            features += w_dim
        for i in range(num_layers):
            layer = EqualizedLinear(features, w_dim, lr_multiplier=lr_multiplier, activation=activation, he_gain=he_gain)
            self.add_module(f"fc{i}", layer)
            features = w_dim

    def forward(self, z: torch.Tensor | None, c: torch.Tensor | None = None) -> torch.Tensor:
        """Run the stack.

        Args:
            z: [N, z_dim], or None if z_dim is 0.
            c: labels [N, c_dim], one-hot or any weights of the classes; None if c_dim is 0.

        Returns:
            [N, w_dim] in the dtype of the parameters, also under autocast.

        Raises:
            ValueError, TypeError: `z` or `c` is missing or has another shape or no floating-point dtype.
        """
        owner = type(self).__name__
        dtype = self.fc0.weight.dtype
        inputs = []
        if self.z_dim > 0:
            check_shape(owner, "z", z, (None, self.z_dim), f"[N, {self.z_dim}], z_dim being {self.z_dim}")
            inputs.append(self.normalize(z.to(dtype)))
        check_labels(owner, c, None if z is None else z.shape[0], self.c_dim)
        if self.c_dim > 0:
            inputs.append(self.normalize(self.embed(c)))
        x = torch.cat(inputs, dim=1)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        return x


class MappingNetwork(MappingLayers):
    """Map latent codes z to intermediate codes w, one per layer of the synthesis network.

    1. `w = f(z, c)`: see `MappingLayers`.
    2. Repeat w for each of the `num_ws` inputs of the synthesis network.
    3. Truncate: `w' = w_avg + truncation_psi * (w - w_avg)`, w_avg being a running mean of w.

    Args:
        z_dim: length of z.
        c_dim: length of a label; 0 for an unconditional network.
        w_dim: length of w.
        num_ws: number of copies of w.
        num_layers: number of fully connected layers.
        lr_multiplier: learning rate of these layers relative to the network's others.
        w_avg_beta: decay of the running mean per update.
        activation: of the fully connected layers.
        he_gain: see `EqualizedLinear`.
        norm_eps: of the normalisation of z and of the embedded label.

    Buffers:
        w_avg: [w_dim].

    Source: Karras et al. 2019 (arXiv:1812.04948), section 2; truncation: its appendix B.
    """

    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.998,
        activation: str = "lrelu",
        he_gain: float | None = None,
        norm_eps: float = 1e-8,
    ) -> None:
        check_positive_int("MappingNetwork", "z_dim", z_dim)
        super().__init__(z_dim, c_dim, w_dim, num_layers, lr_multiplier, activation, he_gain, norm_eps)
        self.num_ws = num_ws
        self.w_avg_beta = w_avg_beta
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = False,
    ) -> torch.Tensor:
        """Map a batch.

        Args:
            z: [N, z_dim], standard normal.
            c: labels [N, c_dim]; None if c_dim is 0.
            truncation_psi: 1 keeps w, 0 is the mean image.
            truncation_cutoff: truncate only the first so many of the num_ws copies; None truncates all.
            update_w_avg: move w_avg towards the mean of this batch first, by 1 - w_avg_beta.

        Returns:
            ws [N, num_ws, w_dim] in the dtype of the parameters.

        Raises:
            ValueError, TypeError: `z`, `c`, `truncation_psi` or `truncation_cutoff` is outside these rules.
        """
        psi, cutoff = check_truncation("MappingNetwork", self.num_ws, truncation_psi, truncation_cutoff)
        w = super().forward(z, c)
        if update_w_avg:
            self.w_avg.copy_(w.detach().mean(0).lerp(self.w_avg, self.w_avg_beta))
        ws = w[:, None].repeat(1, self.num_ws, 1)
        return truncate(ws, self.w_avg, psi, cutoff)
