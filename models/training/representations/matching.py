"""The same images in several feature files: matched by their hashes, in one order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from features.cache.contents import Features, Items
from features.cache.rows import Rows
from features.numbers import count
from features.presenting import shown
from models.errors import TrainingError
from models.training.representations.agreeing import agreed_groups, agreed_values

__all__ = [
    "averaged_name",
    "joined_name",
    "match_images",
    "name_files",
    "require_several",
]


def name_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Name feature files shortly, and refuse one that is given twice.

    Parameters
    ----------
    paths : sequence of Path

    Returns
    -------
    dict of str to Path
        By their stems, or with as many folders before them as tell them apart.

    Raises
    ------
    TrainingError
        If two are the same file.

    Examples
    --------
    >>> list(name_files([Path("a/one.h5"), Path("a/two.h5")]))
    ['one', 'two']
    >>> list(name_files([Path("a/features.h5"), Path("b/features.h5")]))
    ['a/features', 'b/features']
    """
    places = [Path(os.path.realpath(path)) for path in paths]
    for path, times in Counter(places).items():
        if times > 1:
            raise TrainingError(
                f"{shown(path)} is given {times} times: give each feature file once"
            )
    parts = [(place.parent / place.stem).parts for place in places]
    depth = 1
    while len({each[-depth:] for each in parts}) < len({*parts}):
        depth += 1
    short = [shown("/".join(each[-depth:])) for each in parts]
    if len({*short}) < len(places):
        # The endings alone differ.
        short = [shown("/".join(place.parts[-depth:])) for place in places]
    return dict(zip(short, paths, strict=True))


def match_images(files: Mapping[str, Features]) -> tuple[dict[str, Features], tuple[str, ...]]:
    """Keep the images that all feature files have, in the order of the first.

    Parameters
    ----------
    files : mapping of str to Features
        By name.

    Returns
    -------
    matched : dict of str to Features
        All with the same items: paths and what is known of the images are those of the first
        file, which are completed from the others. A single file stays as it is.
    notes : tuple of str
        What was left out, and what was completed.

    Raises
    ------
    TrainingError
        If two were made by the same extractor, no image is in all of them, or they contradict each
        other on a label, a split or a group.
    """
    if len(files) == 1:
        return dict(files), ()
    _require_different(files)
    there = {name: found.items.take(found.items.path != "") for name, found in files.items()}
    common = set.intersection(*(set(items.sha256.tolist()) for items in there.values()))
    if not common:
        raise TrainingError(
            f"no image is in all of {', '.join(files)}: give feature files of the same images, "
            "byte for byte"
        )
    notes = [note for name, items in there.items() for note in _left_out(name, items, common)]
    kept = {
        name: items.take(np.isin(items.sha256, sorted(common))) for name, items in there.items()
    }
    base = next(iter(kept.values()))
    hashes, first, row = np.unique(base.sha256, return_index=True, return_inverse=True)
    paths = dict(zip(hashes.tolist(), base.path[first].tolist(), strict=True))
    columns: dict[str, Any] = {}
    for column in ("label", "split", "group"):
        if column == "group":
            filled, told = agreed_groups(kept, paths)
        else:
            filled, told = agreed_values(column, kept, paths)
        notes += told
        columns[column] = np.array(
            [
                value or filled.get(sha256, "")
                for sha256, value in zip(
                    base.sha256.tolist(), getattr(base, column).tolist(), strict=True
                )
            ],
            np.str_,
        )
    items = replace(base, row=row.astype(np.int64), **columns)
    some = next(iter(files.values()))
    matched = {
        name: replace(
            found,
            items=items,
            embeddings=_in_order(found, kept[name], hashes.tolist()),
            images=some.images,
            synthetic=any(each.synthetic for each in files.values()),
        )
        for name, found in files.items()
    }
    return matched, tuple(notes)


def _require_different(files: Mapping[str, Features]) -> None:
    seen: dict[str, str] = {}
    for name, found in files.items():
        if (other := seen.setdefault(found.fingerprint, name)) != name:
            raise TrainingError(
                f"{other} and {name} were made by the same network in the same way "
                f"({found.spec}): there is nothing to compare, so give one of them, or join them "
                "with `python -m features merge`"
            )


def _left_out(name: str, items: Items, common: set[str]) -> list[str]:
    hashes, first = np.unique(items.sha256, return_index=True)
    alone = np.sort(first[~np.isin(hashes, sorted(common))])
    if not len(alone):
        return []
    examples = ", ".join(shown(path) for path in items.path[alone[:2]].tolist())
    return [
        f"{len(alone):,} of {count(len(hashes), 'image')} of {name} left out, because not all "
        f"feature files have {'it' if len(alone) == 1 else 'them'} (such as {examples})."
    ]


def _in_order(found: Features, items: Items, hashes: Sequence[str]) -> np.ndarray | Rows:
    places = dict(zip(items.sha256.tolist(), items.row.tolist(), strict=True))
    rows = np.array([places[sha256] for sha256 in hashes], np.int64)
    if isinstance(found.embeddings, Rows):
        return found.embeddings.take(rows)
    return found.embeddings[rows]


def require_several(
    files: Mapping[str, object],
    *,
    representation: str | None,
    combine: bool,
    feedback: str | None = None,
) -> None:
    """Refuse what one feature file, or several, can't be asked for.

    Parameters
    ----------
    files : mapping
        By the names of the feature files.
    representation : str or None
        The one that the bundle is to be of.
    combine : bool
        Whether they are to be judged together, too.
    feedback : str or None
        Where reviewers' labels are.

    Raises
    ------
    TrainingError
        Says what to do.
    """
    if combine and len(files) == 1:
        raise TrainingError(
            f"--combine puts several networks together, and there is {next(iter(files))} alone: "
            "give more feature files of the same images"
        )
    if feedback is not None and len(files) > 1:
        raise TrainingError(
            "what reviewers labelled has the embeddings of one network only: leave --feedback out "
            "to compare several feature files, and then train on it with the one chosen"
        )
    if representation is None or representation in files:
        return
    together = [joined_name(files), averaged_name(files)] if len(files) > 1 else []
    if representation in together and combine:
        return
    if representation in together:
        raise TrainingError(
            f"{representation!r} is of several feature files together, which are only judged so "
            "with --combine: add it"
        )
    raise TrainingError(
        f"no feature file is called {representation!r}: --representation is one of "
        f"{', '.join([*files, *(together if combine else ())])}"
    )


def joined_name(files: Mapping[str, object]) -> str:
    """Name what is made of feature files, called so, by putting them side by side."""
    return _name("all side by side", files)


def averaged_name(files: Mapping[str, object]) -> str:
    """Name what is made of feature files, called so, by averaging scores."""
    return _name("all averaged", files)


def _name(wanted: str, files: Mapping[str, object]) -> str:
    return f"{wanted}, together" if wanted in files else wanted
