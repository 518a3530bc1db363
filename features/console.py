"""What extraction shows in a terminal."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import click
from tqdm import tqdm

from features.datasets.folders import Dataset
from features.datasets.plan import as_csv, as_json, lines, summarise
from features.errors import DatasetError
from features.numbers import count
from features.presenting import MARKS, as_bytes, shown

if TYPE_CHECKING:
    from features.embedding.specification import ExtractorSpec
    from features.extraction import Outcome

__all__ = ["Progress", "report_extraction", "report_plan"]

_FAILURES_SHOWN: Final = 10


class Progress:
    """A bar with images per second and the time left, on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` images went through."""
        if self._bar is None:
            self._bar = tqdm(total=total, unit="image", file=sys.stderr, smoothing=0.1)
        self._bar.update(done - self._bar.n)


def report_plan(dataset: Dataset, json_to: str | None = None, csv_to: str | None = None) -> None:
    """Say what every file is taken for, and write it for every file.

    Parameters
    ----------
    dataset : Dataset
    json_to, csv_to : str, optional
        Files to write, or ``-`` for standard output; the text then goes to standard error.

    Raises
    ------
    DatasetError
        If anything is in doubt, after all was told; or if a file can't be written.
    """
    if json_to == csv_to == "-":
        raise DatasetError("--json and --csv can't both go to standard output: name a file for one")
    piped = "-" in (json_to, csv_to)
    for line in (*dataset.notes, *lines(summarise(dataset))):
        click.echo(shown(line), err=piped)
    if dataset.ignored:
        click.echo(f"{count(dataset.ignored, 'other file', 'was', 'were')} ignored", err=piped)
    for problem in dataset.problems[1:]:
        click.echo(shown(f"in doubt: {problem}"), err=True)
    for target, write in ((json_to, as_json), (csv_to, as_csv)):
        if target == "-":
            click.echo(as_bytes(write(dataset)), nl=False)
        elif target is not None:
            try:
                Path(target).write_bytes(as_bytes(write(dataset)))
            except OSError as error:
                raise DatasetError(f"{target} can't be written ({error.strerror})") from error
    if dataset.problems:
        raise DatasetError(shown(dataset.problems[0]))


def report_extraction(dataset: Dataset, spec: ExtractorSpec, outcome: Outcome, out: Path) -> None:
    """Say what was done, and what to do next."""
    for note in outcome.notes:
        click.echo(f"note: {note}", err=True)
    _report_failures(outcome)
    kept = f", {outcome.kept} of files not listed any more (--prune drops them)"
    kept = kept if outcome.kept else ""
    click.echo(
        f"{outcome.embedded} embedded, {outcome.known} known before{kept}, "
        f"{len(outcome.failures)} failed: {shown(out)} by {spec}"
    )
    for mark in (["untrained"] if spec.untrained else []) + (
        ["synthetic"] if dataset.synthetic else []
    ):
        click.echo(f"{mark.upper()}: {MARKS[mark]}")
    if any(item.label for item in dataset.items):
        # Age, sex and site are of persons, and are not kept in a file that is passed on.
        known = "".join(
            f" --metadata {shown(shlex.quote(table.path))}"
            for table in dataset.tables
            if table.columns.known
        )
        click.echo(f"next: python fit_classifier.py {shown(out)} --out bundle{known}")


def _report_failures(outcome: Outcome) -> None:
    for failure in outcome.failures[:_FAILURES_SHOWN]:
        click.echo(f"failed: {shown(failure.path)}: {failure.reason}", err=True)
    rest = outcome.failures[_FAILURES_SHOWN:]
    if rest:
        kinds = ", ".join(
            f"{count} {code}" for code, count in Counter(failure.code for failure in rest).items()
        )
        click.echo(f"failed: and {len(rest)} more ({kinds}), all listed in the file", err=True)
