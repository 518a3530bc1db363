"""What several feature files say of the same images: put together, or refused where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from features.cache.contents import Items
from features.datasets.vocabulary import canonical_class
from features.numbers import count
from features.presenting import shown
from models.errors import TrainingError

__all__ = ["agreed_groups", "agreed_values"]

Said = dict[str, dict[str, None]]

_EXAMPLES: Final = 2


def agreed_values(
    column: str, files: Mapping[str, Items], paths: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Take from other files what the first doesn't know of its images.

    Parameters
    ----------
    column : {"label", "split"}
    files : mapping of str to Items
        By the files' names: the images that all have.
    paths : mapping of str to str
        Of every image by its hash, for examples.

    Returns
    -------
    filled : dict of str to str
        By hash, for images of which the first file says nothing.
    notes : list of str

    Raises
    ------
    TrainingError
        If two files contradict each other; with two examples.
    """
    alike = canonical_class if column == "label" else str
    first, *others = files
    known = _said(files[first], column)
    filled: dict[str, str] = {}
    notes = []
    for name in others:
        told = _said(files[name], column)
        wrong = []
        for sha256, values in told.items():
            mine = known.get(sha256, {})
            unsure = not mine and len({alike(value) for value in values}) > 1
            if unsure or (mine and {*map(alike, mine)} != {*map(alike, values)}):
                here = " and ".join(map(repr, mine)) or "nothing"
                there = " and ".join(map(repr, values))
                wrong.append(f"{shown(paths[sha256])} is {here} in {first} and {there} in {name}")
        _refuse(column, (first, name), wrong)
        new = {sha256: next(iter(said)) for sha256, said in told.items() if sha256 not in known}
        if new:
            some = shown(paths[next(iter(new))])
            notes.append(
                f"The {column} of {count(len(new), 'image')} is from {name}, since {first} says "
                f"nothing of it (such as {some})."
            )
        filled |= new
        known |= {sha256: {value: None} for sha256, value in new.items()}
    return filled, notes


def agreed_groups(
    files: Mapping[str, Items], paths: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Do the same for groups, whose names may differ as long as they hold the same images.

    Returns
    -------
    filled : dict of str to str
        Names of groups by hash, in the first file's words where it has any.
    notes : list of str

    Raises
    ------
    TrainingError
        If two files divide the same images otherwise; with two examples.
    """
    first, *others = files
    known = {sha256: next(iter(said)) for sha256, said in _said(files[first], "group").items()}
    filled: dict[str, str] = {}
    notes = []
    for name in others:
        told = {sha256: next(iter(said)) for sha256, said in _said(files[name], "group").items()}
        theirs_by_mine = _pairs((known[key], told[key]) for key in told if key in known)
        mine_by_theirs = _pairs((told[key], known[key]) for key in told if key in known)
        wrong = [
            f"{shown(paths[key])} is in the group {known[key]!r} in {first} and {told[key]!r} in "
            f"{name}"
            for key in told
            if key in known
            and (len(theirs_by_mine[known[key]]) > 1 or len(mine_by_theirs[told[key]]) > 1)
        ]
        _refuse("group", (first, name), wrong)
        taken = set(known.values())
        new = {}
        for key, group in told.items():
            if key not in known:
                same = next(iter(mine_by_theirs.get(group, ())), None)
                new[key] = same or (f"{group} in {name}" if group in taken else group)
        if new:
            some = shown(paths[next(iter(new))])
            notes.append(
                f"The group of {count(len(new), 'image')} is from {name}, since {first} says "
                f"nothing of it (such as {some})."
            )
        filled |= new
        known |= new
    return filled, notes


def _said(items: Items, column: str) -> Said:
    """Collect what is said of each image, in the order in which it is said."""
    found: Said = {}
    values = getattr(items, column).tolist()
    for sha256, value in zip(items.sha256.tolist(), values, strict=True):
        if value:
            found.setdefault(sha256, {})[value] = None
    return found


def _pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, None]]:
    found: dict[str, dict[str, None]] = {}
    for one, other in pairs:
        found.setdefault(one, {})[other] = None
    return found


def _refuse(what: str, names: Sequence[str], wrong: Sequence[str]) -> None:
    if wrong:
        raise TrainingError(
            f"{names[0]} and {names[1]} contradict each other on the {what} of "
            f"{count(len(wrong), 'image')}: {'; '.join(wrong[:_EXAMPLES])}: "
            "extract both from the same folders and tables"
        )
