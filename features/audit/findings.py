"""The data under suspicion: copies, leaks, contradictions, oddities and shortcuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.audit.approximate import Kept, Recall
from features.audit.confounders import Confounder, find_confounders, name_properties
from features.audit.groups import components
from features.audit.pictures import Pictures, read_pictures
from features.audit.similarity import MANY, Link, Neighbours, by_index, find_links, neighbours
from features.cache.contents import Features, Items
from features.cache.rows import Rows, require_finite
from features.datasets.splits import SPLITS
from features.errors import CacheError

__all__ = ["Audit", "Group", "Member", "Oddity", "Trouble", "audit"]

# In robust standard deviations of the logarithm of the distance to the nearest images.
_UNLIKE: Final = 3.0
_NEAREST: Final = 5
_FLAT: Final = 3.0
_MEMBER: Final = ("path", "sha256", "label", "split")

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Member:
    """An image file of a group."""

    path: str
    sha256: str
    label: str
    split: str


@dataclass(frozen=True)
class Group:
    """Images that show the same thing.

    Parameters
    ----------
    name : str
        The same whenever the group's first image is in it.
    members : tuple of Member
    exact : bool
        Whether all are the same file, byte for byte.
    similarity : float or None
        Correlation of the pictures along the weakest link; none without pictures.
    distance : float
        Largest cosine distance of embeddings along a link.
    """

    name: str
    members: tuple[Member, ...]
    exact: bool
    similarity: float | None
    distance: float

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the group is in; images without a split are trained on."""
        return tuple(sorted({member.split or "train" for member in self.members}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that its images have."""
        return tuple(sorted({member.label for member in self.members if member.label}))

    @property
    def crosses(self) -> bool:
        """Whether it is in several splits."""
        return len(self.splits) > 1

    @property
    def contradicts(self) -> bool:
        """Whether its labels differ."""
        return len(self.labels) > 1


@dataclass(frozen=True)
class Oddity:
    """An image unlike the rest; `score` is in robust standard deviations above the median."""

    member: Member
    distance: float
    score: float


@dataclass(frozen=True)
class Trouble:
    """An image that is broken, tiny or empty."""

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Audit:
    """What was found in a feature file and its images.

    Parameters
    ----------
    fingerprint : str
    marks : tuple of str
    images, distinct : int
        Image files, and how many differ.
    counts : dict of str to dict of str to int
        Images by split and label.
    groups : tuple of Group
        Crossing ones first, then contradicting ones, then the rest by size.
    oddities : tuple of Oddity
    troubles : tuple of Trouble
    confounders : tuple of Confounder
    folder : str
        Where the images were looked for.
    seen : int
        How many distinct images were looked at there; 0 if only embeddings were compared.
    notes : tuple of str
    names : ndarray of str, shape (items,)
        The group of each item of the feature file; empty where it is alone.
    recall : Recall or None
        How many of the true neighbours were looked at; all, if None.
    """

    fingerprint: str
    marks: tuple[str, ...]
    images: int
    distinct: int
    counts: dict[str, dict[str, int]]
    groups: tuple[Group, ...]
    oddities: tuple[Oddity, ...]
    troubles: tuple[Trouble, ...]
    confounders: tuple[Confounder, ...]
    folder: str
    seen: int
    notes: tuple[str, ...]
    names: npt.NDArray[np.str_]
    recall: Recall | None = None

    @property
    def leaks(self) -> tuple[Group, ...]:
        """Groups that are in several splits."""
        return tuple(group for group in self.groups if group.crosses)

    @property
    def contradictions(self) -> tuple[Group, ...]:
        """Groups whose labels differ."""
        return tuple(group for group in self.groups if group.contradicts)

    def as_dict(self) -> dict[str, Any]:
        """Give everything but the names per item as JSON knows it."""
        found = {name: value for name, value in vars(self).items() if name != "names"}
        for name in ("oddities", "troubles", "confounders"):
            found[name] = [asdict(entry) for entry in found[name]]
        found["recall"] = None if self.recall is None else asdict(self.recall)
        found["groups"] = [
            {**asdict(group), "splits": group.splits, "labels": group.labels}
            for group in self.groups
        ]
        found["leaks"] = [group.name for group in self.leaks]
        found["contradictions"] = [group.name for group in self.contradictions]
        return found


def audit(
    features: Features,
    images: Path | None = None,
    progress: Progress | None = None,
    *,
    way: str = "auto",
    beside: Path | None = None,
) -> Audit:
    """Look for what spoils a comparison.

    Parameters
    ----------
    features : Features
    images : Path, optional
        The folder of the images; by default where they were at extraction.
    progress : callable, optional
        Told a step and how much of how much of it is done.
    way : str, optional
        How neighbours are searched, one of `features.audit.similarity.WAYS`.
    beside : Path, optional
        The feature file, beside which an index of neighbours is kept.

    Returns
    -------
    Audit

    Raises
    ------
    CacheError
        If `images` is given and isn't a folder, or no image is left, or an embedding isn't finite,
        or an index is wanted and the extra for it is missing.
    """
    tell = progress or (lambda step, done, total: None)
    there = np.flatnonzero(features.items.path != "")
    present = features.items.take(there)
    if not len(present):
        raise CacheError("the feature file has no images to audit: extract some first")
    _, first, place = np.unique(present.row, return_index=True, return_inverse=True)
    distinct = present.take(first)
    indexed = by_index(len(distinct), way)
    rows = features.rows(distinct)
    # Among many they stay where they are, and neighbours are searched on a projection.
    embeddings = rows if len(distinct) >= MANY else rows.whole()
    require_finite(rows if isinstance(embeddings, Rows) else Rows(embeddings), distinct.path)
    folder = images if images is not None else Path(features.images)
    if images is not None and not images.exists():
        raise CacheError(f"there is no folder {images}: give the one that holds the images")
    pictures, notes = _look(folder, distinct, tell)
    tell("comparing embeddings", 0, 1)
    kept = Kept.of(beside, features.fingerprint, distinct.sha256) if beside and indexed else None
    near = neighbours(
        embeddings,
        way=way,
        kept=kept,
        progress=lambda done, total: tell("comparing embeddings", done, total),
    )
    notes += near.notes()
    links = find_links(
        embeddings, near, pictures, lambda done, total: tell("comparing pictures", done, total)
    )
    joined = components(len(distinct), links)
    groups = _groups(present, place, joined, links)
    names = np.zeros(len(features.items), "U21")
    for group, files in groups:
        names[there[files]] = group.name
    described = sorted(
        (group for group, _ in groups),
        key=lambda group: (
            not group.crosses, not group.contradicts, -len(group.members), group.members[0].path,
        ),
    )  # fmt: skip
    return Audit(
        fingerprint=features.fingerprint,
        marks=features.marks,
        images=len(present),
        distinct=len(distinct),
        counts=_counts(present),
        groups=tuple(described),
        oddities=tuple(_oddities(distinct, near, joined)),
        troubles=tuple(_troubles(features, distinct, pictures)),
        confounders=tuple(_confounders(distinct, pictures)),
        folder=str(folder),
        seen=0 if pictures is None else int(pictures.seen.sum()),
        notes=tuple(notes),
        names=names,
        recall=near.recall,
    )


def _look(folder: Path, distinct: Items, tell: Progress) -> tuple[Pictures | None, list[str]]:
    alone = "so copies that were turned, cropped or recompressed may be missed"
    if not str(folder) or not folder.exists():
        return None, [
            f"The images are not in {folder}: only embeddings were compared, {alone}. "
            "Name their folder with --images."
        ]
    pictures = read_pictures(
        folder,
        distinct.path.tolist(),
        distinct.sha256.tolist(),
        lambda done, total: tell("reading pictures", done, total),
    )
    if not pictures.seen.any():
        return None, [
            f"None of the images could be read in {folder}: only embeddings were compared, "
            f"{alone}. Name their folder with --images."
        ]
    notes = []
    if pictures.faults:
        example = min(pictures.faults)
        notes.append(
            f"{len(pictures.faults)} of {len(distinct)} images could not be examined (such as "
            f"{distinct.path[example]}: {pictures.faults[example]}): only their embeddings were "
            f"compared, {alone}."
        )
    return pictures, notes


def _counts(items: Items) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for split in (*SPLITS, ""):
        labels, counts = np.unique(items.label[items.split == split], return_counts=True)
        if len(labels):
            found[split] = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    return found


def _groups(
    present: Items,
    place: npt.NDArray[np.int64],
    joined: list[list[int]],
    links: list[Link],
) -> list[tuple[Group, npt.NDArray[np.int64]]]:
    owner = np.arange(place.max() + 1)
    for near in joined:
        owner[near] = near[0]
    within: dict[int, list[Link]] = {}
    for link in links:
        if owner[link.first] == owner[link.second]:
            within.setdefault(int(owner[link.first]), []).append(link)
    order = np.argsort(owner[place], kind="stable")
    numbers, starts = np.unique(owner[place][order], return_index=True)
    found = []
    for number, files in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        if len(files) > 1:
            members = tuple(
                Member(*(str(getattr(present, name)[file]) for name in _MEMBER)) for file in files
            )
            found.append((_group(members, within.get(number, [])), files))
    return found


def _group(members: tuple[Member, ...], links: list[Link]) -> Group:
    likeness = [link.similarity for link in links if link.similarity is not None]
    return Group(
        name=f"same-{min(member.sha256 for member in members)[:16]}",
        members=members,
        exact=not links,
        similarity=(1.0 if not links else None) if not likeness else min(likeness),
        distance=max((link.distance for link in links), default=0.0),
    )


def _oddities(distinct: Items, near: Neighbours, joined: list[list[int]]) -> list[Oddity]:
    n = len(distinct)
    group = np.arange(n)
    for members in joined:
        group[members] = members[0]
    other = group[near.index] != group[:, None]
    # Copies of an odd image must not make it look common.
    taken = other & (other.cumsum(1) <= _NEAREST)
    if n < 20:
        return []
    distance = np.where(taken, near.distance, 0).sum(1) / np.maximum(taken.sum(1), 1)
    level = np.log(np.maximum(distance, 1e-9))
    middle = np.median(level)
    spread = 1.4826 * np.median(np.abs(level - middle))
    score = (level - middle) / max(spread, 1e-9)
    score[~taken.any(1)] = 0
    order = np.argsort(-score, kind="stable")
    return [
        Oddity(_member(distinct, place), float(distance[place]), float(score[place]))
        for place in order
        if score[place] > _UNLIKE
    ]


def _member(items: Items, place: int) -> Member:
    return Member(*(str(getattr(items, name)[place]) for name in _MEMBER))


def _troubles(features: Features, distinct: Items, pictures: Pictures | None) -> list[Trouble]:
    found = [Trouble(failure.path, failure.code, failure.reason) for failure in features.failures]
    least = features.spec.input_size / 2
    for place in range(len(distinct)):
        width, height = int(distinct.width[place]), int(distinct.height[place])
        if min(width, height) < least:
            reason = f"{width} x {height} pixels, the network takes {features.spec.input_size}"
            found.append(Trouble(str(distinct.path[place]), "tiny", reason))
        if pictures is not None and pictures.seen[place] and pictures.contrast[place] < _FLAT:
            reason = "hardly anything is to be seen: all pixels have nearly one brightness"
            found.append(Trouble(str(distinct.path[place]), "empty", reason))
    return found


def _confounders(distinct: Items, pictures: Pictures | None) -> list[Confounder]:
    width, height = distinct.width.astype(float), distinct.height.astype(float)
    properties = {
        "pixels in the image": width * height,
        "aspect ratio": width / np.maximum(height, 1),
        **name_properties(distinct.path.tolist()),
    }
    if pictures is not None:
        seen = {
            "file size": pictures.file_size,
            "bytes per pixel": pictures.file_size / np.maximum(width * height, 1),
            "mean brightness": pictures.brightness,
            "contrast": pictures.contrast,
            "brightness of the corners": pictures.corners,
        }
        for name, values in seen.items():
            properties[name] = np.where(pictures.seen, values, np.nan)
    return find_confounders(distinct.label.tolist(), properties)
