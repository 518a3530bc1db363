"""What extraction shows in a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import click
from tqdm import tqdm

from features.datasets.folders import Dataset
from features.embedding.specification import ExtractorSpec
from features.extraction import Outcome
from features.presenting import MARKS

__all__ = ["Progress", "report_extraction"]

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


def report_extraction(dataset: Dataset, spec: ExtractorSpec, outcome: Outcome, out: Path) -> None:
    """Say what there was, what was done, and what to do next."""
    for note in dataset.notes:
        click.echo(note)
    counts = dataset.counts()
    for split in dict.fromkeys(split for split, _ in counts):
        classes = ", ".join(
            f"{count} {label or 'unlabelled'}"
            for (where, label), count in counts.items()
            if where == split
        )
        click.echo(f"{split or 'images'}: {classes}")
    if dataset.ignored:
        click.echo(f"{dataset.ignored} other files were ignored")
    _report_failures(outcome)
    kept = f", {outcome.kept} of files no longer there (--prune drops them)" if outcome.kept else ""
    click.echo(
        f"{outcome.embedded} embedded, {outcome.known} known before{kept}, "
        f"{len(outcome.failures)} failed: {out} by {spec}"
    )
    for mark in (["untrained"] if spec.untrained else []) + (
        ["synthetic"] if dataset.synthetic else []
    ):
        click.echo(f"{mark.upper()}: {MARKS[mark]}")
    if any(item.label for item in dataset.items):
        click.echo(f"next: python fit_classifier.py {out} --out bundle")


def _report_failures(outcome: Outcome) -> None:
    for failure in outcome.failures[:_FAILURES_SHOWN]:
        click.echo(f"failed: {failure.path}: {failure.reason}", err=True)
    rest = outcome.failures[_FAILURES_SHOWN:]
    if rest:
        kinds = ", ".join(
            f"{count} {code}" for code, count in Counter(failure.code for failure in rest).items()
        )
        click.echo(f"failed: and {len(rest)} more ({kinds}), all listed in the file", err=True)
