"""Networks that grow: which resolution they are at, and how far the newest layers are faded in."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ._checks import check_int, check_real


class Growing(nn.Module):
    """Base of a generator or discriminator whose resolution grows during training.

    At `resolution` r and `alpha` < 1 the newest layers are being faded in: the result is
    `alpha * (with the layers of r) + (1 - alpha) * (without, resized)`, nearest neighbour up and 2x2 averages down. New networks stand
    at their full size.

    Attributes:
        resolutions: all that the network can be at, from 4 up.
        resolution: the present one, pixels.
        alpha: scalar buffer (not in the state dict), the weight of the newest layers.
        is_fading: alpha is below 1.

    Source: Karras et al. 2018 (arXiv:1710.10196), section 2 and figure 2.
    """

    alpha: torch.Tensor

    def __init__(self, resolutions: list[int]) -> None:
        super().__init__()
        self.resolutions = resolutions
        self.resolution = resolutions[-1]
        self.is_fading = False
        self.register_buffer("alpha", torch.ones([]), persistent=False)

    def grow_to(self, resolution: int, alpha: float = 1.0) -> None:
        """Stand at a resolution, with its layers faded in so far.

        Raises:
            ValueError, TypeError: the network has no such resolution, alpha is not within 0 and 1, or below 1 at the first resolution.
        """
        owner = type(self).__name__
        if check_int(owner, "resolution", resolution) not in self.resolutions:
            raise ValueError(f"{owner}: resolution must be one of {', '.join(map(str, self.resolutions))} (got {resolution})")
        if not 0 <= check_real(owner, "alpha", alpha) <= 1:
            raise ValueError(f"{owner}: alpha must be within 0 and 1 (got {alpha})")
        if alpha < 1 and resolution == self.resolutions[0]:
            raise ValueError(f"{owner}: alpha must be 1 at the first resolution, {resolution} (got {alpha})")
        self.resolution = resolution
        self.is_fading = alpha < 1
        self.alpha.fill_(alpha)

    def fade(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """`(1 - alpha) old + alpha new`, in their dtype."""
        return old.lerp(new, self.alpha.to(new.dtype))


class GrowingSynthesis(Growing):
    """Base of a synthesis network that grows, with children `torgb{r}`, `EqualizedConv2d`s of one pixel, for its resolutions."""

    def to_image(self, x: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        """The image of the present stage, contiguous, in the dtype of the parameters.

        Args:
            x: features at the present resolution.
            before: those at the resolution before; they are read while fading.
        """
        image = self._to_rgb(x, self.resolution)
        if self.is_fading:
            image = self.fade(double(self._to_rgb(before, self.resolution // 2)), image)
        return image.contiguous()

    def images(self, ws: torch.Tensor, *, noise_mode: str = "random") -> list[torch.Tensor]:
        """The images that the discriminator judges: the one of `forward`."""
        return [self(ws, noise_mode=noise_mode)]

    def _to_rgb(self, x: torch.Tensor, r: int) -> torch.Tensor:
        layer = getattr(self, f"torgb{r}")
        return layer(x).to(layer.bias.dtype)


def double(image: torch.Tensor) -> torch.Tensor:
    """Nearest-neighbour upsampling: `image` [N, C, H, W] -> [N, C, 2 H, 2 W]."""
    return F.interpolate(image, scale_factor=2, mode="nearest")


def halve(image: torch.Tensor) -> torch.Tensor:
    """2x2 averages: `image` [N, C, H, W] -> [N, C, H / 2, W / 2]."""
    return F.avg_pool2d(image, 2)
