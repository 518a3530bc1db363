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

from features.cache.shards.places import listed
from features.datasets.folders import Dataset
from features.datasets.plan import as_csv, as_json, lines, summarise
from features.errors import ClusterError, DatasetError
from features.numbers import count
from features.presenting import MARKS, as_bytes, shown

if TYPE_CHECKING:
    from features.embedding.specification import ExtractorSpec
    from features.extraction import Outcome
    from features.extraction.cluster import ClusterOutcome
    from features.extraction.job import Job
    from features.extraction.shards import ShardResult
    from features.extraction.ways import ShardsOutcome

__all__ = [
    "Progress",
    "report",
    "report_plan",
]

_FAILURES_SHOWN: Final = 10
_SHARDS_SHOWN: Final = 5


class Progress:
    """A bar with images per second and the time left, on standard error, and what is told between.

    It is a `features.extraction.ways.Watcher`.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._of = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it is, and begin another with what comes."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def update(self, done: int, total: int, of: str = "") -> None:
        """Show that `done` of `total` images went through; a bar of something else is another."""
        if of != self._of:
            self.close()
        if self._bar is None:
            self._of = of
            self._bar = tqdm(
                total=total, unit="image", file=sys.stderr, smoothing=0.1, desc=of or None
            )
        # It shrinks where there was nothing to do.
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def note(self, text: str) -> None:
        """Show what a person should know."""
        click.echo(f"note: {text}", err=True)

    def shard(self, result: ShardResult, of: int) -> None:
        """Show what was done with a shard; nothing, if it was done before."""
        self.close()
        if result.outcome is None:
            return
        for note in result.outcome.notes:
            self.note(note)
        _report_failures(result.outcome)
        click.echo(
            f"shard {result.number} of {of}: {result.outcome.embedded} embedded, "
            f"{result.outcome.known} known before, {result.failures} failed, "
            f"{result.seconds:.1f} s"
        )


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


def report(job: Job, outcome: Outcome | ShardsOutcome | ClusterOutcome) -> int:
    """Say what was done, and what to do next.

    Parameters
    ----------
    job : Job
    outcome : Outcome, ShardsOutcome or ClusterOutcome
        As of any `features.extraction.ways.Way`.

    Returns
    -------
    int
        How many images could not be read.

    Raises
    ------
    ClusterError
        If a shard is not done, after all was told.
    """
    from features.extraction import Outcome
    from features.extraction.cluster import ClusterOutcome

    if isinstance(outcome, ClusterOutcome):
        _report_cluster(job, outcome)
        return outcome.failures
    if isinstance(outcome, Outcome):
        _report_extraction(job, outcome)
        return len(outcome.failures)
    _report_shards(job, outcome)
    return sum(result.failures for result in outcome.results)


def _report_extraction(job: Job, outcome: Outcome) -> None:
    for note in outcome.notes:
        click.echo(f"note: {note}", err=True)
    _report_failures(outcome)
    kept = f", {outcome.kept} of files not listed any more (--prune drops them)"
    kept = kept if outcome.kept else ""
    click.echo(
        f"{outcome.embedded} embedded, {outcome.known} known before{kept}, "
        f"{len(outcome.failures)} failed: {shown(job.out)} by {job.spec}"
    )
    _report_marks(job.dataset, job.spec)
    _report_next(job.dataset, job.out)


def _report_shards(job: Job, outcome: ShardsOutcome) -> None:
    results, of = outcome.results, outcome.of
    done = {number for number, _ in listed(outcome.marks, "json")}
    done |= {result.number for result in results}
    missing = [number for number in range(1, of + 1) if number not in done]
    before = sum(result.was_done for result in results)
    click.echo(
        f"{count(len(results) - before, 'shard')} made, {before} done before, "
        f"{of - len(missing)} of {of} there, {sum(result.rows for result in results)} embeddings, "
        f"{sum(result.failures for result in results)} failed: {shown(job.out)} by {job.spec}"
    )
    _report_marks(job.dataset, job.spec)
    if not missing:
        _report_next(job.dataset, job.out)


def _report_marks(dataset: Dataset, spec: ExtractorSpec) -> None:
    marks = {"untrained": spec.untrained, "synthetic": dataset.synthetic}
    for mark in (name for name, holds in marks.items() if holds):
        click.echo(f"{mark.upper()}: {MARKS[mark]}")


def _report_next(dataset: Dataset, out: Path) -> None:
    if any(item.label for item in dataset.items):
        # Age, sex and site are of persons, and are not kept in a file that is passed on.
        known = "".join(
            f" --metadata {shown(shlex.quote(table.path))}"
            for table in dataset.tables
            if table.columns.known
        )
        click.echo(f"next: python fit_classifier.py {shown(out)} --out bundle{known}")


def _report_cluster(job: Job, outcome: ClusterOutcome) -> None:
    for note, times in Counter(outcome.notes).items():
        more = f"; and of {times - 1} shards more" if times > 1 else ""
        click.echo(f"note: {note}{more}", err=True)
    for example in outcome.examples:
        click.echo(f"failed: {shown(example)}", err=True)
    if rest := outcome.failures - len(outcome.examples):
        click.echo(f"failed: {count(rest, 'image')} more, all listed in the shards", err=True)
    if outcome.lost:
        click.echo(
            f"note: {count(outcome.lost, 'node', 'was', 'were')} lost on the way; what was "
            "begun there was made by others",
            err=True,
        )
    where = count(len(outcome.nodes), "node") if outcome.nodes else "no node"
    click.echo(
        f"{count(outcome.done, 'shard')} made on {where}, {outcome.done_before} done before: "
        f"{count(outcome.rows, 'embedding')}, {outcome.failures} failed: "
        f"{shown(job.out)} by {job.spec}"
    )
    _report_marks(job.dataset, job.spec)
    if not outcome.faults:
        _report_next(job.dataset, job.out)
    if not (faults := outcome.faults):
        return
    kinds = Counter(faults.values()).most_common(3)
    told = "; ".join(
        f"{_numbers([number for number in sorted(faults) if faults[number] == fault])}: {fault}"
        for fault, _ in kinds
    )
    if len(set(faults.values())) > len(kinds):
        told += "; …"
    shards = outcome.done + outcome.done_before + len(faults)
    one = len(faults) == 1
    raise ClusterError(
        f"{len(faults)} of {shards} shards {'is' if one else 'are'} not done ({shown(told)}); the "
        f"others are: run the same command again to try {'it' if one else 'them'} anew"
    )


def _numbers(shards: list[int]) -> str:
    some = ", ".join(map(str, shards[:_SHARDS_SHOWN]))
    more = f" and {len(shards) - _SHARDS_SHOWN} more" if len(shards) > _SHARDS_SHOWN else ""
    return f"{'shard' if len(shards) == 1 else 'shards'} {some}{more}"


def _report_failures(outcome: Outcome) -> None:
    for failure in outcome.failures[:_FAILURES_SHOWN]:
        click.echo(f"failed: {shown(failure.path)}: {failure.reason}", err=True)
    rest = outcome.failures[_FAILURES_SHOWN:]
    if rest:
        kinds = ", ".join(
            f"{count} {code}" for code, count in Counter(failure.code for failure in rest).items()
        )
        click.echo(f"failed: and {len(rest)} more ({kinds}), all listed in the file", err=True)
