"""The report: one HTML file that explains a comparison and needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from features.cache import Features
from features.marks import MARKS
from features.page import page_environment
from models import plots
from models.figure_rows import figures
from models.notices import NOT_A_DIAGNOSIS, SPLIT_TITLES
from models.reliability import tenths
from models.results import Comparison, Evaluation, Interval

__all__ = ["render_report", "splits_of"]


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

    Returns
    -------
    str
        HTML without references to other files; text from the data set is escaped.
    """
    heads = list(comparison.heads.values())
    splits = splits_of(comparison)
    best = comparison.best
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
            created=created,
            versions=versions,
            heads=heads,
            best=best,
            splits=splits,
            split_titles=SPLIT_TITLES,
            images=judged,
            headline=best.evaluations[splits[-1]],
            judged=best.evaluations["cross-validation"],
            marks={mark: MARKS[mark] for mark in comparison.marks},
            notice=NOT_A_DIAGNOSIS,
            negative=comparison.labels[0],
            positive=comparison.labels[1],
            classes=sorted({name for row in comparison.counts.values() for name in row}),
            intervals=plots.interval_plot(splits, heads),
            rocs={split: plots.roc_plot(split, heads) for split in splits},
            histogram=plots.histogram_plot(
                best.evaluations["cross-validation"], best.threshold, comparison.labels
            ),
            calibration=plots.calibration_plot(best.evaluations["cross-validation"]),
            bins=tenths(
                best.evaluations["cross-validation"].labels,
                best.evaluations["cross-validation"].probabilities,
            ),
            precisions={split: plots.precision_plot(split, heads) for split in splits},
            decision=plots.decision_plot(best.evaluations["cross-validation"], best.threshold),
            figures={split: figures(found) for split, found in best.evaluations.items()},
        )
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Give the templates, with HTML escaping and the filters that write figures."""
    return page_environment(
        Path(__file__).parent / "templates",
        figure=_figure,
        p_value=_p_value,
        signed=_signed,
        spread=_spread,
        percent=_percent,
        share=_share,
        setting=_setting,
    )


def _figure(value: float | Interval | None) -> str:
    if value is None:
        return "\u2013"
    return f"{value.value if isinstance(value, Interval) else value:.3f}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")


def _spread(value: Interval | None) -> str:
    return "" if value is None else f"{value.low:.3f}\u2013{value.high:.3f}"


def _percent(value: Interval | None) -> str:
    return "\u2013" if value is None else f"{100 * value.value:.1f} %"


def _share(found: Evaluation) -> str:
    return f"{100 * found.positives / found.n:.1f} %"


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
