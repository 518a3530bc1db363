"""Verdicts as text, CSV and JSON, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from features.presenting import NOT_A_DIAGNOSIS, as_bytes, csv_text, json_text, shown

if TYPE_CHECKING:
    from models.inference.verdict import Rejected, Verdict

_COLUMNS = (
    "filename",
    "label",
    "probability",
    "threshold",
    "decision",
    "flagged",
    "reasons",
    "known",
    "warnings",
    "inputs",
    "distance",
    "error",
)


def as_text(results: Iterator[Verdict | Rejected]) -> int:
    from models.inference.verdict import Rejected

    failed = 0
    for result in results:
        if isinstance(result, Rejected):
            failed += 1
            click.echo(f"{shown(result.filename)}: not read: {result.message}", err=True)
        else:
            click.echo(
                f"{shown(result.filename)}: {result.decision} "
                f"(probability {result.probability:.3f}, threshold {result.threshold:.3f})"
                + _inputs(result)
                + _classes(result)
            )
            for line in _remarks(result):
                click.echo(f"  {line}")
    click.echo(NOT_A_DIAGNOSIS)
    return failed


def _inputs(verdict: Verdict) -> str:
    """Say what was used beside the image."""
    if verdict.inputs is None:
        return ""
    told = [
        f"{name} {value:g}" if name == "age" else f"{name} {value}"
        for name, value in verdict.inputs.items()
    ]
    return f"; with {', '.join(told)}"


def _remarks(verdict: Verdict) -> list[str]:
    """Say why it can't be told and what to do then, and what else is known of the image."""
    from models.inference.wording import said_by_threshold

    lines = [reason.text for reason in verdict.reasons]
    if lines:
        lines.append(said_by_threshold(verdict.flagged))
    return lines + ([verdict.known.text] if verdict.known else [])


def _classes(verdict: Verdict, most: int = 3) -> str:
    """Name the most likely classes, where there are more than two."""
    if verdict.classes is None:
        return ""
    first = [f"{name} {share:.3f}" for name, share in list(verdict.classes.items())[:most]]
    return f"; most likely: {', '.join(first)}"


def as_csv(results: Iterator[Verdict | Rejected], classes: Sequence[str]) -> int:
    from models.inference.verdict import Rejected

    failed = 0
    click.echo(_csv_line((*_COLUMNS, *(f"probability {name}" for name in classes))), nl=False)
    for result in results:
        if isinstance(result, Rejected):
            failed += 1
            error = f"{result.code}: {result.message}"
            cells = (result.filename, *[""] * (len(_COLUMNS) - 2), error)
            shares = ("",) * len(classes)
        else:
            cells = (
                result.filename,
                result.label,
                repr(result.probability),
                repr(result.threshold),
                result.decision,
                str(result.flagged).lower(),
                " ".join(reason.text for reason in result.reasons),
                result.known.text if result.known else "",
                " ".join(warning.text for warning in result.warnings),
                "; ".join(f"{name}={value}" for name, value in (result.inputs or {}).items()),
                "" if result.distance is None else repr(result.distance),
                "",
            )
            known = result.classes or {}
            shares = tuple(repr(known[name]) for name in classes)
        click.echo(_csv_line((*cells, *shares)), nl=False)
    return failed


def _csv_line(cells: Sequence[str]) -> bytes:
    # The bytes of a file name as they are, so that the line leads back to the file.
    return as_bytes(csv_text([cells]))


def as_json(results: Iterator[Verdict | Rejected]) -> int:
    listed = [result.as_dict() for result in results]
    click.echo(json_text({"results": listed}, indent=1))
    return sum("error" in result for result in listed)
