"""Where in an image a score comes from: what it would be without each place.

Embeddings are means (and deviations) over positions. Leaving a position out of them is exact for
any head and needs no other pass of the network. An SVM's small effects are told by its kernel's
slope, to within about a hundredth of the largest one (`models.inference.scoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from features.embedding.extractor import Look
from features.embedding.joined import JoinedSpec
from features.embedding.specification import ExtractorSpec
from features.images.decoding import Frame
from features.images.lesion import WHOLE, Box
from models.inference.scoring import Changes, changes_in_full

__all__ = ["Evidence", "LayerEvidence", "Seen", "explain"]

Floats = npt.NDArray[np.float32]
Score = Callable[[Floats], npt.NDArray[np.floating]]

# What is left out at a time is about so large a part of each side. A fine grid's single position
# weighs too little for heads that decide by steps, such as trees.
_PART: Final = 8
_FINEST: Final = 64


@dataclass(frozen=True, eq=False)
class Seen:
    """What the networks saw of an image in one pass: for its verdict, and for what explains it.

    Parameters
    ----------
    looks : sequence of (sequence of Look)
        As `features.embedding.joined.JoinedExtractor.look` gives them.
    boxes : tuple of Box
        Where in the image each frame lies.
    """

    looks: Sequence[Sequence[Look]]
    boxes: tuple[Box, ...]

    @property
    def row(self) -> Floats:
        """The embedding as a feature file keeps it, float32 (spec.width,)."""
        return np.concatenate([look.embeddings[0] for views in self.looks for look in views])

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(
            part.nbytes
            for views in self.looks
            for look in views
            for part in (look.embeddings, *look.maps.values())
        )


@dataclass(frozen=True)
class LayerEvidence:
    """Of one layer at one size of the image.

    Parameters
    ----------
    network : str
    layer : str
    frame : Frame
        What the network saw.
    box : Box
        Where in the image that lies.
    effect : ndarray of float32, shape (height, width)
        The score less what it is without the patch around each position.
    patch : int
        Side of that patch in positions; at the edge of the image it is cut off.
    """

    network: str
    layer: str
    frame: Frame
    box: Box
    effect: Floats
    patch: int


@dataclass(frozen=True)
class Evidence:
    """How much each place of an image adds to its score.

    Parameters
    ----------
    score : float
        Of the whole image.
    effect : ndarray of float32, shape (height, width)
        All layers of all networks together, on a grid over the image as fine as the finest of
        theirs; positive where the place makes the image more suspicious. A single 0 if no layer is
        spread over the image.
    layers : tuple of LayerEvidence
        Each that is spread over the image, at its own resolution.
    """

    score: float
    effect: Floats
    layers: tuple[LayerEvidence, ...]


def explain(
    spec: JoinedSpec,
    looks: Sequence[Sequence[Look]],
    score: Score,
    boxes: Sequence[Box] = (),
    *,
    changes: Callable[[Floats], Changes] | None = None,
    at_once: int = 2,
) -> Evidence:
    """Leave every place of an image out of its embedding, and see what that does to the score.

    Parameters
    ----------
    spec : JoinedSpec
    looks : sequence of (sequence of Look)
        Of a single image, for each network one for each view, as
        `features.embedding.joined.JoinedExtractor.look` gives them.
    score : callable
        From what heads are given, shape (n, spec.head_dim), to scores, shape (n,).
    boxes : sequence of Box, optional
        Where in the image each of ``spec.frames`` lies, as `JoinedSpec.decode` tells; by default
        all are the whole image.
    changes : callable, optional
        As `models.inference.scoring.changes_of` for the head that `score` asks: for heads that
        needn't look again at what stays.
    at_once : int, optional
        Layers that are worked on at the same time; 1 starts no threads.

    Returns
    -------
    Evidence

    Notes
    -----
    The exact form of what Zhou et al. (Learning deep features for discriminative localization,
    CVPR 2016) do for linear heads on averages: for those it is their map, up to a factor that is
    the same everywhere. A place is left out in all views at once and in one layer at a time; what
    several networks' layers say of it is added up.
    """
    seen = [look.embeddings for views in looks for look in views]
    whole = spec.combine(np.concatenate(seen, axis=1))
    changed = changes(whole) if changes else changes_in_full(score, whole)
    # With one number put in the place of itself.
    before = float(changed(0, whole[:, :1])[0])
    left = iter(boxes or [WHOLE] * len(spec.frames))
    tasks = [
        task
        for each, views, columns in zip(spec.networks, looks, spec.columns, strict=True)
        for task in _tasks(each, views, [next(left) for _ in each.frames], columns.start)
    ]

    def leave_out(task: _Task) -> LayerEvidence:
        maps = task.maps
        height, width = maps.shape[1:3]
        patch = max(1, 1 + 2 * round((max(height, width) / _PART - 1) / 2))
        rows = _without(maps, patch, task.spec.pooling)
        effect = (before - changed(task.start, rows)).reshape(height, width).astype(np.float32)
        return LayerEvidence(task.spec.network, task.layer, task.frame, task.box, effect, patch)

    if at_once == 1:
        found = [leave_out(task) for task in tasks]
    else:
        # One pools while another is scored.
        with ThreadPoolExecutor(at_once) as workers:
            found = list(workers.map(leave_out, tasks))
    return Evidence(before, _together(found), tuple(found))


@dataclass(frozen=True)
class _Task:
    """A layer whose places are to be left out: its maps, and where its columns begin."""

    spec: ExtractorSpec
    layer: str
    frame: Frame
    box: Box
    maps: Floats
    start: int


def _tasks(
    spec: ExtractorSpec, looks: Sequence[Look], boxes: Sequence[Box], start: int
) -> list[_Task]:
    sums = len(spec.pooling.split("+"))
    tasks = []
    for at, (frame, box) in enumerate(zip(spec.frames, boxes, strict=True)):
        views = [look for look, view in zip(looks, spec.looks, strict=True) if view.frame == frame]
        begin = start + at * spec.dim
        for layer in spec.layers:
            maps = np.stack([look.maps[layer][0] for look in views])
            if layer in spec.spread:
                tasks.append(_Task(spec, layer, frame, box, maps, begin))
            begin += maps.shape[-1] * sums
    return tasks


def _without(maps: Floats, patch: int, pooling: str) -> Floats:
    """Pool maps (views, height, width, channels) again without each patch, and average the views.

    Gives an array of shape (height * width, pooled channels), positions in order.
    """
    _, height, width, channels = maps.shape
    left = height * width - _sums(np.ones((height, width, 1), np.float32), patch)
    # Where the patch is the whole image, what is left is taken to be nothing at all.
    share = np.where(left < 0.5, 0, 1 / np.maximum(left, 1)).astype(np.float32)
    sums = len(pooling.split("+"))
    found = np.zeros((height, width, sums, channels), np.float32)
    for view in maps:
        # In single precision these are exact enough because they are small.
        centre = view.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        centred = view - centre
        mean = _sums(centred, patch)
        mean *= -share
        found[:, :, 0] += mean
        found[:, :, 0] += centre
        if sums == 2:
            squares = np.square(centred, out=centred)
            rest = squares.sum(axis=(0, 1)) - _sums(squares, patch)
            rest *= share
            rest -= np.square(mean, out=mean)
            found[:, :, 1] += np.sqrt(np.maximum(rest, 0, out=rest), out=rest)
    found /= len(maps)
    rows: Floats = found.reshape(height * width, -1)
    return rows


def _sums(values: Floats, patch: int) -> Floats:
    """Sum values (height, width, channels) over the patch around each position."""
    if patch == 1:
        return np.array(values)
    height, width, channels = values.shape
    rows = (_near(width, patch) @ values).reshape(height, -1)
    return np.asarray((_near(height, patch) @ rows).reshape(height, width, channels))


def _near(count: int, patch: int) -> Floats:
    """Give 1 where two of `count` positions are within half a patch of each other, or else 0."""
    at = np.arange(count)
    return np.asarray(np.abs(at[:, np.newaxis] - at) <= patch // 2, np.float32)


def _together(found: Sequence[LayerEvidence]) -> Floats:
    """Add the layers up over the image, each spread evenly over the places that were left out."""
    if not found:
        return np.zeros((1, 1), np.float32)
    finest = max(max(each.effect.shape) / (each.box.right - each.box.left) for each in found)
    side = min(round(finest), _FINEST)
    middles = (np.arange(side) + 0.5) / side
    total = np.zeros((side, side))
    for each in found:
        box, (height, width) = each.box, each.effect.shape
        y = (middles - box.top) / (box.bottom - box.top)
        x = (middles - box.left) / (box.right - box.left)
        at = np.meshgrid(y * height - 0.5, x * width - 0.5, indexing="ij")
        within = np.outer((y > 0) & (y < 1), (x > 0) & (x < 1))
        part = each.patch**2 / each.effect.size
        part *= (box.right - box.left) * (box.bottom - box.top)
        fine = map_coordinates(each.effect, at, order=1, mode="nearest")
        # A patch of an equal part of the image counts the same in every layer and frame.
        total += np.where(within, fine, 0) / (part * side**2)
    return total.astype(np.float32)
