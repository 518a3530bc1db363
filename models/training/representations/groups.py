"""Images that belong together by the audits of several feature files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.audit.groups import GroupTable, find_groups
from features.cache.contents import Features
from models.training.selection import belonging_together

__all__ = ["find_shared_groups"]


def find_shared_groups(
    choice: str, files: Mapping[str, Path], matched: Mapping[str, Features]
) -> GroupTable:
    """Read the groups that a user chose, and join those of several audits.

    Parameters
    ----------
    choice : str
        As for `features.audit.groups.find_groups`.
    files : mapping of str to Path
        The feature files by name.
    matched : mapping of str to Features
        What is in them, all with the same items.

    Returns
    -------
    GroupTable
        Images that any audit put together are together.

    Raises
    ------
    DatasetError
        If there is a table but it doesn't fit.
    """
    found = [find_groups(choice, path, matched[name].items) for name, path in files.items()]
    tables = [table for table in found if table.searched]
    if choice != "auto" or len(tables) < 2:
        return (tables or found)[0]
    items = next(iter(matched.values())).items
    rows = int(items.row.max()) + 1
    joined = belonging_together(items.row, [table.group for table in tables], rows)[items.row]
    _, place, sizes = np.unique(joined, return_inverse=True, return_counts=True)
    group = np.where(sizes[place] > 1, joined.astype(np.str_), "")
    notes = tuple(note for table in tables for note in table.notes)
    return GroupTable(group, notes, searched=True)
