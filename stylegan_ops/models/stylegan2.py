"""StyleGAN2: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv:1912.04958), configuration F.

Latent codes z become intermediate codes w in a mapping network; a synthesis network grows an image from a learned 4x4 constant, every
convolution of it modulated by w; a discriminator judges images. Sections, equations and figures in the comments are the paper's.

Parameters and buffers have the names that published checkpoints use. Feature maps are channels_last throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..layers import DiscriminatorBlock, DiscriminatorEpilogue, LayerStyle, MappingLayers, MappingNetwork, SynthesisBlock, network_styles
from ..layers._checks import check_choice, check_int, check_labels, check_positive_int, check_shape

ARCHITECTURES = ("orig", "skip", "resnet")


def _channels(owner: str, img_resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """Number of feature maps at every resolution from 4x4 to the image's: inversely proportional to it, with a ceiling."""
    img_resolution = check_positive_int(owner, "img_resolution", img_resolution)
    channel_base = check_positive_int(owner, "channel_base", channel_base)
    channel_max = check_positive_int(owner, "channel_max", channel_max)
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(f"{owner}: img_resolution must be a power of two of at least 4 (got {img_resolution})")
    if channel_base < img_resolution:
        raise ValueError(f"{owner}: channel_base must be at least img_resolution={img_resolution} (got {channel_base})")
    resolutions = [2**i for i in range(2, img_resolution.bit_length())]
    return {r: min(channel_base // r, channel_max) for r in resolutions}


def _plain(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a network as JSON knows them: numpy's numbers, tuples and tensors become Python's numbers and lists."""
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in kwargs.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


class SynthesisNetwork(nn.Module):
    """Grow an image from a constant, doubling the resolution in every block.

    Args:
        w_dim: length of w.
        img_resolution: height and width of the image, a power of two of at least 4.
        img_channels: number of channels of the image.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.
        architecture: "orig" (plain), "skip" (figure 7 b) or "resnet" (figure 7 c).
        conv_clamp: clamp the layers' outputs to +-conv_clamp; None leaves them.
        resample_filter: taps of the upsampling filter.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Source: sections 2 and 4.1.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        channel_base: int = 32768,
        channel_max: int = 512,
        architecture: str = "skip",
        conv_clamp: float | None = None,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
    ) -> None:
        super().__init__()
        channels = _channels("SynthesisNetwork", img_resolution, channel_base, channel_max)
        check_choice("SynthesisNetwork", "architecture", architecture, ARCHITECTURES)
        self.w_dim = w_dim = check_positive_int("SynthesisNetwork", "w_dim", w_dim)
        self.img_resolution = img_resolution
        self.img_channels = check_positive_int("SynthesisNetwork", "img_channels", img_channels)
        self.resolutions = list(channels)
        in_channels = 0
        for r, out_channels in channels.items():
            has_torgb = architecture == "skip" or r == img_resolution
            residual = architecture == "resnet"
            block = SynthesisBlock(in_channels, out_channels, w_dim, r, img_channels, has_torgb, residual, conv_clamp, resample_filter)
            self.add_module(f"b{r}", block)
            in_channels = out_channels
        # One w per convolution; a block's toRGB shares its w with the next block's first convolution, so the last one adds one.
        self.num_ws = 2 * len(self.resolutions)

    def forward(self, ws: torch.Tensor, *, noise_mode: str = "random") -> torch.Tensor:
        """Synthesise a batch.

        Args:
            ws: [N, num_ws, w_dim].
            noise_mode: "random" draws new noise, "const" takes each layer's own, "none" adds none.

        Returns:
            [N, img_channels, img_resolution, img_resolution], contiguous, in the dtype of the parameters (float32); nominal range
            [-1, 1], not clamped.

        Raises:
            ValueError, TypeError: `ws` or `noise_mode` is outside these rules.
        """
        check_shape("SynthesisNetwork", "ws", ws, (None, self.num_ws, self.w_dim), f"[N, {self.num_ws}, {self.w_dim}]")
        x = img = None
        for r, styles in zip(self.resolutions, self._styles(ws, noise_mode), strict=True):
            x, img = getattr(self, f"b{r}")(x, img, styles, noise_mode)
        return img.contiguous()

    def _styles(self, ws: torch.Tensor, noise_mode: str) -> list[list[torch.Tensor | LayerStyle | None]]:
        """What each block takes for ws: the codes of its layers, or for inference what is made of all of them at once."""
        blocks = [getattr(self, f"b{r}") for r in self.resolutions]
        codes, first = [], 0
        for block in blocks:
            codes.append(list(range(first, first + block.num_convs + 1)))
            first += block.num_convs
        used = [(layer, i) for block, which in zip(blocks, codes, strict=True) for layer, i in zip(block.modulated(), which, strict=True)]
        made = network_styles(self, [layer for layer, _ in used if layer], ws, [i for layer, i in used if layer], noise_mode)
        if made is None:
            layer_ws = ws.unbind(dim=1)
            return [[layer_ws[i] for i in which] for which in codes]
        styles = iter(made)
        return [[next(styles) if layer else None for layer in block.modulated()] for block in blocks]


class Generator(nn.Module):
    """StyleGAN2's generator: a mapping and a synthesis network.

    Args:
        img_resolution: height and width of the image, a power of two of at least 4.
        img_channels: number of channels of the image.
        z_dim: length of a latent code z.
        c_dim: length of a label; 0 for an unconditional network.
        w_dim: length of an intermediate code w.
        num_layers: number of fully connected layers of the mapping network.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.
        architecture: "orig" (plain), "skip" (figure 7 b) or "resnet" (figure 7 c).
        conv_clamp: clamp the layers' outputs to +-conv_clamp (float16 needs it, for instance 256); None leaves them.
        resample_filter: taps of the upsampling filter.

    Attributes:
        init_kwargs: the arguments as plain JSON values: `Generator(**G.init_kwargs)` builds the same network.
        num_ws: number of codes w that the synthesis network takes.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Source: Karras et al. 2020 (arXiv:1912.04958); sizes: configuration F, table 1.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int = 3,
        *,
        z_dim: int = 512,
        c_dim: int = 0,
        w_dim: int = 512,
        num_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        architecture: str = "skip",
        conv_clamp: float | None = None,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
    ) -> None:
        super().__init__()
        shape = _plain(
            {
                "img_resolution": img_resolution,
                "img_channels": img_channels,
                "w_dim": w_dim,
                "channel_base": channel_base,
                "channel_max": channel_max,
                "architecture": architecture,
                "conv_clamp": conv_clamp,
                "resample_filter": resample_filter,
            }
        )
        self.init_kwargs = {**shape, **_plain({"z_dim": z_dim, "c_dim": c_dim, "num_layers": num_layers})}
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(**shape)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, num_layers)

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        noise_mode: str = "random",
    ) -> torch.Tensor:
        """Generate images; see `MappingNetwork.forward` and `SynthesisNetwork.forward` for the arguments, the result and the errors."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, noise_mode=noise_mode)


class Discriminator(nn.Module):
    """StyleGAN2's discriminator: halve the resolution in every block down to 4x4, then judge.

    With labels the result is a projection: `D(x, c) = sum_i(out_i(x) * cmap_i(c)) / sqrt(len(cmap))`.

    Args:
        img_resolution: height and width of the image, a power of two of at least 4.
        img_channels: number of channels of the image.
        c_dim: length of a label; 0 for an unconditional network.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.
        architecture: "orig" (plain), "skip" (figure 7 b) or "resnet" (figure 7 c).
        mbstd_group_size: largest group of the minibatch standard deviation; the largest number up to it that divides N is taken.
        mbstd_num_channels: feature maps that it appends.
        conv_clamp: clamp the layers' outputs to +-conv_clamp (float16 needs it, for instance 256); None leaves them.
        resample_filter: taps of the downsampling filter.

    Attributes:
        init_kwargs: the arguments as plain JSON values: `Discriminator(**D.init_kwargs)` builds the same network.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Source: section 4.1; labels: Miyato and Koyama 2018 (arXiv:1802.05637), section 3.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int = 3,
        *,
        c_dim: int = 0,
        channel_base: int = 32768,
        channel_max: int = 512,
        architecture: str = "resnet",
        mbstd_group_size: int = 4,
        mbstd_num_channels: int = 1,
        conv_clamp: float | None = None,
        resample_filter: Sequence[float] = (1, 3, 3, 1),
    ) -> None:
        super().__init__()
        channels = _channels("Discriminator", img_resolution, channel_base, channel_max)
        check_choice("Discriminator", "architecture", architecture, ARCHITECTURES)
        if check_int("Discriminator", "c_dim", c_dim) < 0:
            raise ValueError(f"Discriminator: c_dim must be at least 0 (got {c_dim})")
        self.init_kwargs = _plain(
            {
                "img_resolution": img_resolution,
                "img_channels": check_positive_int("Discriminator", "img_channels", img_channels),
                "c_dim": c_dim,
                "channel_base": channel_base,
                "channel_max": channel_max,
                "architecture": architecture,
                "mbstd_group_size": mbstd_group_size,
                "mbstd_num_channels": mbstd_num_channels,
                "conv_clamp": conv_clamp,
                "resample_filter": resample_filter,
            }
        )
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.resolutions = [r for r in reversed(channels) if r > 4]

        def has_fromrgb(r: int) -> bool:
            return architecture == "skip" or r == img_resolution

        for r in self.resolutions:
            block = DiscriminatorBlock(
                channels[r], channels[r // 2], img_channels, has_fromrgb(r), architecture, conv_clamp, resample_filter
            )
            self.add_module(f"b{r}", block)
        cmap_dim = channels[4]
        if c_dim > 0:
            self.mapping = MappingLayers(0, c_dim, cmap_dim)
        self.b4 = DiscriminatorEpilogue(
            channels[4],
            cmap_dim if c_dim > 0 else 1,
            img_channels,
            has_fromrgb(4),
            mbstd_group_size,
            mbstd_num_channels,
            conv_clamp,
            resample_filter,
        )

    def forward(self, img: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        """Judge a batch.

        Args:
            img: [N, img_channels, img_resolution, img_resolution], nominal range [-1, 1].
            c: labels [N, c_dim]; None if c_dim is 0.

        Returns:
            Logits [N, 1], positive for real, in the dtype of the parameters (float32), also under autocast.

        Raises:
            ValueError, TypeError: `img` or `c` is outside these rules.
        """
        shape = (self.img_channels, self.img_resolution, self.img_resolution)
        check_shape("Discriminator", "img", img, (None, *shape), f"[N, {shape[0]}, {shape[1]}, {shape[2]}]")
        check_labels("Discriminator", c, img.shape[0], self.c_dim)
        img = img.to(self.b4.out.weight.dtype, memory_format=torch.channels_last)
        x = None
        for r in self.resolutions:
            x, img = getattr(self, f"b{r}")(x, img)
        logits = self.b4(x, img)
        if self.c_dim > 0:
            cmap = self.mapping(None, c)
            logits = (logits * cmap).sum(dim=1, keepdim=True) / math.sqrt(cmap.shape[1])
        return logits
