"""StyleGAN: Karras et al. 2019, "A Style-Based Generator Architecture for Generative Adversarial Networks" (arXiv:1812.04948).

A mapping network turns z into w; a synthesis network grows an image from a learned constant, and behind every convolution a style made of w
sets the mean and deviation of each feature map (AdaIN). Trained like a ProGAN, growing. Sections and figures in the comments are the
paper's. Feature maps are channels_last throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..layers import Blur, EqualizedConv2d, EqualizedLinear, MappingNetwork, StyleEpilogue
from ..layers._checks import check_choice, check_positive_int, check_shape
from ..layers.conv_block import HE_GAIN
from ..layers.growth import GrowingSynthesis, double
from . import progan
from ._shape import channels_of, plain

ACTIVATIONS = ("lrelu", "relu")  # both have a gain of sqrt(2), which stands on the weights


class UpConv(nn.Module):
    """Nearest-neighbour upsampling, a 3x3 convolution and a blur, without bias.

    Args:
        in_channels: feature maps read.
        out_channels: feature maps written.
        blur_filter: taps of the blur; None for none.
        is_fused: upsample inside the convolution, which is then a transposed one with a quarter of the arithmetic; the same result.

    Source: section 2 (blur behind each upsampling) and appendix C.
    """

    def __init__(self, in_channels: int, out_channels: int, blur_filter: Sequence[float] | None, is_fused: bool) -> None:
        super().__init__()
        self.is_fused = is_fused
        up = 2 if is_fused else 1
        self.conv = EqualizedConv2d(in_channels, out_channels, 3, bias=False, up=up, resample_filter=(1, 1), he_gain=HE_GAIN)
        self.blur = nn.Identity() if blur_filter is None else Blur(blur_filter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` [N, in_channels, H, W] -> [N, out_channels, 2 H, 2 W]."""
        return self.blur(self.conv(x if self.is_fused else double(x)))


