"""The modulated convolution as its paper defines it (arXiv:1912.04958, equations 1 to 3), sample by sample in numpy and scipy; cases."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.signal
import torch
from support import accumulate, randn


def numpy(t):
    return None if t is None else t.detach().double().numpy()


def taps_2d(f: torch.Tensor | None) -> np.ndarray:
    if f is None:
        return np.ones((1, 1))
    f = numpy(f)
    return np.outer(f, f) if f.ndim == 1 else f


def pad(x: np.ndarray, left: int, right: int, top: int, bottom: int) -> np.ndarray:
    x = np.pad(x, [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
    return x[max(-top, 0) : x.shape[0] - max(-bottom, 0), max(-left, 0) : x.shape[1] - max(-right, 0)]


@dataclass(frozen=True)
class Case:
    """One geometry: `padding` is (left, right, top, bottom) as for the convolution alone."""

    name: str
    kernel: tuple[int, int] = (3, 3)
    up: int = 1
    down: int = 1
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    resample_filter: torch.Tensor | None = None
    size: tuple[int, int] = (7, 9)
    channels: tuple[int, int] = (3, 5)
    n: int = 2
    styled: bool = True
    demodulate: bool = True
    flip_weight: bool = True
    noise: str | None = None
    behind: dict = field(default_factory=dict)

    @property
    def padding_argument(self):
        left, right, top, bottom = self.padding
        if left == right == top == bottom:
            return left
        return [left, top] if (left, top) == (right, bottom) else list(self.padding)

    def arguments(self) -> dict:
        """What every call of this case takes beside its tensors."""
        return {
            "up": self.up,
            "down": self.down,
            "padding": self.padding_argument,
            "resample_filter": self.resample_filter,
            "demodulate": self.demodulate,
            "flip_weight": self.flip_weight,
            **self.behind,
        }

    def make(self, dtype: torch.dtype, layout: torch.memory_format) -> dict[str, torch.Tensor | None]:
        """Its tensors: x and weight of `dtype`, the others in the accumulation dtype."""
        (i, o), small = self.channels, accumulate(dtype)
        height, width = self.output_size()
        shapes = {None: None, "plane": (height, width), "shared": (1, 1, height, width), "per sample": (self.n, 1, height, width)}
        return {
            "x": randn(self.n, i, *self.size, dtype=dtype, layout=layout),
            "weight": randn(o, i, *self.kernel, dtype=dtype),
            "styles": randn(self.n, i, dtype=small) if self.styled else None,
            "noise": randn(*shapes[self.noise], dtype=small) if self.noise else None,
            "bias": randn(o, dtype=small) if self.noise else None,
        }

    def whole_padding(self) -> tuple[int, ...]:
        """With the part that centres the resampling filter, as upsample2d and downsample2d add it."""
        ky, kx = taps_2d(self.resample_filter).shape
        u, d = self.up, self.down
        extra = (0, 0, 0, 0)
        if u > 1:
            extra = (kx + u - 1) // 2, (kx - u) // 2, (ky + u - 1) // 2, (ky - u) // 2
        elif d > 1:
            extra = (kx - d + 1) // 2, (kx - d) // 2, (ky - d + 1) // 2, (ky - d) // 2
        return tuple(p + e for p, e in zip(self.padding, extra, strict=True))

    def output_size(self) -> tuple[int, int]:
        left, right, top, bottom = self.whole_padding()
        ky, kx = taps_2d(self.resample_filter).shape if self.up > 1 or self.down > 1 else (1, 1)
        height = self.size[0] * self.up + top + bottom - ky - self.kernel[0] + 2
        width = self.size[1] * self.up + left + right - kx - self.kernel[1] + 2
        return (height - 1) // self.down + 1, (width - 1) // self.down + 1

    def terms(self) -> int:
        """Products in one result: of the convolution, the demodulation and the filter."""
        return 2 * self.channels[0] * self.kernel[0] * self.kernel[1] + taps_2d(self.resample_filter).size

    def definition(self, x, weight, styles, eps: float = 1e-8) -> tuple[torch.Tensor, torch.Tensor]:
        """The convolution's result in float64, and the sum of the absolute values of its terms."""
        x, weight, styles = numpy(x), numpy(weight), numpy(styles)
        results = []
        for absolute in (False, True):
            samples = []
            for n in range(len(x)):
                maps = []
                for o in range(len(weight)):
                    w = weight[o] if styles is None else styles[n][:, None, None] * weight[o]  # equation 1
                    if styles is not None and self.demodulate:
                        w = w / np.sqrt(np.sum(w**2) + eps)  # equation 3
                    maps.append(sum(self._one_channel(x[n, i], w[i], absolute) for i in range(len(w))))
                samples.append(np.stack(maps))
            results.append(torch.from_numpy(np.stack(samples)))
        return results[0], results[1]

    def _one_channel(self, x: np.ndarray, w: np.ndarray, absolute: bool) -> np.ndarray:
        f = taps_2d(self.resample_filter)
        x, w, f = (np.abs(t) for t in (x, w, f)) if absolute else (x, w, f)
        if self.up > 1:
            zeros = np.zeros((x.shape[0] * self.up, x.shape[1] * self.up))
            zeros[:: self.up, :: self.up] = x
            x = scipy.signal.convolve2d(pad(zeros, *self.whole_padding()), f * self.up**2, mode="valid")
        else:
            x = pad(x, *self.whole_padding())
        y = (scipy.signal.correlate2d if self.flip_weight else scipy.signal.convolve2d)(x, w, mode="valid")
        if self.down > 1:
            y = scipy.signal.convolve2d(y, f, mode="valid")[:: self.down, :: self.down]
        return y


