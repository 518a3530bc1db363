"""Which images a comparison trains on and which it judges by; nothing leaks between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from features.cache.contents import Features, Items
from features.cache.rows import Rows, require_finite
from features.datasets.splits import SPLITS
from features.datasets.vocabulary import canonical_class, may_be, same_class
from features.presenting import SPLIT_WORDS
from models.errors import TrainingError
from models.evaluation.values import Labels
from models.machine import available, needed_at_once

__all__ = [
    "ON_LEAK",
    "Part",
    "Selection",
    "belonging_together",
    "distinct",
    "is_positive",
    "select",
]

ON_LEAK: Final = ("drop", "group", "ignore")


@dataclass(frozen=True)
class Part:
    """The distinct images of a split.

    Parameters
    ----------
    X : ndarray of float32 or Rows, shape (n, d)
        Embeddings; `Rows` where they are too many to work on all at once.
    y : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    groups : ndarray of int, shape (n,)
        Equal for images that belong together.
    items : Items
        What else is known of each.
    """

    X: npt.NDArray[np.float32] | Rows
    y: Labels
    groups: npt.NDArray[np.int64]
    items: Items


@dataclass(frozen=True)
class Selection:
    """What to train on, what to judge by, and what was left out.

    Parameters
    ----------
    labels : tuple of str
        (negative, positive).
    parts : dict of str to Part
        ``"train"`` always; ``"valid"`` and ``"test"`` where the data has them.
    counts : dict of str to dict of str to int
        Images by part and label.
    notes : tuple of str
    """

    labels: tuple[str, str]
    parts: dict[str, Part]
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]


def select(
    features: Features,
    *,
    positive: str,
    folds: int,
    groups: npt.NDArray[np.str_] | None = None,
    on_leak: str = "drop",
    memory: int = 0,
    threads: int = 1,
) -> Selection:
    """Pick the images of each part.

    Labelled images without a split are trained on. An image that occurs several times is used
    once; one whose labels contradict each other is not used; one that belongs together with an
    image of the validation or test split is not trained on unless `on_leak` says so. Entries
    whose file is gone are ignored.

    Parameters
    ----------
    features : Features
    positive : str
        Name of the positive class, in any spelling: ``"mel"`` is ``"melanoma"`` too.
    folds : int
        Of the cross-validation that is to come.
    groups : ndarray of str, shape (items,), optional
        Images that belong together besides those whose `group` says so; empty where alone.
    on_leak : {"drop", "group", "ignore"}
        What becomes of training images that belong together with an image of another split:
        ``"drop"`` leaves them out; ``"group"`` trains on them; ``"ignore"`` trains on them and
        doesn't keep any images together in the folds either.
    memory : int, optional
        Bytes that tuning may take; where it would take more, embeddings are given as `Rows`. As
        much as there is by default.
    threads : int
        That tuning will use.

    Returns
    -------
    Selection

    Raises
    ------
    TrainingError
        If nothing is labelled, no class is called `positive`, there is one class only or one
        with fewer images than folds, or an embedding is not finite.
    """
    there = features.items.path != ""
    present = features.items.take(there)
    labelled = present.take(present.label != "")
    if len(labelled) == 0:
        raise TrainingError(
            f"none of the {len(present)} images has a label: extract from one folder per class, "
            "or with --labels CSV"
        )
    names = _class_names(labelled, positive)
    known = [present.group] if groups is None else [present.group, groups[there]]
    together = belonging_together(present.row, known, len(features.embeddings))
    notes = _alike(labelled, names[1])
    if names[1].casefold() != positive.casefold():
        notes.append(f"No class is called {positive!r}: {names[1]!r} was taken for it.")
    kept: dict[str, Items] = {}
    for part, held in _by_part(labelled).items():
        kept[part] = _distinct(held, names[1], part, notes)
    notes += _new_classes(kept, names[1])
    kept["train"] = _without_leaks(kept["train"], present, together, on_leak, notes)
    if on_leak == "ignore":
        together = np.arange(len(together))
    _require_enough(kept["train"], together, names, folds)
    counts = {
        part: dict(sorted(Counter(items.label.tolist()).items())) for part, items in kept.items()
    }
    if len(found := sorted({name for part in counts.values() for name in part})) > 2:
        notes.append(
            f"The data has {len(found)} classes ({', '.join(found)}): {names[1]} is told from all "
            "the others together."
        )
    missing = [name for name in ("valid", "test") if name not in kept]
    if missing:
        told = " and no ".join(SPLIT_WORDS[name] for name in missing)
        notes.append(f"The data has no {told} split.")
    rows = {part: features.rows(items) for part, items in kept.items()}
    allowed = memory or available()
    needed = needed_at_once(*rows["train"].shape, folds=folds, threads=threads)
    needed += sum(4 * len(items) * features.spec.head_dim for items in kept.values())
    if streamed := needed > allowed:
        notes.append(
            f"Heads were fitted to {len(kept['train']):,} images block by block, since all at once "
            f"they would take {needed / 2**30:.3g} GiB of memory, and there are "
            f"{allowed / 2**30:.3g}."
        )
    parts = {}
    for part, items in kept.items():
        X = rows[part].take(slice(None), memory=allowed) if streamed else rows[part].whole()
        if isinstance(X, Rows) or not np.isfinite(X).all():
            require_finite(rows[part], items.path)
        y = is_positive(items, names[1]).astype(np.int8)
        parts[part] = Part(X, y, together[items.row], items)
    return Selection(names, parts, counts, tuple(notes))


def _class_names(labelled: Items, positive: str) -> tuple[str, str]:
    names = np.unique(labelled.label).tolist()
    same = sorted(
        (found for found in names if same_class(found, positive)),
        key=lambda name: name.casefold() != positive.casefold(),
    )
    if not same:
        raise TrainingError(
            f"no class is called {positive!r}: the classes are {', '.join(map(repr, names))}; "
            "name the positive one with --positive"
        )
    rest = [found for found in names if found not in same]
    return (rest[0] if len(rest) == 1 else f"not {same[0]}"), same[0]


def _alike(labelled: Items, positive: str) -> list[str]:
    """Warn of classes that count as negative although their name says the positive one's."""
    counts = Counter(labelled.label.tolist())
    alike = {name: count for name, count in sorted(counts.items()) if may_be(name, positive)}
    if not alike:
        return []
    told = ", ".join(f"{name!r} ({count})" for name, count in alike.items())
    return [
        f"ATTENTION: {sum(alike.values())} images of {told} count as not {positive}, although they "
        "may be by their name: give each with --positive, too, or leave it out with --exclude."
    ]


