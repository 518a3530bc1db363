"""Classes put together, renamed or left out before anything is trained or judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.cache.contents import Features
from features.datasets.reading.cells import read_table
from features.datasets.vocabulary import canonical_class, is_missing
from models.errors import TrainingError

__all__ = ["Relabelling", "read_relabelling"]


@dataclass(frozen=True)
class Relabelling:
    """What labels are taken for.

    Parameters
    ----------
    merged : mapping of str to str
        Other names of classes.
    excluded : tuple of str
        Classes whose images count as unlabelled.
    """

    merged: Mapping[str, str] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.merged or self.excluded)

    def apply(self, features: Features) -> tuple[Features, list[str]]:
        """Give features with other labels, and say what was changed."""
        if not self:
            return features, []
        becomes = {canonical_class(name): new for name, new in self.merged.items()}
        becomes |= {canonical_class(name): "" for name in self.excluded}
        names, places, counts = np.unique(
            features.items.label, return_inverse=True, return_counts=True
        )
        new = [becomes.get(canonical_class(name), name) for name in names.tolist()]
        notes = [
            f"{count} images of the class {name!r} were "
            + (f"taken for {after!r}." if after else "left out (--exclude).")
            for name, after, count in zip(names.tolist(), new, counts.tolist(), strict=True)
            if after != name
        ]
        items = replace(features.items, label=np.array(new, np.str_)[places])
        return replace(features, items=items), notes

    def as_dict(self) -> dict[str, Any]:
        """Give what `from_dict` reads."""
        return {"merged": dict(self.merged), "excluded": list(self.excluded)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Relabelling:
        """Read what `as_dict` gave.

        Raises
        ------
        ValueError
            If it is something else.
        """
        merged, excluded = values["merged"], values["excluded"]
        texts = [*merged, *merged.values(), *excluded]
        if set(values) != {"merged", "excluded"} or not all(type(text) is str for text in texts):
            raise ValueError("it renames classes by something that is no text")
        return cls(merged, tuple(excluded))


def read_relabelling(
    features: Features,
    positives: Sequence[str],
    merges: Sequence[str] = (),
    excluded: Sequence[str] = (),
) -> Relabelling:
    """Read what a person wants classes to be taken for.

    Parameters
    ----------
    features : Features
        Whose labels are meant.
    positives : sequence of str
        Classes that are positive: all are taken for the first.
    merges : sequence of str
        ``NEW=CLASS,CLASS…``, or the path of a table with two columns: a class, and what it is taken
        for, or nothing to leave it out.
    excluded : sequence of str
        Classes to leave out.

    Returns
    -------
    Relabelling

    Raises
    ------
    TrainingError
        If there is no such class, or one is to become two things.
    DatasetError
        If a table can't be read.
    """
    wanted: list[tuple[str, str]] = [(name, positives[0]) for name in positives[1:]]
    wanted += [(name, "") for name in excluded]
    for text in merges:
        new, equals, names = text.partition("=")
        if equals and new.strip():
            wanted += [(name.strip(), new.strip()) for name in names.split(",") if name.strip()]
        elif Path(text).is_file():
            wanted += _mapping(Path(text))
        else:
            raise TrainingError(
                f"got --merge {text}, expected NEW=CLASS,CLASS or a table with a class and what it "
                "is taken for on each line"
            )
    there = {canonical_class(name): name for name in np.unique(features.items.label).tolist()}
    there.pop("", None)
    becomes: dict[str, str] = {}
    for name, new in wanted:
        known = there.get(canonical_class(name))
        if known is None:
            raise TrainingError(
                f"no class is called {name!r}: the classes are "
                f"{', '.join(map(repr, sorted(there.values())))}"
            )
        if becomes.setdefault(known, new) != new:
            raise TrainingError(
                f"the class {known!r} is to be taken for {becomes[known] or 'nothing'!r} and for "
                f"{new or 'nothing'!r}: say one"
            )
    first = there.get(canonical_class(positives[0])) if positives else None
    if first is not None and becomes.get(first) == "":
        raise TrainingError(f"the positive class {positives[0]!r} is left out: name another")
    return Relabelling(
        {name: new for name, new in becomes.items() if new and new != name},
        tuple(name for name, new in becomes.items() if not new),
    )


def _mapping(path: Path) -> list[tuple[str, str]]:
    table = read_table(path)
    if len(table.columns) != 2:
        raise TrainingError(
            f"{path} has {len(table.columns)} columns, expected a class and what it is taken for"
        )
    return [
        (cells[0], "" if is_missing(cells[1]) else cells[1])
        for cells in (list(record.values()) for record in table.records)
    ]
