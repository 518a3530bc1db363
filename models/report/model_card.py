"""The model card: what the classifier is for, how it was judged, and where it must not be used."""

from __future__ import annotations

import html
import re
from typing import Final

from features.cache.contents import Features
from features.presenting import MARKS, NOT_A_DIAGNOSIS, SPLIT_TITLES
from models.evaluation.paired import sentence
from models.report.html import environment, splits_of
from models.training.representations.described import trained_on
from models.training.representations.joining import join_features
from models.training.results import Comparison

__all__ = ["render_card"]

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]#|~$!])")


def render_card(comparison: Comparison, features: Features, *, created: str) -> str:
    """Write the model card.

    Parameters
    ----------
    comparison : Comparison
    features : Features
        What the heads were fitted on.
    created : str
        ISO 8601 time in UTC.

    Returns
    -------
    str
        Markdown; text from the data set is escaped.

    References
    ----------
    Mitchell et al., Model Cards for Model Reporting, FAT* 2019; Daneshjou et al., Checklist for
    evaluation of image-based artificial intelligence reports in dermatology (CLEAR Derm), JAMA
    Dermatology 2022.
    """
    templates = environment()
    networks = join_features(features).members
    templates.filters.update(md=_escaped)
    return templates.get_template("MODEL_CARD.md").render(
        comparison=comparison,
        features=features,
        networks=networks,
        trained_on={name: trained_on(each) for name, each in networks.items()},
        created=created,
        best=comparison.best,
        splits=splits_of(comparison),
        split_titles=SPLIT_TITLES,
        marks={mark: MARKS[mark] for mark in comparison.marks},
        notice=NOT_A_DIAGNOSIS,
        negative=comparison.labels[0],
        positive=comparison.labels[1],
        notes=_notes(comparison),
        classes=sorted({name for row in comparison.counts.values() for name in row}),
    )


def _notes(comparison: Comparison) -> list[str]:
    """Give what must be known, and of the paired tests those of the chosen head."""
    title = comparison.best.title
    others = {sentence(test) for test in comparison.tests if title not in (test.first, test.second)}
    return [note for note in comparison.notes if note not in others]


def _escaped(text: str) -> str:
    # Some renderers take a backslash before "<" for text, and the tag for a tag.
    entities = html.escape(" ".join(text.split()), quote=False)
    return _MARKDOWN.sub(r"\\\1", entities)
