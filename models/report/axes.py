"""A frame with two scales, drawn as inline SVG; its colours and lines come from the page's CSS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from markupsafe import Markup, escape

__all__ = ["SHAPES", "Axes", "number"]

# Corners around a point; a lone point is drawn by the round end of a line.
SHAPES: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "dot": ((0, 0),),
    "triangle": ((0, -1.25), (1.1, 0.75), (-1.1, 0.75)),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
}


class Axes:
    """A frame with two linear scales, drawn into from back to front."""

    def __init__(
        self,
        size: tuple[float, float],
        x: tuple[float, float] = (0, 1),
        y: tuple[float, float] = (0, 1),
        *,
        margins: tuple[float, float, float, float] = (10, 12, 46, 64),
    ) -> None:
        self._top, right, bottom, self._left = margins
        self._width, self._height = size
        self._total = (self._left + size[0] + right, self._top + size[1] + bottom)
        self._x, self._y = x, y
        self._parts: list[Markup] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the data is in the picture."""
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return self._left + across * self._width, self._top + (1 - up) * self._height

    def ticks(self, axis: str, marks: Sequence[tuple[float, str]], title: str) -> None:
        """Draw a scale with its grid lines and its title."""
        for value, label in marks:
            if axis == "x":
                self.line([(value, self._y[0]), (value, self._y[1])], "grid")
                x, y = self.at(value, self._y[0])
                self._text(x, y + 17, label, "tick")
            else:
                self.line([(self._x[0], value), (self._x[1], value)], "grid")
                x, y = self.at(self._x[0], value)
                self._text(x - 8, y + 4, label, "tick end")
        if axis == "x":
            self._text(self._left + self._width / 2, self._total[1] - 8, title, "axis")
        else:
            middle = self._top + self._height / 2
            self._parts.append(
                Markup(
                    '<text class="axis" transform="translate(14 {}) rotate(-90)">{}</text>'
                ).format(number(middle), title)
            )

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line through points of the data."""
        self._parts.append(
            Markup('<polyline class="{}" points="{}"/>').format(kind, self._path(points))
        )

    def area(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Fill a polygon between points of the data."""
        self._parts.append(
            Markup('<polygon class="{}" points="{}"/>').format(kind, self._path(points))
        )

    def dot(self, x: float, y: float, kind: str, radius: float = 4.5) -> None:
        """Mark a point of the data."""
        across, down = self.at(x, y)
        self._parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(
                kind, number(across), number(down), number(radius)
            )
        )

    def marks(
        self, points: Iterable[tuple[float, float]], kind: str, shape: str = "dot", size: float = 3
    ) -> None:
        """Mark many points of the data by one path, in a shape that tells kinds apart in grey."""
        outline = SHAPES[shape]
        drawn = []
        for x, y in points:
            across, down = self.at(x, y)
            corners = [(across + dx * size, down + dy * size) for dx, dy in outline]
            path = "L".join(f"{number(right)} {number(below)}" for right, below in corners)
            drawn.append(f"M{path}Z" if len(corners) > 1 else f"M{path}h0")
        if drawn:
            self._parts.append(Markup('<path class="{}" d="{}"/>').format(kind, "".join(drawn)))

    def label(
        self, x: float, y: float, text: str, kind: str, shift: tuple[float, float] = (0, 0)
    ) -> None:
        """Write beside a point of the data."""
        across, down = self.at(x, y)
        self._text(across + shift[0], down + shift[1], text, kind)

    def note(self, x: float, y: float, text: str, shift: tuple[float, float] = (0, 0)) -> None:
        """Write a word beside a mark, with a halo so that lines beneath don't cross it."""
        self.label(x, y, text, "tick start halo", shift)

    def svg(self, description: str, *, largest: float = 1) -> Markup:
        """Give the picture, with a sentence for those who can't see it."""
        width, height = (number(side) for side in self._total)
        widest = number(largest * self._total[0])
        return Markup(
            '<svg viewBox="0 0 {} {}" style="max-width:{}px" role="img" aria-label="{}">{}</svg>'
        ).format(width, height, widest, description, Markup("").join(self._parts))

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._parts.append(
            Markup('<text class="{}" x="{}" y="{}">{}</text>').format(
                kind, number(x), number(y), text
            )
        )

    def _path(self, points: Sequence[tuple[float, float]]) -> Markup:
        shown: list[str] = []
        for x, y in points:
            across, down = self.at(x, y)
            pair = f"{number(across)},{number(down)}"
            if not shown or shown[-1] != pair:
                shown.append(pair)
        return escape(" ".join(shown))


def number(value: float) -> str:
    """Write a length of the picture: tenths of a pixel are enough."""
    return f"{value:.1f}".removesuffix(".0")
