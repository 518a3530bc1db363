"""The confusion matrix as inline SVG, in the colours of the page that it stands in."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from models.multiclass_results import ClassEvaluation

__all__ = ["confusion_plot"]

_CELL: Final = 58
_LETTER: Final = 7.3
_SHORTEST: Final = 14
# The darkest cell still lets the page's ink be read on it.
_DARKEST: Final = 0.62


def confusion_plot(found: ClassEvaluation) -> Markup:
    """Draw the images by true and most likely class.

    Parameters
    ----------
    found : ClassEvaluation

    Returns
    -------
    Markup
        An SVG element; a cell is the darker, the larger its share of its row.
    """
    labels = [_short(label) for label in found.labels]
    left = 34 + _LETTER * max(map(len, labels))
    side = _CELL * len(labels)
    parts = [_text(left + side / 2, side + 58, "Most likely class", "axis")]
    parts.append(
        Markup(
            '<text class="axis" transform="translate(14 {:.1f}) rotate(-90)">True class</text>'
        ).format(side / 2)
    )
    for row, counts in enumerate(found.confusion.tolist()):
        middle = (row + 0.5) * _CELL
        parts.append(_text(left - 8, middle + 4, labels[row], "name end"))
        parts.append(
            Markup(
                '<text class="name" transform="translate({:.1f} {}) rotate(-28)" '
                'style="text-anchor:end">{}</text>'
            ).format(left + middle + 6, side + 18, labels[row])
        )
        for column, count in enumerate(counts):
            share = count / max(sum(counts), 1)
            x = left + column * _CELL
            parts.append(
                Markup(
                    '<rect class="cell{}" x="{:.1f}" y="{}" width="{}" height="{}" '
                    'style="fill-opacity:{:.3f}"/>'
                ).format(
                    " right" if row == column else "",
                    x + 1,
                    row * _CELL + 1,
                    _CELL - 2,
                    _CELL - 2,
                    _DARKEST * share,
                )
            )
            parts.append(_text(x + _CELL / 2, middle, str(count), "count"))
            if count:
                parts.append(_text(x + _CELL / 2, middle + 15, f"{100 * share:.0f} %", "of-row"))
    width, height = left + side + 4, side + 66
    told = f"Confusion matrix of {len(labels)} classes: rows are true, columns most likely classes"
    return Markup(
        '<svg class="confusion" viewBox="0 0 {:.0f} {:.0f}" style="max-width:{:.0f}px" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(width, height, width, told, Markup("").join(parts))


def _short(label: str) -> str:
    return label if len(label) <= _SHORTEST else label[: _SHORTEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x, y, text)
