"""Views of an image: turned or mirrored, at one size or several, and how they are summed up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from features.errors import ExtractorError
from features.images.colour import AS_IS
from features.images.decoding import BILINEAR, Frame

__all__ = ["TURNS", "View", "combine", "parse_views", "view_names"]

_NAME: Final = re.compile(
    r"(?:(?P<region>lesion|centre[01](?:\.[0-9]{1,4})?):)?(?P<turn>[a-z0-9-]+)(?:@(?P<size>[0-9]{1,5}))?(?:~(?P<resampling>bicubic))?(?P<draft>~draft)?"
)
_AXES: Final = (-3, -2)  # height and width of (…, height, width, channels)

Turn = Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]

TURNS: Final = MappingProxyType[str, Turn](
    {
        "identity": lambda maps: maps,
        "flip-h": lambda maps: np.flip(maps, _AXES[1]),
        "flip-v": lambda maps: np.flip(maps, _AXES[0]),
        "rotate-180": lambda maps: np.flip(maps, _AXES),
        "transpose": lambda maps: np.swapaxes(maps, *_AXES),
        "rotate-90": lambda maps: np.rot90(maps, 1, _AXES),
        "rotate-270": lambda maps: np.rot90(maps, 3, _AXES),
        "transverse": lambda maps: np.flip(np.swapaxes(maps, *_AXES), _AXES),
    }
)
_BACK: Final = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}


@dataclass(frozen=True)
class View:
    """How an image is shown to the network.

    Parameters
    ----------
    turn : str
        Key in `TURNS`: one of the eight ways to lay a square.
    size : int
        Side of the square in pixels.
    region, colour, resampling, draft
        What of the image, how it is coloured, how its pixels are interpolated, and whether it may
        be read smaller: see `features.images.decoding.Frame`.
    """

    turn: str
    size: int
    region: str = "whole"
    colour: str = AS_IS
    resampling: str = BILINEAR
    draft: bool = False

    @property
    def frame(self) -> Frame:
        """What the image must be decoded to."""
        return Frame(self.size, self.region, self.colour, self.resampling, self.draft)

    def show(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Turn images (…, height, width, channels)."""
        return np.ascontiguousarray(TURNS[self.turn](pixels), np.uint8)

    def undo(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn maps (…, height, width, channels) of this view back to lie as the image does."""
        return np.asarray(TURNS[_BACK.get(self.turn, self.turn)](maps), np.float32)


def view_names(turns: Sequence[str], sizes: Sequence[int]) -> tuple[str, ...]:
    """Name every turn at every size; the first size goes without saying.

    Parameters
    ----------
    turns : sequence of str
        Keys of `TURNS`.
    sizes : sequence of int
        In pixels.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> view_names(["identity", "flip-h"], [299, 448])
    ('identity', 'flip-h', 'identity@448', 'flip-h@448')
    """
    parts = [turn.partition("~") for turn in turns]
    return tuple(
        name + (f"@{size}" if size != sizes[0] else "") + tilde + how
        for size in sizes
        for name, tilde, how in parts
    )


def parse_views(names: Sequence[str], input_size: int, colour: str = AS_IS) -> tuple[View, ...]:
    """Read views from their names.

    Parameters
    ----------
    names : sequence of str
        ``TURN``, ``TURN@SIZE``, or either with ``lesion:`` before it, or ``centre0.875:`` for the
        middle square of that part of the shorter side; ``~bicubic`` at the end interpolates so
        instead of bilinearly, ``~draft`` cuts a part of a large JPEG out of what the whole image
        is made of, where that leaves it as many pixels as the view has.
    input_size : int
        The size of those that name none, in pixels.
    colour : {"as-is", "shades-of-grey"}
        Of all of them.

    Returns
    -------
    tuple of View

    Raises
    ------
    ExtractorError
        If a name is not one of a view, is there twice, or none is of the input size.
    """
    views = []
    for name in names:
        found = _NAME.fullmatch(name)
        if not found or found["turn"] not in TURNS or (found["draft"] and not found["region"]):
            raise ExtractorError(
                f"got view {name!r}, expected one of {', '.join(TURNS)}, which may have lesion: "
                "or centre0.875: before it, @PIXELS after it and ~bicubic at the end, and ~draft "
                "after that where it is of a part of the image"
            )
        size = int(found["size"] or input_size)
        resampling = found["resampling"] or BILINEAR
        views.append(
            View(
                found["turn"],
                size,
                found["region"] or "whole",
                colour,
                resampling,
                bool(found["draft"]),
            )
        )
    if len(set(views)) < len(views):
        raise ExtractorError(f"got the views {', '.join(names)}: name each of them once")
    if not views or views[0].size != input_size:
        raise ExtractorError(
            f"got the views {', '.join(names) or 'none'}: the first must be of the input's size"
        )
    return tuple(views)


def combine(
    rows: npt.NDArray[np.floating], views: Sequence[View], dim: int
) -> npt.NDArray[np.float32]:
    """Average the views of each frame, and put the frames side by side: what heads are given.

    Parameters
    ----------
    rows : ndarray, shape (n, len(views) * dim)
        The embeddings of all views of each image, one after the other.
    views : sequence of View
    dim : int
        Length of the embedding of a view.

    Returns
    -------
    ndarray of float32, shape (n, number of frames * dim)
    """
    frames = dict.fromkeys(view.frame for view in views)
    if len(frames) == len(views):
        return np.asarray(rows, np.float32)
    each = rows.reshape(len(rows), len(views), dim)
    return np.concatenate(
        [
            each[:, [view.frame == frame for view in views]].mean(axis=1, dtype=np.float32)
            for frame in frames
        ],
        axis=1,
    )