def _new_classes(kept: Mapping[str, Items], positive: str) -> list[str]:
    """Tell of classes that training lacks; refuse where they may be the positive one's."""
    trained = {canonical_class(name) for name in kept["train"].label.tolist()}
    notes = []
    for part, items in kept.items():
        counts = Counter(items.label.tolist())
        new = {
            name: n for name, n in sorted(counts.items()) if canonical_class(name) not in trained
        }
        if not new:
            continue
        told = ", ".join(f"{name!r} ({n})" for name, n in new.items())
        if not is_positive(items, positive).any():
            raise TrainingError(
                f"no image of the {SPLIT_WORDS[part]} split is labelled {positive!r}, and training "
                f"knows nothing of {told}: say what each is by --merge CLASS=NAME, or leave it out "
                "with --exclude"
            )
        notes.append(
            f"Classes that training lacks count as not {positive} in the "
            f"{SPLIT_WORDS[part]} split: {told}."
        )
    return notes


def is_positive(items: Items, positive: str) -> npt.NDArray[np.bool_]:
    """Say of each item whether its label names the positive class, in any spelling."""
    names, places = np.unique(items.label, return_inverse=True)
    found: npt.NDArray[np.bool_] = np.array(
        [same_class(str(name), positive) for name in names], bool
    )[places]
    return found


@dataclass(frozen=True)
class Distinct:
    """Entries put together by image.

    Parameters
    ----------
    first : ndarray of int, shape (m,)
        Of each image the first entry.
    place : ndarray of int, shape (n,)
        Of each entry the image.
    times : ndarray of int, shape (m,)
        How many entries each image has.
    agreed : ndarray of bool, shape (m,)
        Whether they all say of an image that it is positive, or all that it is not.
    """

    first: npt.NDArray[np.intp]
    place: npt.NDArray[np.intp]
    times: npt.NDArray[np.intp]
    agreed: npt.NDArray[np.bool_]

    @property
    def kept(self) -> npt.NDArray[np.intp]:
        """One entry of each image on which they agree, in the order of the entries."""
        return np.sort(self.first[self.agreed])

    @property
    def repeats(self) -> int:
        """How many more entries those images have."""
        return int((self.times[self.agreed] - 1).sum())


