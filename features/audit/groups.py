"""Which images belong together: from links between copies to groups, and their CSV file."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from features.audit.similarity import Link
from features.cache.contents import Items
from features.errors import DatasetError
from features.numbers import count
from features.presenting import NAME_ERRORS, csv_text

__all__ = [
    "GroupTable",
    "components",
    "find_groups",
    "groups_path",
    "groups_text",
    "read_groups",
]

_COLUMNS: Final = ("sha256", "path", "group")


@dataclass(frozen=True)
class GroupTable:
    """Groups of images as a CSV file names them, matched to the items of a feature file.

    Parameters
    ----------
    group : ndarray of str, shape (n,)
        One per item; empty where the image is alone or not listed.
    notes : tuple of str
        What a person should know of it.
    searched : bool
        Whether there is a table at all; without one, nobody looked for copies.
    """

    group: npt.NDArray[np.str_]
    notes: tuple[str, ...] = ()
    searched: bool = False


def components(n: int, links: Iterable[Link]) -> list[list[int]]:
    """Join linked images to groups.

    Images join a group by one link. Two groups of three or more each need two links that share
    no image, so that a single mistake doesn't glue them together.

    Parameters
    ----------
    n : int
        Number of images.
    links : iterable of Link

    Returns
    -------
    list of list of int
        Groups of two or more, each sorted, in order of their first image.
    """
    ordered = sorted(
        links, key=lambda link: (-(link.similarity or 0.0), link.distance, link.first, link.second)
    )
    partners: defaultdict[int, list[int]] = defaultdict(list)
    for link in ordered:
        partners[link.first].append(link.second)
        partners[link.second].append(link.first)
    owner = list(range(n))
    members = {place: [place] for place in range(n)}
    waiting, before = ordered, None
    # What was refused may be allowed once the groups have grown.
    while before != len(waiting):
        before, refused = len(waiting), []
        for link in waiting:
            one, other = sorted(
                (owner[link.first], owner[link.second]), key=lambda place: -len(members[place])
            )
            if one == other:
                continue
            if len(members[other]) >= 3:
                bridges = [
                    (near, far) for near in members[other] for far in partners[near]
                    if owner[far] == one
                ]  # fmt: skip
                if min(len({bridge[side] for bridge in bridges}) for side in (0, 1)) < 2:
                    refused.append(link)
                    continue
            for place in members[other]:
                owner[place] = one
            members[one] += members.pop(other)
        waiting = refused
    return sorted(sorted(found) for found in members.values() if len(found) > 1)


def groups_path(features: Path) -> Path:
    """Name the file of groups that lies beside a feature file or a folder of shards."""
    features = features if features.name else features.absolute()
    return features.with_name(f"{features.stem}.groups.csv")


def groups_text(items: Items, group: Sequence[str]) -> str:
    """Write one line per image: sha256, path, group; the group is empty for an image alone."""
    lines = zip(items.sha256.tolist(), items.path.tolist(), group, strict=True)
    return csv_text([_COLUMNS, *lines])


def read_groups(path: str | Path, items: Items) -> GroupTable:
    """Read groups for the items of a feature file.

    Images are matched by the sha256 of their files; the table may also be one made by hand with
    the columns `sha256` and `group`.

    Parameters
    ----------
    path : str or Path
    items : Items

    Returns
    -------
    GroupTable

    Raises
    ------
    DatasetError
        If the file can't be read, lacks a column, or lists none of the images.
    """
    found: dict[str, str] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig", errors=NAME_ERRORS) as file:
            reader = csv.DictReader(file)
            missing = {"sha256", "group"} - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(
                    f"{path} has no column {' and no column '.join(sorted(missing))}: "
                    "expected sha256, path, group, as `python -m features audit` writes them"
                )
            for row in reader:
                found[row["sha256"]] = found.get(row["sha256"]) or row["group"] or ""
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} can't be read as a table of groups ({error}): "
            "make it with `python -m features audit`"
        ) from error
    present = items.path != ""
    listed = np.array([sha256 in found for sha256 in items.sha256.tolist()], bool)
    if not listed.any():
        raise DatasetError(
            f"no image in {path} is in the feature file: "
            "audit this feature file, or give the table that belongs to it"
        )
    group = np.array([found.get(sha256, "") for sha256 in items.sha256.tolist()], np.str_)
    images = int((present & (group != "")).sum())
    notes = [f"groups: {images} images belong together with others by {path}"]
    if unlisted := int((present & ~listed).sum()):
        notes.append(
            f"groups: {unlisted} of {count(int(present.sum()), 'image')} "
            f"{'is' if unlisted == 1 else 'are'} not in {path}: "
            "run `python -m features audit` again to compare them, too"
        )
    return GroupTable(group, tuple(notes), searched=True)


def find_groups(choice: str, features: Path, items: Items) -> GroupTable:
    """Read the groups that a user chose.

    Parameters
    ----------
    choice : str
        A file, ``"none"``, or ``"auto"``: the file beside the feature file if there is one.
    features : Path
        The feature file.
    items : Items
        Its items.

    Returns
    -------
    GroupTable

    Raises
    ------
    DatasetError
        If there is a file but it doesn't fit.
    """
    alone = np.full(len(items), "", np.str_)
    beside = groups_path(features)
    if choice == "none":
        return GroupTable(alone)
    if choice != "auto":
        return read_groups(choice, items)
    if beside.exists():
        return read_groups(beside, items)
    known = items.group[(items.path != "") & (items.group != "")]
    told = (
        f"{count(len(known), 'image', 'is', 'are')} in "
        f"{count(len(set(known.tolist())), 'group')} of patients or lesions"
        if len(known)
        else "none known"
    )
    return GroupTable(
        alone,
        (f"groups: {told}; `python -m features audit {features}` looks for copies of images",),
    )
