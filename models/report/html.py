"""The report of a comparison, as one HTML page without scripts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from features.cache.contents import Features
from features.datasets.plan import lines
from features.numbers import DASH
from features.presenting import MARKS, NOT_A_DIAGNOSIS, SPLIT_TITLES, page_environment
from models.evaluation.paired import sentence
from models.evaluation.reliability import tenths
from models.machine import machine
from models.report import plots
from models.report.dermatologists import reader_points
from models.report.embedding_map import embedding_map
from models.report.mistakes import find_mistakes
from models.report.numbers import FILTERS, figures, typeset
from models.report.plots import confusion_plot
from models.results_cache import Kept
from models.training.representations.described import trained_on
from models.training.representations.joining import join_features
from models.training.results import Comparison

__all__ = ["options_text", "render_report", "splits_of"]


def options_text(options: Mapping[str, Any]) -> dict[str, str]:
    """Write the options of a command as a person gives them.

    Parameters
    ----------
    options : mapping
        Values by parameter name.

    Returns
    -------
    dict of str to str
        Of paths only the last part: folders may name people.

    Examples
    --------
    >>> options_text({"on_leak": "drop", "heads": (), "out": Path("home/me/bundle")})
    {'on-leak': 'drop', 'heads': 'default', 'out': 'bundle'}
    """
    return {name.replace("_", "-"): _written(value) for name, value in options.items()}


def _written(value: Any) -> str:
    if value is None or value == ():
        return "default"
    if isinstance(value, tuple):
        return ", ".join(map(_written, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.name if isinstance(value, Path) else str(value)


def splits_of(comparison: Comparison) -> list[str]:
    """Name the splits that any head was evaluated on, cross-validation first."""
    found = {split for head in comparison.heads.values() for split in head.evaluations}
    return [split for split in SPLIT_TITLES if split in found]


def render_report(
    comparison: Comparison,
    features: Features,
    *,
    created: str,
    versions: Mapping[str, Mapping[str, str]],
    thumbnails: bool = True,
    options: Mapping[str, Any] | None = None,
    kept: Kept | None = None,
) -> str:
    """Write the report.

    Parameters
    ----------
    comparison : Comparison
    features : Features
        What the heads were fitted on.
    created : str
        ISO 8601 time in UTC.
    versions : mapping
        Software by step, as in a bundle.
    thumbnails : bool
        Whether misjudged images are shown; the pictures are in the page then.
    options : mapping, optional
        Of the command that made the comparison, by parameter name.
    kept : Kept, optional
        As for `models.report.embedding_map.embedding_map`.

    Returns
    -------
    str
        HTML without references to other files; text from the data set is escaped.
    """
    networks = join_features(features).members
    heads = list(comparison.heads.values())
    splits = splits_of(comparison)
    best = comparison.best
    cross_validated = best.evaluations["cross-validation"]
    tests = comparison.tests
    readers = reader_points(features, comparison.labels[1])
    layout = embedding_map(
        features,
        comparison.images,
        comparison.labels[1],
        {} if comparison.audit is None else comparison.audit.leaking,
        seed=comparison.seed,
        kept=kept,
    )
    judged = {
        split: next(head.evaluations[split] for head in heads if split in head.evaluations)
        for split in splits
    }
    return (
        environment()
        .get_template("report.html")
        .render(
            comparison=comparison,
            features=features,
            networks=networks,
            trained_on={name: trained_on(each) for name, each in networks.items()},
            created=created,
            versions=versions,
            heads=heads,
            best=best,
            splits=splits,
            split_titles=SPLIT_TITLES,
            images=judged,
            headline=best.evaluations[splits[-1]],
            judged=cross_validated,
            marks={mark: MARKS[mark] for mark in comparison.marks},
            notice=NOT_A_DIAGNOSIS,
            negative=comparison.labels[0],
            positive=comparison.labels[1],
            classes=sorted({name for row in comparison.counts.values() for name in row}),
            intervals=plots.interval_plot(splits, heads),
            readers=readers,
            rocs={split: plots.roc_plot(split, heads, readers) for split in splits},
            histogram=plots.histogram_plot(
                cross_validated, best.decision.threshold, comparison.labels
            ),
            calibration=plots.calibration_plot(cross_validated),
            bins=tenths(cross_validated.labels, cross_validated.probabilities),
            precisions={split: plots.precision_plot(split, heads) for split in splits},
            decision=plots.decision_plot(cross_validated, best.decision.threshold),
            figures=_side_by_side([figures(found) for found in best.evaluations.values()]),
            mistakes=find_mistakes(
                best.evaluations, comparison.images, features.images, thumbnails=thumbnails
            ),
            thumbnails=thumbnails,
            audit=comparison.audit,
            layout=layout,
            picture=layout and plots.map_plot(layout, comparison.labels),
            # The table of paired tests says these.
            notes=[note for note in comparison.notes if note not in set(map(sentence, tests))],
            # Folders that say nothing may name people.
            plan=[line for line in lines(features.plan) if not line.startswith("and ")]
            if features.plan
            else [],
            options=options_text(options or {}),
            machine=machine(),
            confusion_plot=confusion_plot,
        )
    )


def _side_by_side(rows: list[list[tuple[str, str, str]]]) -> list[tuple[str, list[str], str]]:
    """Give each figure once, with its values on all splits; a split may lack some."""
    methods = {name: method for split in rows for name, _, method in split}
    values = [{name: typeset(value) for name, value, _ in split} for split in rows]
    return [
        (name, [split.get(name, DASH) for split in values], method)
        for name, method in methods.items()
    ]


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Give the templates, with HTML escaping and the filters that write figures."""
    return page_environment(Path(__file__).parent / "templates", **FILTERS)