def distinct(items: Items, positive: npt.NDArray[np.bool_]) -> Distinct:
    """Put entries of the same image together."""
    _, first, place = np.unique(items.row, return_index=True, return_inverse=True)
    times, yes = np.bincount(place), np.bincount(place, weights=positive)
    return Distinct(first, place, times, (yes == 0) | (yes == times))


def _by_part(labelled: Items) -> dict[str, Items]:
    part = np.where(labelled.split == "", "train", labelled.split)
    parts = {name: labelled.take(part == name) for name in SPLITS}
    return {name: items for name, items in parts.items() if len(items) or name == "train"}


def belonging_together(
    row: npt.NDArray[np.int64], groupings: Sequence[npt.NDArray[np.str_]], rows: int
) -> npt.NDArray[np.int64]:
    """Number the groups by row: one row in two groups, of whatever grouping, makes them one.

    Parameters
    ----------
    row : ndarray of int, shape (n,)
        Of each item.
    groupings : sequence of ndarray of str, shape (n,)
        At least one; empty where an item is alone.
    rows : int
        How many rows there are.

    Returns
    -------
    ndarray of int, shape (rows,)
    """
    sources, targets, size = [], [], rows
    for group in groupings:
        names, numbers = np.unique(group[group != ""], return_inverse=True)
        sources.append(row[group != ""])
        targets.append(size + numbers)
        size += len(names)
    ends = (np.concatenate(sources), np.concatenate(targets))
    links = coo_array((np.ones(len(ends[0])), ends), shape=(size, size))
    found: npt.NDArray[np.int64] = connected_components(links, directed=False)[1][:rows]
    return found


def _distinct(items: Items, positive: str, part: str, notes: list[str]) -> Items:
    found = distinct(items, is_positive(items, positive))
    first, place, times, agreed = found.first, found.place, found.times, found.agreed
    where = SPLIT_WORDS[part]
    if (repeats := found.repeats) > 0:
        notes.append(f"{_count(repeats, 'repeated image')} in the {where} split used only once.")
        _, codes = np.unique(np.char.lower(items.label), return_inverse=True)
        torn = np.bincount(place, codes) != codes[first] * times
        if (several := int((torn & agreed).sum())) > 0:
            notes.append(
                f"{_count(several, 'image')} in the {where} split with labels of several classes "
                f"(such as {items.path[first[torn & agreed][0]]}): the first counts."
            )
    if (bad := int((~agreed).sum())) > 0:
        example = items.path[first[~agreed][0]]
        notes.append(
            f"{_count(bad, 'image')} in the {where} split left out because of contradicting labels "
            f"(such as {example})."
        )
    return items.take(found.kept)


def _without_leaks(
    train: Items,
    present: Items,
    groups: npt.NDArray[np.int64],
    on_leak: str,
    notes: list[str],
) -> Items:
    judged = present.take((present.split == "valid") | (present.split == "test"))
    leaks = np.isin(groups[train.row], groups[judged.row])
    if not leaks.any():
        return train
    number, example = _count(int(leaks.sum()), "training image"), train.path[leaks][0]
    if on_leak == "drop":
        notes.append(
            f"{number} left out because the same image, or one of the same group, is in the "
            f"validation or test split (such as {example})."
        )
        return train.take(~leaks)
    spoilt = np.isin(groups[judged.row], groups[train.row[leaks]])
    notes.append(
        f"{number} trained on although the same image, or one of the same group, is in the "
        f"validation or test split (such as {example}): the figures there are too good, "
        f"by {_count(len(np.unique(judged.row[spoilt])), 'image')} that the heads have seen."
    )
    if on_leak == "ignore":
        notes.append("Images that belong together were not kept in one fold (--on-leak ignore).")
    return train


def _require_enough(
    train: Items, groups: npt.NDArray[np.int64], names: tuple[str, str], folds: int
) -> None:
    if len(train) == 0:
        raise TrainingError(
            "no labelled image is left to train on: put some into the train split, "
            "none of which is in the validation or test split too"
        )
    truth = is_positive(train, names[1])
    if truth.all() or not truth.any():
        raise TrainingError(
            f"all {len(train)} training images are of one class ({str(train.label[0])!r}): "
            "a head needs two"
        )
    for name, of_class in zip(names, (~truth, truth), strict=True):
        enough = len(np.unique(groups[train.row[of_class]]))
        if enough < folds:
            what = "images" if enough == of_class.sum() else "groups of images"
            raise TrainingError(
                f"class {name!r} has {enough} training {what}, fewer than the {folds} folds: "
                "add images, or ask for fewer folds"
            )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