class SynthesisNetwork(GrowingSynthesis):
    """Grow an image from a learned constant (figure 1b).

    1. 4x4: the constant (or a fully connected layer), epilogue; 3x3 convolution, epilogue.
    2. Every further resolution: `UpConv`, epilogue; 3x3 convolution, epilogue. `StyleEpilogue` says what an epilogue is.
    3. toRGB, a 1x1 convolution, at the present resolution; while fading, half of it from the resolution before.

    Args: as for `Generator`.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int = 3,
        channel_base: int = 16384,
        channel_max: int = 512,
        const_input: bool = True,
        noise: bool = True,
        activation: str = "lrelu",
        pixel_norm: bool = False,
        instance_norm: bool = True,
        styles: bool = True,
        blur_filter: Sequence[float] | None = (1, 2, 1),
        fused_from: int = 128,
        progressive: bool = True,
        norm_eps: float = 1e-8,
    ) -> None:
        channels = channels_of("SynthesisNetwork", img_resolution, channel_base, channel_max)
        super().__init__(list(channels) if progressive else [img_resolution])
        check_choice("SynthesisNetwork", "activation", activation, ACTIVATIONS)
        img_channels = check_positive_int("SynthesisNetwork", "img_channels", img_channels)
        self.w_dim = check_positive_int("SynthesisNetwork", "w_dim", w_dim)
        self.num_ws = 2 * len(channels)
        self.blocks = list(channels)
        if const_input:
            self.const = nn.Parameter(torch.ones(channels[4], 4, 4))
        else:
            self.dense = EqualizedLinear(w_dim, channels[4] * 4 * 4, he_gain=HE_GAIN / 4)  # its bias, as the constant, has 4x4 pixels
        in_channels = channels[4]
        for r, feature_maps in channels.items():
            if r > 4:
                self.add_module(f"up{r}", UpConv(in_channels, feature_maps, blur_filter, r >= fused_from))
            self.add_module(f"conv{r}", EqualizedConv2d(feature_maps, feature_maps, 3, bias=False, he_gain=HE_GAIN))
            for i in range(2):
                epilogue = StyleEpilogue(feature_maps, w_dim, r, noise, activation, pixel_norm, instance_norm, styles, norm_eps)
                self.add_module(f"epilogue{r}_{i}", epilogue)
            if progressive or r == img_resolution:
                self.add_module(f"torgb{r}", EqualizedConv2d(feature_maps, img_channels, 1))
            in_channels = feature_maps

    @property
    def num_ws_in_use(self) -> int:
        """The codes that the present resolution reads: those of the resolutions reached."""
        return 2 * self.blocks.index(self.resolution) + 2

    def forward(self, ws: torch.Tensor, *, noise_mode: str = "random") -> torch.Tensor:
        """Synthesise a batch.

        Args:
            ws: [N, num_ws, w_dim], two codes for every resolution. Those of resolutions not reached yet are not read.
            noise_mode: "random" draws new noise, "const" takes each layer's own, "none" adds none.

        Returns:
            [N, img_channels, resolution, resolution], contiguous, in the dtype of the parameters (float32); nominal range [-1, 1].

        Raises:
            ValueError, TypeError: `ws` or `noise_mode` is outside these rules.
        """
        check_shape("SynthesisNetwork", "ws", ws, (None, self.num_ws, self.w_dim), f"[N, {self.num_ws}, {self.w_dim}]")
        codes = ws.unbind(dim=1)
        x = before = None
        for i, r in enumerate(self.blocks[: self.blocks.index(self.resolution) + 1]):
            before, x = x, self._input(codes[0]) if r == 4 else getattr(self, f"up{r}")(x)
            x = getattr(self, f"epilogue{r}_0")(x, codes[2 * i], noise_mode)
            x = getattr(self, f"conv{r}")(x)
            x = getattr(self, f"epilogue{r}_1")(x, codes[2 * i + 1], noise_mode)
        return self.to_image(x, before)

    def _input(self, w: torch.Tensor) -> torch.Tensor:
        x = self.const.expand(w.shape[0], -1, -1, -1) if hasattr(self, "const") else self.dense(w).unflatten(1, (-1, 4, 4))
        return x.contiguous(memory_format=torch.channels_last)


class Generator(nn.Module):
    """StyleGAN's generator: a mapping and a growing synthesis network.

    Args:
        img_resolution: height and width of the full-grown image, a power of two of at least 4.
        img_channels: number of channels of the image.
        z_dim: length of a latent code z.
        c_dim: length of a label; 0 for an unconditional network.
        w_dim: length of an intermediate code w.
        num_layers: number of fully connected layers of the mapping network.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.
        const_input: begin with a learned constant; False: with a fully connected layer of w.
        noise: add noise behind every convolution.
        activation: "lrelu" or "relu".
        pixel_norm: normalise every pixel behind each activation, as ProGAN does.
        instance_norm: normalise every feature map before its style.
        styles: let w set the scale and shift of every feature map.
        blur_filter: taps of the blur behind each upsampling, an odd number; None for none.
        fused_from: the first resolution whose upsampling is part of the convolution, see `UpConv`.
        progressive: a toRGB at every resolution, for training that grows; False: only the last, as published generators have it.
        norm_eps: of the instance norm: 1e-8 as published; 1e-5 is PyTorch's `InstanceNorm2d`.

    Attributes:
        mapping: `MappingNetwork`. synthesis: `SynthesisNetwork`, whose `grow_to` sets the present resolution.
        init_kwargs: the arguments as plain JSON values: `Generator(**G.init_kwargs)` builds the same network.
        num_ws: number of codes w that the synthesis network takes.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Source: section 2, table 1 (configuration F) and appendix C.
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
        channel_base: int = 16384,
        channel_max: int = 512,
        const_input: bool = True,
        noise: bool = True,
        activation: str = "lrelu",
        pixel_norm: bool = False,
        instance_norm: bool = True,
        styles: bool = True,
        blur_filter: Sequence[float] | None = (1, 2, 1),
        fused_from: int = 128,
        progressive: bool = True,
        norm_eps: float = 1e-8,
    ) -> None:
        super().__init__()
        shape = plain(
            {
                "img_resolution": img_resolution,
                "img_channels": img_channels,
                "w_dim": w_dim,
                "channel_base": channel_base,
                "channel_max": channel_max,
                "const_input": const_input,
                "noise": noise,
                "activation": activation,
                "pixel_norm": pixel_norm,
                "instance_norm": instance_norm,
                "styles": styles,
                "blur_filter": blur_filter,
                "fused_from": fused_from,
                "progressive": progressive,
                "norm_eps": norm_eps,
            }
        )
        self.init_kwargs = {**shape, **plain({"z_dim": z_dim, "c_dim": c_dim, "num_layers": num_layers})}
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.synthesis = SynthesisNetwork(**shape)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(
            z_dim, c_dim, w_dim, self.num_ws, num_layers, w_avg_beta=0.995, activation=activation, he_gain=HE_GAIN
        )

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


class Discriminator(progan.Discriminator):
    """StyleGAN's discriminator: ProGAN's with a blur before each downsampling. Arguments, results and errors are those of
    `progan.Discriminator`, with another default.

    Source: section 2.
    """

    def __init__(self, img_resolution: int, img_channels: int = 3, *, blur_filter: Sequence[float] | None = (1, 2, 1), **kwargs) -> None:
        super().__init__(img_resolution, img_channels, blur_filter=blur_filter, **kwargs)
