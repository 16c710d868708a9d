"""ProGAN: Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation" (arXiv:1710.10196).

A generator and a discriminator that begin at 4x4 pixels and double their resolution during training, the newest layers faded in. Sections,
tables and figures in the comments are the paper's. Feature maps are channels_last throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..layers import BlurDownBlock, ConvBlock, DiscriminatorEpilogue, EqualizedConv2d, EqualizedLinear, MappingLayers, PixelNorm
from ..layers._checks import check_image, check_int, check_labels, check_positive_int, check_shape
from ..layers.conv_block import HE_GAIN
from ..layers.growth import Growing, GrowingSynthesis, halve
from ._shape import channels_of, plain, project


class LatentInput(nn.Module):
    """What a ProGAN has in place of a mapping network: z and the embedded label side by side, normalised together.

    Args:
        z_dim: length of z.
        c_dim: length of a label; 0 for an unconditional network.

    Parameters:
        embed: EqualizedLinear(c_dim, z_dim), if c_dim > 0.

    Source: section 4.2 and appendix A (the latent code is normalised); labels beside it: Mirza and Osindero 2014 (arXiv:1411.1784).
    """

    def __init__(self, z_dim: int, c_dim: int = 0) -> None:
        super().__init__()
        self.z_dim = check_positive_int("LatentInput", "z_dim", z_dim)
        self.c_dim = check_int("LatentInput", "c_dim", c_dim)
        if self.c_dim < 0:
            raise ValueError(f"LatentInput: c_dim must be at least 0 (got {c_dim})")
        self.normalize = PixelNorm()
        self.embed = EqualizedLinear(c_dim, z_dim) if c_dim > 0 else None
        self.w_dim = z_dim * (2 if c_dim > 0 else 1)

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = False,
    ) -> torch.Tensor:
        """`z` [N, z_dim] and labels `c` [N, c_dim] or None -> [N, 1, w_dim], float32 at least. The other arguments are those of
        `MappingNetwork`, so that one program serves all families; here there is nothing to truncate and no average to move.

        Raises:
            ValueError, TypeError: `z` or `c` is outside these rules, or `truncation_psi` is not 1: there is no intermediate latent space
                whose average could be kept to.
        """
        if truncation_psi != 1:
            raise ValueError(f"LatentInput: truncation_psi must be 1 in a ProGAN, which has no intermediate codes (got {truncation_psi})")
        check_shape("LatentInput", "z", z, (None, self.z_dim), f"[N, {self.z_dim}], z_dim being {self.z_dim}")
        check_labels("LatentInput", c, z.shape[0], self.c_dim)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if self.embed is not None:
            z = torch.cat([self.normalize(z), self.normalize(self.embed(c)).to(z.dtype)], dim=1)
        return self.normalize(z)[:, None]


class SynthesisNetwork(GrowingSynthesis):
    """Grow an image from one vector (table 2, left; figure 2).

    1. 4x4: fully connected, leaky ReLU, pixel norm; 3x3 convolution, leaky ReLU, pixel norm.
    2. Every further resolution: nearest-neighbour upsampling and two such convolutions.
    3. toRGB, a 1x1 convolution, at the present resolution; while fading, half of it from the resolution before.

    Args:
        w_dim: length of the vector.
        img_resolution: height and width of the full-grown image, a power of two of at least 4.
        img_channels: number of channels of the image.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.

    Raises:
        ValueError, TypeError: for arguments outside these rules.
    """

    def __init__(self, w_dim: int, img_resolution: int, img_channels: int = 3, channel_base: int = 16384, channel_max: int = 512) -> None:
        channels = channels_of("SynthesisNetwork", img_resolution, channel_base, channel_max)
        super().__init__(list(channels))
        img_channels = check_positive_int("SynthesisNetwork", "img_channels", img_channels)
        self.w_dim = check_positive_int("SynthesisNetwork", "w_dim", w_dim)
        self.num_ws = self.num_ws_in_use = 1
        self.input = EqualizedLinear(w_dim, channels[4] * 4 * 4, bias=False, he_gain=HE_GAIN / 4)  # the paper's 4x4 convolution
        self.input_bias = nn.Parameter(torch.zeros(channels[4]))
        self.conv = EqualizedConv2d(channels[4], channels[4], 3, activation="lrelu", he_gain=HE_GAIN)
        self.norm = PixelNorm()
        in_channels = channels[4]
        for r, out_channels in channels.items():
            if r > 4:
                self.add_module(f"b{r}", ConvBlock(in_channels, out_channels, up=2))
            self.add_module(f"torgb{r}", EqualizedConv2d(out_channels, img_channels, 1))
            in_channels = out_channels

    def forward(self, ws: torch.Tensor, *, noise_mode: str = "none") -> torch.Tensor:
        """Synthesise a batch.

        Args:
            ws: [N, 1, w_dim].
            noise_mode: taken for the sake of the other families; a ProGAN has no noise.

        Returns:
            [N, img_channels, resolution, resolution], contiguous, in the dtype of the parameters (float32); nominal range [-1, 1].

        Raises:
            ValueError, TypeError: `ws` is outside these rules.
        """
        check_shape("SynthesisNetwork", "ws", ws, (None, 1, self.w_dim), f"[N, 1, {self.w_dim}]")
        x = self.input(ws[:, 0]).unflatten(1, (-1, 4, 4)) + self.input_bias[:, None, None]
        x = self.norm(nn.functional.leaky_relu(x, 0.2)).contiguous(memory_format=torch.channels_last)
        x = self.norm(self.conv(x))
        before = None
        for r in self.resolutions[1 : self.resolutions.index(self.resolution) + 1]:
            before, x = x, getattr(self, f"b{r}")(x)
        return self.to_image(x, before)


class Generator(nn.Module):
    """ProGAN's generator.

    Args:
        img_resolution: height and width of the full-grown image, a power of two of at least 4.
        img_channels: number of channels of the image.
        z_dim: length of a latent code z.
        c_dim: length of a label; 0 for an unconditional network.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.

    Attributes:
        mapping: `LatentInput`. synthesis: `SynthesisNetwork`, whose `grow_to` sets the present resolution.
        init_kwargs: the arguments as plain JSON values: `Generator(**G.init_kwargs)` builds the same network.
        num_ws: 1, the codes that the synthesis network takes.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Source: table 2; the number of feature maps: appendix A.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int = 3,
        *,
        z_dim: int = 512,
        c_dim: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
    ) -> None:
        super().__init__()
        shape = {
            "img_resolution": img_resolution,
            "img_channels": img_channels,
            "channel_base": channel_base,
            "channel_max": channel_max,
        }
        self.init_kwargs = plain({**shape, "z_dim": z_dim, "c_dim": c_dim})
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.z_dim, self.c_dim = z_dim, c_dim
        self.mapping = LatentInput(z_dim, c_dim)
        self.w_dim = self.mapping.w_dim
        self.synthesis = SynthesisNetwork(self.w_dim, **shape)
        self.num_ws = self.synthesis.num_ws

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None = None,
        *,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        noise_mode: str = "none",
    ) -> torch.Tensor:
        """Generate images; see `LatentInput.forward` and `SynthesisNetwork.forward` for the arguments, the result and the errors."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, noise_mode=noise_mode)


class Discriminator(Growing):
    """The growing discriminator of ProGAN and StyleGAN (table 2, right; figure 2).

    1. fromRGB, a 1x1 convolution with leaky ReLU, at the present resolution.
    2. Every resolution above 4: 3x3 convolution, leaky ReLU, 3x3 convolution, leaky ReLU, 2x2 averages; with a blur: `BlurDownBlock`.
    3. 4x4: minibatch standard deviation, 3x3 convolution, two fully connected layers.

    While fading, half of what the second resolution reads comes from the image, halved by 2x2 averages. With labels the result is a
    projection, see `project`.

    Args:
        img_resolution: height and width of the full-grown image, a power of two of at least 4.
        img_channels: number of channels of the image.
        c_dim: length of a label; 0 for an unconditional network.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.
        blur_filter: taps of the blur (StyleGAN: 1, 2, 1); None for none (ProGAN).
        fused_from: with a blur, the first resolution whose averages are part of the convolution, see `BlurDownBlock`.
        mbstd_group_size: largest group of the minibatch standard deviation.
        mbstd_num_channels: feature maps that it appends.

    Attributes:
        init_kwargs: the arguments as plain JSON values: `Discriminator(**D.init_kwargs)` builds the same network.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Source: table 2; blur: Karras et al. 2019 (arXiv:1812.04948), section 2; labels: Miyato and Koyama 2018 (arXiv:1802.05637), section 3.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int = 3,
        *,
        c_dim: int = 0,
        channel_base: int = 16384,
        channel_max: int = 512,
        blur_filter: Sequence[float] | None = None,
        fused_from: int = 128,
        mbstd_group_size: int = 4,
        mbstd_num_channels: int = 1,
    ) -> None:
        channels = channels_of("Discriminator", img_resolution, channel_base, channel_max)
        super().__init__(list(channels))
        self.init_kwargs = plain(
            {
                "img_resolution": img_resolution,
                "img_channels": check_positive_int("Discriminator", "img_channels", img_channels),
                "c_dim": c_dim,
                "channel_base": channel_base,
                "channel_max": channel_max,
                "blur_filter": blur_filter,
                "fused_from": fused_from,
                "mbstd_group_size": mbstd_group_size,
                "mbstd_num_channels": mbstd_num_channels,
            }
        )
        if check_int("Discriminator", "c_dim", c_dim) < 0:
            raise ValueError(f"Discriminator: c_dim must be at least 0 (got {c_dim})")
        self.c_dim = c_dim
        self.img_resolution, self.img_channels = img_resolution, img_channels
        for r, feature_maps in channels.items():
            from_rgb = EqualizedConv2d(img_channels, feature_maps, 1, activation="lrelu", he_gain=HE_GAIN)
            self.add_module(f"fromrgb{r}", from_rgb)
            if r > 4:
                sizes = (feature_maps, channels[r // 2])
                if blur_filter is None:
                    block = ConvBlock(*sizes, hidden_channels=feature_maps, down=2, pixel_norm=False)
                else:
                    block = BlurDownBlock(*sizes, blur_filter, is_fused=r >= fused_from)
                self.add_module(f"b{r}", block)
        if c_dim > 0:
            self.mapping = MappingLayers(0, c_dim, channels[4], num_layers=1, lr_multiplier=1, he_gain=HE_GAIN)
        self.b4 = DiscriminatorEpilogue(
            channels[4],
            channels[4] if c_dim > 0 else 1,
            img_channels,
            has_fromrgb=False,
            mbstd_group_size=mbstd_group_size,
            mbstd_num_channels=mbstd_num_channels,
            conv_clamp=None,
            resample_filter=(1, 1),
            he_gain=HE_GAIN,
        )

    def forward(self, img: torch.Tensor | Sequence[torch.Tensor], c: torch.Tensor | None = None) -> torch.Tensor:
        """Judge a batch.

        Args:
            img: [N, img_channels, resolution, resolution], or a list of one such image.
            c: labels [N, c_dim]; None if c_dim is 0.

        Returns:
            Logits [N, 1], positive for real, in the dtype of the parameters (float32), also under autocast.

        Raises:
            ValueError, TypeError: `img` or `c` is outside these rules.
        """
        if isinstance(img, (list, tuple)):
            if len(img) != 1:
                raise ValueError(f"Discriminator: img must be one image, of the present resolution (got {len(img)})")
            img = img[0]
        check_image("Discriminator", "img", img)
        shape = (self.img_channels, self.resolution, self.resolution)
        check_shape("Discriminator", "img", img, (None, *shape), f"[N, {shape[0]}, {shape[1]}, {shape[2]}]")
        check_labels("Discriminator", c, img.shape[0], self.c_dim)
        img = img.to(self.b4.out.weight.dtype, memory_format=torch.channels_last)
        x = getattr(self, f"fromrgb{self.resolution}")(img)
        for r in reversed(self.resolutions[1 : self.resolutions.index(self.resolution) + 1]):
            x = getattr(self, f"b{r}")(x)
            if self.is_fading and r == self.resolution:
                x = self.fade(getattr(self, f"fromrgb{r // 2}")(halve(img)), x)
        logits = self.b4(x, img)
        return project(logits, self.mapping(None, c)) if self.c_dim > 0 else logits