ROW = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
BLUR = ROW.outer(ROW)
ODD = torch.tensor([[0.1, 0.2, -0.3], [0.4, 0.5, 0.1]])  # neither symmetric nor separable
LRELU = {"act": "lrelu", "clamp": 0.75}

CASES = [
    Case("plain", noise="per sample", behind=LRELU),
    Case("plain convolution", flip_weight=False, noise="plane", behind={"act": "swish"}),
    Case("no demodulation", demodulate=False, noise="shared", behind={"act": "tanh", "gain": 0.5}),
    Case("no styles", styled=False),
    Case("no styles, everything behind", styled=False, noise="shared", behind={"act": "lrelu", "alpha": 0.1, "gain": 1.5, "clamp": 1.0}),
    Case("one channel", channels=(1, 1), n=1, size=(5, 5)),
    Case("many channels", channels=(33, 17), size=(3, 3), n=1),
    Case("1 x 1", (1, 1), padding=(0, 0, 0, 0), demodulate=False),
    Case("2 x 2", (2, 2), padding=(1, 0, 0, 1)),
    Case("5 x 5", (5, 5), padding=(2, 2, 2, 2), flip_weight=False),
    Case("2 x 5", (2, 5), padding=(0, 0, 0, 0)),
    Case("uneven padding", padding=(2, 0, 3, 1), noise="plane"),
    Case("cropped", padding=(-1, 1, -1, -2)),
    Case("one pixel left", padding=(0, 0, 0, 0), size=(3, 3)),
    Case("up", up=2, resample_filter=BLUR, flip_weight=False, noise="per sample", behind=LRELU),
    Case("up, correlation", up=2, resample_filter=BLUR, noise="shared"),
    Case("up, row", up=2, resample_filter=ROW, flip_weight=False, demodulate=False),
    Case("up, odd filter", up=2, resample_filter=ODD, padding=(1, 0, 2, 1), size=(4, 3)),
    Case("up, no filter", up=2, flip_weight=False),
    Case("up, no styles", up=2, resample_filter=BLUR, styled=False),
    Case("up, one channel", up=2, resample_filter=BLUR, channels=(1, 1), size=(3, 5)),
    Case("up, one pixel", up=2, resample_filter=BLUR, size=(1, 1)),
    Case("up, cropped", up=2, resample_filter=BLUR, padding=(-2, 1, 0, -3)),
    Case("up, 1 x 1", (1, 1), up=2, padding=(0, 0, 0, 0), resample_filter=BLUR, noise="plane"),
    Case("up, 2 x 2", (2, 2), up=2, resample_filter=BLUR, flip_weight=False),
    Case("up, 5 x 5", (5, 5), up=2, padding=(2, 2, 2, 2), resample_filter=ROW, size=(4, 5)),
    Case("up, 1 x 3", (1, 3), up=2, padding=(1, 1, 0, 0), resample_filter=BLUR, size=(4, 5)),
    Case("up 3", up=3, resample_filter=ROW, size=(3, 4), noise="shared"),
    Case("up 3, no filter", (2, 2), up=3, size=(3, 4), flip_weight=False),
    Case("down", down=2, resample_filter=BLUR, styled=False, noise="plane", behind=LRELU),
    Case("down, styles", down=2, resample_filter=BLUR, size=(8, 8), flip_weight=False),
    Case("down, odd filter", down=2, resample_filter=ODD, padding=(1, 0, 2, 1)),
    Case("down, no filter", down=2, size=(8, 9)),
    Case("down, 1 x 1", (1, 1), down=2, padding=(0, 0, 0, 0), resample_filter=BLUR, styled=False),
    Case("down, 1 x 1, no filter", (1, 1), down=2, padding=(0, 0, 0, 0)),
    Case("down, 5 x 5", (5, 5), down=2, padding=(2, 2, 2, 2), resample_filter=ROW),
    Case("down, cropped", down=2, resample_filter=BLUR, padding=(-1, 0, 1, -1)),
    Case("down 3", down=3, resample_filter=ROW, size=(9, 10), noise="per sample"),
]
NAMES = [case.name for case in CASES]
