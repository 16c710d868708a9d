"""StyleGAN2: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv:1912.04958), in all its architectures.

Latent codes z become intermediate codes w in a mapping network; a synthesis network grows an image from a learned 4x4 constant, every
convolution of it modulated by w; a discriminator judges images. Sections, equations and figures in the comments are the paper's.

Parameters and buffers have the names that published checkpoints use. Feature maps are channels_last throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..layers import DiscriminatorBlock, DiscriminatorEpilogue, LayerStyle, MappingLayers, MappingNetwork, SynthesisBlock, network_styles
from ..layers._checks import check_choice, check_int, check_labels, check_positive_int, check_real, check_shape
from ..layers.growth import halve
from ._shape import channels_of, plain, project

ARCHITECTURES = ("orig", "skip", "resnet", "msg")

# The widths of table 1: configurations A to E, and F, which has twice as many feature maps from 64 px on.
CONFIG_E = {"channel_base": 16384, "channel_max": 512}
CONFIG_F = {"channel_base": 32768, "channel_max": 512}


class SynthesisNetwork(nn.Module):
    """Grow an image from a constant, doubling the resolution in every block.

    Args:
        w_dim: length of w.
        img_resolution: height and width of the image, a power of two of at least 4.
        img_channels: number of channels of the image.
        channel_base: a block at resolution r has `min(channel_base // r, channel_max)` feature maps.
        channel_max: see `channel_base`.
        architecture: "orig" (plain), "skip" (figure 7 b), "resnet" (figure 7 c) or "msg" (MSG-GAN, figure 7 a).
        conv_clamp: clamp the layers' outputs to +-conv_clamp; None leaves them.
        resample_filter: taps of the upsampling filter.
        norm_eps: see `SynthesisLayer`.

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
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        channels = channels_of("SynthesisNetwork", img_resolution, channel_base, channel_max)
        if norm_eps is not None and not check_real("SynthesisNetwork", "norm_eps", norm_eps) > 0:
            raise ValueError(f"SynthesisNetwork: norm_eps must be None or above 0 (got {norm_eps})")
        check_choice("SynthesisNetwork", "architecture", architecture, ARCHITECTURES)
        self.w_dim = w_dim = check_positive_int("SynthesisNetwork", "w_dim", w_dim)
        self.img_resolution = img_resolution
        self.img_channels = check_positive_int("SynthesisNetwork", "img_channels", img_channels)
        self.architecture = architecture
        self.resolutions = list(channels)
        in_channels = 0
        for r, out_channels in channels.items():
            has_torgb = architecture in ("skip", "msg") or r == img_resolution
            residual = architecture == "resnet"
            options = (has_torgb, residual, conv_clamp, resample_filter, norm_eps)
            block = SynthesisBlock(in_channels, out_channels, w_dim, r, img_channels, *options)
            self.add_module(f"b{r}", block)
            in_channels = out_channels
        # One w per convolution; a block's toRGB shares its w with the next block's first convolution, so the last one adds one.
        self.num_ws = self.num_ws_in_use = 2 * len(self.resolutions)

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
        return self.images(ws, noise_mode=noise_mode)[-1]

    def images(self, ws: torch.Tensor, *, noise_mode: str = "random") -> list[torch.Tensor]:
        """The images that a discriminator of the same architecture judges, as in `forward`: one, or of "msg" one of every resolution."""
        check_shape("SynthesisNetwork", "ws", ws, (None, self.num_ws, self.w_dim), f"[N, {self.num_ws}, {self.w_dim}]")
        x = img = None
        images = []
        for r, styles in zip(self.resolutions, self._styles(ws, noise_mode), strict=True):
            x, img = getattr(self, f"b{r}")(x, img, styles, noise_mode)
            if self.architecture == "msg":
                images.append(img.contiguous())
                img = None  # every resolution has a picture of its own
        return images or [img.contiguous()]

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
        architecture: "orig" (plain), "skip" (figure 7 b), "resnet" (figure 7 c) or "msg" (MSG-GAN, figure 7 a).
        conv_clamp: clamp the layers' outputs to +-conv_clamp (float16 needs it, for instance 256); None leaves them.
        resample_filter: taps of the upsampling filter.
        norm_eps: None, for 1e-8 under every root as published; a number for that of a network whose weights are scaled before they are
            demodulated, see `SynthesisLayer`, and which normalises z with it, too.

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
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        shape = plain(
            {
                "img_resolution": img_resolution,
                "img_channels": img_channels,
                "w_dim": w_dim,
                "channel_base": channel_base,
                "channel_max": channel_max,
                "architecture": architecture,
                "conv_clamp": conv_clamp,
                "resample_filter": resample_filter,
                "norm_eps": norm_eps,
            }
        )
        self.init_kwargs = {**shape, **plain({"z_dim": z_dim, "c_dim": c_dim, "num_layers": num_layers})}
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(**shape)
        self.num_ws = self.synthesis.num_ws
        eps = {} if norm_eps is None else {"norm_eps": norm_eps}
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, num_layers, **eps)

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
        architecture: "orig" (plain), "skip" (figure 7 b), "resnet" (figure 7 c) or "msg" (MSG-GAN, figure 7 a).
        mbstd_group_size: largest group of the minibatch standard deviation; the largest number up to it that divides N is taken.
        mbstd_num_channels: feature maps that it appends.
        conv_clamp: clamp the layers' outputs to +-conv_clamp (float16 needs it, for instance 256); None leaves them.
        resample_filter: taps of the downsampling filter.

    Attributes:
        init_kwargs: the arguments as plain JSON values: `Discriminator(**D.init_kwargs)` builds the same network.

    Raises:
        ValueError, TypeError: for arguments outside these rules.

    Source: section 4.1; labels: Miyato and Koyama 2018 (arXiv:1802.05637), section 3; "msg": Karnewar and Wang 2019 (arXiv:1903.06048),
    section 2.1, with the picture's channels beside the features (phi_simple).
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
        channels = channels_of("Discriminator", img_resolution, channel_base, channel_max)
        check_choice("Discriminator", "architecture", architecture, ARCHITECTURES)
        if check_int("Discriminator", "c_dim", c_dim) < 0:
            raise ValueError(f"Discriminator: c_dim must be at least 0 (got {c_dim})")
        self.init_kwargs = plain(
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
        self.architecture = architecture
        self.resolutions = [r for r in reversed(channels) if r > 4]

        def has_fromrgb(r: int) -> bool:
            return architecture == "skip" or r == img_resolution

        def extra_channels(r: int) -> int:
            return img_channels if architecture == "msg" and r < img_resolution else 0

        for r in self.resolutions:
            block = DiscriminatorBlock(
                channels[r], channels[r // 2], img_channels, has_fromrgb(r), architecture, conv_clamp, resample_filter, extra_channels(r)
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
            extra_channels(4),
        )

    def forward(self, img: torch.Tensor | Sequence[torch.Tensor], c: torch.Tensor | None = None) -> torch.Tensor:
        """Judge a batch.

        Args:
            img: [N, img_channels, img_resolution, img_resolution], nominal range [-1, 1]; for "msg" also a list with one of every
                resolution from 4 up, as `SynthesisNetwork.images` gives it. A single image is halved by 2x2 averages for that.
            c: labels [N, c_dim]; None if c_dim is 0.

        Returns:
            Logits [N, 1], positive for real, in the dtype of the parameters (float32), also under autocast.

        Raises:
            ValueError, TypeError: `img` or `c` is outside these rules.
        """
        images = self._images(img)
        img = images[self.img_resolution]
        check_labels("Discriminator", c, img.shape[0], self.c_dim)
        x = None
        for r in self.resolutions:
            x, img = getattr(self, f"b{r}")(x, img)
            if r // 2 in images:  # phi_simple of MSG-GAN: the picture's channels join the features
                x = torch.cat([x, images[r // 2].to(x.dtype)], dim=1)
        logits = self.b4(x, img)
        if self.c_dim > 0:
            logits = project(logits, self.mapping(None, c))
        return logits

    def _images(self, img: torch.Tensor | Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        """The image of each resolution that the network looks at, checked, in the parameters' dtype and channels_last."""
        looks_at = [4, *reversed(self.resolutions)] if self.architecture == "msg" else [self.img_resolution]
        given = list(img) if isinstance(img, (list, tuple)) else [img]
        if len(given) not in (1, len(looks_at)):
            rule = f"one image, or {len(looks_at)} from 4x4 up" if len(looks_at) > 1 else "one image"
            raise ValueError(f"Discriminator: img must be {rule} (got {len(given)})")
        images = {}
        for r, image in zip(looks_at[-len(given) :], given, strict=True):
            check_shape("Discriminator", "img", image, (None, self.img_channels, r, r), f"[N, {self.img_channels}, {r}, {r}]")
            if len(image) != len(given[-1]):
                rule = f"as many samples at {r}x{r} as at {self.img_resolution}x{self.img_resolution}, {len(given[-1])}"
                raise ValueError(f"Discriminator: img must have {rule} (got {len(image)})")
            images[r] = image.to(self.b4.out.weight.dtype, memory_format=torch.channels_last)
        for r in reversed(looks_at[: -len(given)]):
            images[r] = halve(images[2 * r])
        return images
