"""What a run is going to take every file for, told before an hour is spent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any, Final

from features.datasets.folders import Dataset
from features.datasets.labelling import TableReport
from features.numbers import count
from features.presenting import csv_text

__all__ = ["as_csv", "as_json", "lines", "summarise"]

_SHOWN: Final = 12
_KEPT: Final = 200
_FIELDS: Final = ("path", "label", "split", "group", "label_from", "split_from", "group_from")


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Sum up how a data set was read.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    dict
        JSON-ready: ``counts`` by split and class, ``tables``, ``folders``, ``left_out`` by reason,
        with an example each, ``groups`` and ``notes``. It names no image files but for examples.
    """
    counts: dict[str, dict[str, int]] = {}
    for (split, label), images in dataset.counts().items():
        counts.setdefault(split, {})[label] = images
    groups = Counter(item.group for item in dataset.items if item.group)
    return {
        "images": len(dataset.items),
        "counts": counts,
        "tables": [_table(report) for report in dataset.tables],
        "folders": dict(sorted(dataset.folders.items())[:_KEPT]),
        "left_out": dict(sorted(Counter(left.reason for left in dataset.left_out).items())),
        "left_out_such_as": {left.reason: left.path for left in reversed(dataset.left_out)},
        "groups": {
            "groups": len(groups),
            "images": sum(groups.values()),
            "across_splits": _across_splits(dataset),
        },
        "sources": {
            name: dict(sorted(Counter(map(_kind, origins)).items()))
            for name, origins in (
                ("label", [item.label_from for item in dataset.items]),
                ("split", [item.split_from for item in dataset.items]),
                ("group", [item.group_from for item in dataset.items]),
            )
        },
        "notes": list(dataset.notes[:_KEPT]),
    }


def lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Say a summary in lines of text, but for its notes."""
    for split, classes in summary["counts"].items():
        told = ", ".join(f"{count} {label or 'unlabelled'}" for label, count in classes.items())
        yield f"{split or 'images'}: {told}"
    for table in summary["tables"]:
        told = ", ".join(
            f"{name} from {' and '.join(columns)}"
            for name, columns in table["columns"].items()
            if columns
        )
        doubts = "".join(
            f", {table[name]} {name}" for name in ("ambiguous", "contradicting") if table[name]
        )
        known = f" ({table['collection']})" if table["collection"] else ""
        yield (
            f"table {table['name']}{known}: {table['matched']} of "
            f"{count(table['rows'], 'row')} matched, "
            f"{table['unmatched']} unmatched{doubts}; {told}"
        )
    for name, role in list(summary["folders"].items())[:_SHOWN]:
        yield f"folder {name}: {role}"
    if (more := len(summary["folders"]) - _SHOWN) > 0:
        yield f"and {count(more, 'more folder')}"
    for reason, files in summary["left_out"].items():
        # Files of before lack it.
        some = summary.get("left_out_such_as", {}).get(reason)
        yield f"left out: {files} x {reason}" + (f" (such as {some})" if some else "")
    found = summary["groups"]
    if found["groups"]:
        torn = found["across_splits"]
        yield f"groups: {count(found['images'], 'image')} in {count(found['groups'], 'group')}" + (
            f", {torn} of which {'is' if torn == 1 else 'are'} in several splits" if torn else ""
        )
    else:
        yield "groups: none known"


def as_json(dataset: Dataset) -> str:
    """Write everything that is known of every file, where it comes from, and what is in doubt."""
    values = {
        "root": str(dataset.root),
        "summary": summarise(dataset),
        "files": [{name: getattr(item, name) for name in _FIELDS} for item in dataset.items],
        "left_out": [asdict(left) for left in dataset.left_out],
        "tables": [
            {
                **_table(report),
                "path": report.path,
                "unmatched": list(report.unmatched),
                "ambiguous": [
                    {"id": text, "files": list(paths)} for text, paths in report.ambiguous
                ],
                "contradicting": list(report.contradicting),
            }
            for report in dataset.tables
        ],
        "problems": list(dataset.problems),
    }
    # Escaped, so that names that are not UTF-8 can be written, too.
    return json.dumps(values, indent=1)


def as_csv(dataset: Dataset) -> str:
    """Write one line for each file: what is known of it and from where, or why it is left out."""
    read = ((*(getattr(item, name) for name in _FIELDS), "") for item in dataset.items)
    left = ((each.path, *[""] * (len(_FIELDS) - 1), each.reason) for each in dataset.left_out)
    return csv_text([(*_FIELDS, "left_out"), *read, *left])


def _across_splits(dataset: Dataset) -> int:
    splits: dict[str, set[str]] = {}
    for item in dataset.items:
        if item.group:
            splits.setdefault(item.group, set()).add(item.split)
    return sum(len(found) > 1 for found in splits.values())


def _table(report: TableReport) -> dict[str, Any]:
    taken = report.columns
    return {
        "name": PurePath(report.path).name,
        "collection": report.collection,
        "columns": {
            "ids": [taken.id],
            "labels": list(taken.labels),
            "splits": list(taken.splits),
            "groups": list(taken.groups),
        },
        "rows": report.rows,
        "matched": report.matched,
        "unmatched": len(report.unmatched),
        "ambiguous": len(report.ambiguous),
        "contradicting": len(report.contradicting),
    }


def _kind(origin: str) -> str:
    return "nothing" if not origin else "folders" if origin.startswith("folder") else "tables"
