"""Age, sex and site: how a person may write them, and how they become numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.datasets.vocabulary import is_missing, number, sex, site
from features.errors import LesionError

__all__ = [
    "NAMES",
    "Kinds",
    "PatientError",
    "Unused",
    "blocks",
    "kinds_in",
    "numbers",
    "read_patient",
    "usable",
]

Kinds = Mapping[str, tuple[str, ...]]
Row = Mapping[str, Any]

NAMES: Final = ("age", "sex", "site")

# Any age will do where it is missing: a column of its own says that it is.
_FILLED_AGE: Final = 50.0
_OLDEST: Final = 120


class PatientError(LesionError):
    """An age, sex or site that can't be one."""


@dataclass(frozen=True)
class Unused:
    """What was said of a patient and can't be used.

    Parameters
    ----------
    name : {"age", "sex", "site"}
    value : str or None
        As it was written, where it is none of the categories; None where nothing of this name is
        taken.
    expected : tuple of str
        The categories, or the names that are taken.
    """

    name: str
    value: str | None
    expected: tuple[str, ...]


def kinds_in(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """Name the categories of each column.

    Parameters
    ----------
    columns : sequence of str
        Some of `NAMES`.
    rows : sequence of mapping
        Values by column; None and what is not there are missing.

    Returns
    -------
    dict of str to tuple of str
        Sorted; empty for the age, which has none.
    """
    return {
        name: ()
        if name == "age"
        else tuple(sorted({row[name] for row in rows if row.get(name) is not None}))
        for name in columns
    }


def blocks(kinds: Kinds) -> Iterator[slice]:
    """Give the columns of each name, as `numbers` makes them; the last says that it is missing."""
    start = 0
    for name, known in kinds.items():
        width = 2 if name == "age" else len(known) + 1
        yield slice(start, start + width)
        start += width


def numbers(kinds: Kinds, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """Turn age, sex and site into numbers.

    Parameters
    ----------
    kinds : mapping of str to tuple of str
        As `kinds_in` gives them; what is not among them counts as missing.
    rows : sequence of mapping

    Returns
    -------
    ndarray, shape (n, k)
        Age in years and whether it is missing; one column per sex and site, one for each missing.

    Examples
    --------
    >>> numbers({"age": (), "sex": ("female", "male")}, [{"age": 61.0}, {"sex": "male"}])
    array([[61.,  0.,  0.,  0.,  1.],
           [50.,  1.,  0.,  1.,  0.]])
    """
    columns: list[list[float]] = []
    for name, known in kinds.items():
        values = [row.get(name) for row in rows]
        if name == "age":
            columns.append([_FILLED_AGE if age is None else age for age in values])
            columns.append([float(age is None) for age in values])
            continue
        columns += [[float(value == kind) for value in values] for kind in known]
        columns.append([float(value not in known) for value in values])
    found: npt.NDArray[np.float64] = np.array(columns, np.float64).T
    return found


def usable(row: Row, kinds: Kinds) -> dict[str, Any]:
    """Keep what a row of a table says in the words of `kinds`."""
    found: dict[str, Any] = {}
    for name, known in kinds.items():
        value = row.get(name)
        if value is not None:
            value = value if name == "age" else _among(name, str(value), known)
        if value is not None:
            found[name] = value
    return found


def _among(name: str, text: str, kinds: Sequence[str]) -> str | None:
    """Give the kind that a word means, however either is written; None if there is none."""
    if text in kinds:
        return text
    read = sex if name == "sex" else site
    meant = read(text)
    return next((kind for kind in kinds if meant is not None and read(kind) == meant), None)


def read_patient(given: Row, kinds: Kinds) -> tuple[dict[str, Any], tuple[Unused, ...]]:
    """Read what is said of a patient.

    Parameters
    ----------
    given : mapping of str to (str or float or None)
        ``"age"`` in years, ``"sex"``, ``"site"``, each as it was written; what is missing may be
        left out, empty, None or ``"unknown"``.
    kinds : mapping of str to tuple of str
        What can be used, as `kinds_in` gives it.

    Returns
    -------
    known : dict of str to (float or str)
        What can be used of it, by name.
    unused : tuple of Unused
        What else was given.

    Raises
    ------
    PatientError
        If an age is none between 0 and 120 years, or a sex no word for one.

    Examples
    --------
    >>> read_patient({"age": "61", "sex": "F"}, {"age": (), "sex": ("female", "male")})
    ({'age': 61.0, 'sex': 'female'}, ())
    """
    if odd := sorted(set(given) - set(NAMES)):
        raise PatientError(f"got {', '.join(odd)} of a patient, expected {', '.join(NAMES)}")
    known: dict[str, Any] = {}
    unused: list[Unused] = []
    for name in NAMES:
        text = "" if given.get(name) is None else str(given[name]).strip().casefold()
        # In a table -1 is a code; whoever fills in a form has mistyped it.
        if is_missing(text) and not (name == "age" and number(text) is not None):
            continue
        value = _read(name, text, kinds.get(name, ()))
        if name not in kinds:
            unused.append(Unused(name, None, tuple(kinds)))
        elif value is None:
            unused.append(Unused(name, text[:40], kinds[name]))
        else:
            known[name] = value
    return known, tuple(unused)


def _read(name: str, text: str, kinds: Sequence[str]) -> float | str | None:
    """Give a value in the words of `kinds`; None for one that is not among them."""
    if name == "age":
        return _age(text)
    if name == "sex" and text not in kinds and sex(text) is None:
        raise PatientError(
            f"got sex {text[:40]!r}, expected female or male, or nothing where it is not known"
        )
    return _among(name, text, kinds)


def _age(text: str) -> float:
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age <= _OLDEST:
        raise PatientError(
            f"got age {text[:40]!r}, expected years from 0 to {_OLDEST}, "
            "or nothing where it is not known"
        )
    return age
