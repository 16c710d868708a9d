"""Charts as inline SVG, drawn without any package: bars, lines and a roofline. Colours and fonts are those of the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Point = tuple[float, float]

LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 44  # margins of a plot, in pixels
BAR = 20  # height of a bar with its gap
WIDTH = 960
GLYPH = 6.6  # the width that a letter takes at most, on the average of a line


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def line(a: Point, b: Point, kind: str) -> str:
    return f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" class="{kind}"/>'


def svg(width: float, height: float, parts: list[str], title: str) -> str:
    """A picture that shrinks with the window; `title` is for those who hear it."""
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"


def short(value: float) -> str:
    """A number on an axis."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.2g}"


class LogPlot:
    """A plot with two logarithmic axes over all points given; `values` come in the axes' units."""

    def __init__(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        x_label: str,
        y_label: str,
        width: int = WIDTH,
        height: int = 400,
        x_ticks: Sequence[float] = (),
    ) -> None:
        self.width, self.height = width, height
        self.x_range, self.y_range = (self._range(values) for values in (xs, ys))
        self.parts: list[str] = []
        left, right, top, bottom = LEFT, width - RIGHT, TOP, height - BOTTOM
        for value in x_ticks or self._ticks(self.x_range):
            x = self.x(value)
            self.parts += [line((x, top), (x, bottom), "grid"), text(x, bottom + 16, f"{value:g}" if x_ticks else short(value), "middle")]
        for value in self._ticks(self.y_range):
            y = self.y(value)
            self.parts += [line((left, y), (right, y), "grid"), text(left - 6, y + 4, short(value), "end")]
        self.parts += [text((left + right) / 2, height - 8, x_label, "middle"), text(left, top - 4, y_label, "start")]

    @staticmethod
    def _range(values: Sequence[float]) -> tuple[float, float]:
        low, high = math.log10(min(values)), math.log10(max(values))
        gap = max(0.04 * (high - low), 0.1)
        return low - gap, high + gap

    @staticmethod
    def _ticks(limits: tuple[float, float]) -> list[float]:
        """Powers of ten, with 2 and 5 between them on short axes; every second power on long ones."""
        low, high = limits
        steps = (1, 2, 5) if high - low < 2.5 else (1,)
        exponents = range(math.floor(low), math.ceil(high) + 1, 1 if high - low < 8 else 2)
        return [step * 10.0**e for e in exponents for step in steps if low <= math.log10(step * 10.0**e) <= high]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (math.log10(value) - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (math.log10(value) - low) / (high - low) * (self.height - TOP - BOTTOM)

    def path(self, points: Sequence[Point], kind: str) -> None:
        joined = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{joined}" class="{kind}"/>')

    def curve(self, points: Sequence[Point], color: int, words: Sequence[str]) -> None:
        """Points joined by lines, each with what to say when the mouse is over it."""
        self.path(points, f"line c{color}")
        for (x, y), says in zip(points, words, strict=True):
            self.dot(x, y, color, says)

    def dot(self, x: float, y: float, color: int, says: str) -> None:
        circle = f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="4" class="dot c{color}">'
        self.parts.append(f"{circle}<title>{escape(says)}</title></circle>")

    def label(self, x: float, y: float, words: str, anchor: str = "start") -> None:
        self.parts.append(text(self.x(x), self.y(y) - 6, words, anchor, "note"))

    def picture(self, title: str) -> str:
        return svg(self.width, self.height, self.parts, title)


def bars(rows: Sequence[tuple[str, float, str, int]], full: float, mark: float | None, title: str) -> str:
    """Horizontal bars: name, value, what stands behind it, colour. `full` is the longest bar's value, `mark` a line at a value."""
    names, words = (GLYPH * max(len(row[i]) for row in rows) + 16 for i in (0, 2))
    room = max(WIDTH - names - words, 250)
    width, height = names + room + words, len(rows) * BAR + 22
    parts = []
    for i, (name, value, says, color) in enumerate(rows):
        y = i * BAR + 18
        length = max(min(value / full, 1) * room, 1)
        parts += [text(names - 8, y + 12, name, "end"), text(names + room + 8, y + 12, says)]
        whole = f"<title>{escape(f'{name}: {says}')}</title>"
        parts.append(f'<rect x="{names:.1f}" y="{y}" width="{length:.1f}" height="{BAR - 5}" class="bar c{color}">{whole}</rect>')
    if mark is not None:
        x = names + mark / full * room
        parts += [line((x, 14), (x, height), "mark"), text(x, 11, "limit", "middle", "note")]
    return svg(width, height, parts, title)


def legend(names: dict[str, int]) -> str:
    """Which colour is what."""
    return '<p class="legend">' + "".join(f'<span><i class="c{color}"></i>{escape(name)}</span>' for name, color in names.items()) + "</p>"
