"""Cartoon faces that DiceBear draws from seeds: aligned, in colour, as many as one likes."""

import io
import json
from importlib.resources import files

import resvg_py
from dicebear import Avatar, Style
from PIL import Image

from stylegan_ops.data.sources.source import Source

_COUNT = 10_000  # images, unless told otherwise
_LEAST_SIDE = 64  # smaller pictures are drawn at this size and reduced by the Lanczos filter: sharper eyes than by the renderer's smoothing
_BACKGROUNDS = ["#a8dadc", "#ffd6a5", "#cdb4db", "#b7e4c7", "#ffcad4"]


class DiceBearSource(Source):
    """Image i is the avatar of the text "SEED-i".

    Args:
        style: name of a style of the package `dicebear-styles`, such as `avataaars`, `lorelei`, `personas`.
        resolution: height and width for which to draw, pixels.
        count: number of images.
        seed: another seed, other faces.
        trait: the option whose values become the classes, or None.
    """

    channels = 3

    def __init__(self, style: str, resolution: int, count: int | None, seed: int, trait: str | None) -> None:
        styles = {file.name.removesuffix(".json"): file for file in files("dicebear_styles").iterdir() if file.name.endswith(".json")}
        if style not in styles:
            raise ValueError(f"dicebear: style must be one of {', '.join(sorted(styles))} ({style!r})")
        self._style = Style(json.loads(styles[style].read_text("utf-8")))
        self._side = max(resolution, _LEAST_SIDE)
        self.name = f"dicebear:{style}"
        self.names = [f"{seed}-{i}" for i in range(count or _COUNT)]
        if trait is not None:
            self._label_by(trait)

    def open(self, index: int) -> Image.Image:
        svg = self._avatar(index).to_string()
        # Looking for the system's fonts takes longer than drawing; few styles write letters.
        png = resvg_py.svg_to_bytes(svg_string=svg, width=self._side, height=self._side, skip_system_fonts="<text" not in svg)
        return Image.open(io.BytesIO(bytes(png)))

    def _avatar(self, index: int) -> Avatar:
        return Avatar(self._style, {"seed": self.names[index], "size": self._side, "backgroundColor": _BACKGROUNDS})

    def _label_by(self, trait: str) -> None:
        options = [self._avatar(index).to_json()["options"] for index in range(len(self.names))]
        traits = sorted({name for option in options for name in option if name.endswith(("Variant", "Color"))})
        if trait not in traits:
            raise ValueError(f"dicebear: labels must be a trait of {self.name}, one of {', '.join(traits)} ({trait!r})")
        values = [_text(option.get(trait)) for option in options]
        self.label_names = sorted(set(values))
        number = {value: i for i, value in enumerate(self.label_names)}
        self.labels = [number[value] for value in values]


def _text(value: str | list[str] | None) -> str:
    return "none" if not value else value if isinstance(value, str) else " ".join(value)
