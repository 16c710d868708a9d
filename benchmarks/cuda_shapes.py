"""The convolutions of StyleGAN2's networks (configuration F), and the arithmetic and memory that each of them cannot do without."""

from __future__ import annotations

from dataclasses import dataclass

CHANNEL_BASE, CHANNEL_MAX = 32768, 512
SMALL = 32  # pixels: layers up to here wait for launches rather than for arithmetic, and are counted with one sample too
MMA_MACS = 16 * 8 * 16  # multiplications of one tensor-core instruction in float16


@dataclass(frozen=True)
class Layer:
    """One convolution.

    kind: "same" and "up" (3x3) and "rgb" (1x1) of the generator; "from_rgb" (1x1), "plain" and "down" (3x3) and "skip" (1x1 behind a
    filter that halves) of the discriminator, whose convolutions have no styles.
    size: height and width of the output in pixels, for "down" and "skip" those of the input.
    """

    kind: str
    in_channels: int
    out_channels: int
    size: int

    def __str__(self) -> str:
        return f"{self.kind} {self.in_channels}-{self.out_channels} at {self.size}"

    @property
    def network(self) -> str:
        return "G" if self.kind in ("same", "up", "rgb") else "D"

    @property
    def kernel(self) -> int:
        return 3 if self.kind in ("same", "up", "plain", "down") else 1

    @property
    def in_size(self) -> int:
        return self.size // 2 if self.kind == "up" else self.size

    @property
    def out_size(self) -> int:
        return self.size // 2 if self.kind in ("down", "skip") else self.size

    @property
    def conv_sizes(self) -> tuple[int, int]:
        """Sides of what the convolution itself reads and writes: the filter stands behind an up-convolution and before a strided one."""
        return {"up": (self.size // 2, self.size + 1), "down": (self.size + 1, self.size // 2), "skip": (self.size // 2,) * 2}.get(
            self.kind, (self.size, self.size)
        )

    def macs(self, batch: int) -> int:
        """Multiplications, of the convolution as of each of its two gradients: the zeros of an up-convolution are not multiplied."""
        side = min(self.in_size, self.out_size)
        return batch * side**2 * self.kernel**2 * self.in_channels * self.out_channels

    def fewest_mma(self, batch: int) -> float:
        return self.macs(batch) / MMA_MACS

    def weight_count(self) -> int:
        return self.kernel**2 * self.in_channels * self.out_channels

    def conv_bytes(self, batch: int) -> int:
        """What a convolution in 16 bits must touch: its two images and the weights."""
        read, written = self.conv_sizes
        return 2 * (batch * (read**2 * self.in_channels + written**2 * self.out_channels) + self.weight_count())

    def intensity(self, batch: int) -> float:
        """FLOP per byte of that."""
        return 2 * self.macs(batch) / self.conv_bytes(batch)


def channels(size: int) -> int:
    return min(CHANNEL_BASE // size, CHANNEL_MAX)


def generator(resolution: int) -> list[Layer]:
    """The synthesis network with output skips, from 4x4 up."""
    layers = [Layer("same", channels(4), channels(4), 4), Layer("rgb", channels(4), 3, 4)]
    size = 8
    while size <= resolution:
        c = channels(size)
        layers += [Layer("up", channels(size // 2), c, size), Layer("same", c, c, size), Layer("rgb", c, 3, size)]
        size *= 2
    return layers


def discriminator(resolution: int) -> list[Layer]:
    """The residual network, from the image down."""
    layers, size = [Layer("from_rgb", 3, channels(resolution), resolution)], resolution
    while size > 4:
        c, smaller = channels(size), channels(size // 2)
        layers += [Layer("plain", c, c, size), Layer("down", c, smaller, size), Layer("skip", c, smaller, size)]
        size //= 2
    return [*layers, Layer("plain", channels(4) + 1, channels(4), 4)]  # one more channel: the minibatch's standard deviation
