"""The report and the model card: complete, self-contained, and safe to open."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest

from features.cache.contents import Features
from features.presenting import MARKS
from models.evaluation.values import Interval
from models.heads import HEADS
from models.report.html import render_report
from models.report.model_card import render_card
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.results import Comparison, Subgroup
from tests.models.data.cached import cluster_features, spec_of

FEATURES = cluster_features()
VERSIONS = {"features": {"python": "3.12"}, "heads": {"scikit-learn": "1.9"}}
NASTY = '<script>alert("x")</script>|`*_'


@cache
def compared(*names: str) -> Comparison:
    return compare_heads(FEATURES, Options(heads=names or list(HEADS), folds=3, jobs=1))


def report(comparison: Comparison, features: Features = FEATURES) -> str:
    return render_report(
        comparison, features, created="2025-03-04T05:06:07+00:00", versions=VERSIONS
    )


def card(comparison: Comparison, features: Features = FEATURES) -> str:
    return render_card(comparison, features, created="2025-03-04T05:06:07+00:00")


class Page(HTMLParser):
    """What is on a page: its elements, its text, and whether all that was opened is closed."""

    VOID = (
        "meta",
        "link",
        "br",
        "hr",
        "img",
        "input",
        "polyline",
        "polygon",
        "circle",
        "path",
        "rect",
    )

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_report_needs_nothing_beside_it() -> None:
    html = report(compared())
    page = Page(html)
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.elements:
        assert not {"href", "xlink:href", "action", "srcset"} & set(attributes)
        assert str(attributes.get("src", "data:")).startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_every_head_is_shown_on_every_split() -> None:
    comparison = compared()
    page = Page(report(comparison))
    for head in comparison.heads.values():
        for found in head.evaluations.values():
            assert found.auc is not None
            assert f"{found.auc.value:.3f}" in page.text
            assert f"{found.auc.low:.3f}\u2013{found.auc.high:.3f}" in page.text
            assert f"{found.brier.value:.3f}" in page.text
        assert head.title in page.text
    curves = [line for line in page.all("polyline") if str(line["class"]).startswith("curve")]
    # ROC and precision-recall of every head on every split, and one decision curve.
    assert len(curves) == 2 * 3 * 3 + 1
    pictures = [picture for picture in page.all("svg") if picture.get("role") == "img"]
    # Intervals, ROC and precision-recall by split, histogram, calibration, decision curve, map.
    assert len(pictures) == 1 + 3 + 3 + 3 + 1
    assert all(picture["aria-label"] for picture in pictures)


def test_curves_stay_inside_their_frame() -> None:
    page = Page(report(compared()))
    boxes = iter(page.all("svg"))
    size = (0.0, 0.0)
    for tag, attributes in page.elements:
        if tag == "svg":
            width, height = str(next(boxes)["viewbox"]).split()[2:]
            size = (float(width), float(height))
        for pair in str(attributes.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= size[0]
            assert 0 <= y <= size[1]


def test_settings_and_origin_are_told() -> None:
    comparison = compared()
    text = " ".join(Page(report(comparison)).text.split())
    best = comparison.best
    for told in (
        comparison.fingerprint,
        FEATURES.spec.weights_sha256,
        best.decision.threshold_rule,
        comparison.chosen_by,
        "scikit-learn 1.9",
        "2025-03-04T05:06:07+00:00",
        "3 folds, seed 0",
        "Decision support, not a diagnosis",
    ):
        assert told in text
    more = replace(comparison, notes=("A note of its own.", *comparison.notes))
    text = Page(report(more)).text
    assert "A note of its own." in text
    # The table of paired tests says what these notes do.
    assert any("ROC AUCs differ" in note for note in comparison.notes)
    assert "ROC AUCs differ" not in text


@pytest.mark.parametrize("marked", [True, False])
def test_marks_are_shown_when_there_are_any(marked: bool) -> None:
    features = FEATURES
    if not marked:
        spec = spec_of(weights="pretrained", weights_sha256="a" * 64)
        features = replace(FEATURES, spec=spec, synthetic=False)
    comparison = replace(compared(), marks=features.marks)
    for text in (report(comparison, features), card(comparison, features)):
        for sentence in MARKS.values():
            assert (sentence.replace("'", "&#39;") in text or sentence in text) is marked


def test_names_from_the_data_cannot_inject_anything() -> None:
    features = cluster_features(labels=("benign", NASTY))
    comparison = compare_heads(
        features, Options(positive=NASTY, heads=["logistic_regression"], folds=3, jobs=1)
    )
    comparison = replace(comparison, notes=(*comparison.notes, f"such as {NASTY}"))
    html = report(comparison, features)
    assert "<script" not in html
    assert NASTY in Page(html).text
    markdown = card(comparison, features)
    assert "<script" not in markdown
    assert "&lt;script&gt;" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| train")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 5


def test_data_without_other_splits_is_reported() -> None:
    features = cluster_features(splits=("",))
    comparison = compare_heads(features, Options(heads=["svm"], folds=3, jobs=1))
    page = Page(report(comparison, features))
    assert len([picture for picture in page.all("svg") if "role" in picture]) == 1 + 2 + 3 + 1
    assert "Validation split" not in page.text
    assert "| Test split" not in card(comparison, features)


def test_a_split_with_one_class_is_reported() -> None:
    features = cluster_features()
    label, split = features.items.label.copy(), features.items.split
    label[split == "test"] = "benign"
    features = replace(features, items=replace(features.items, label=label))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    html = report(comparison, features)
    assert "one class only" in Page(html).text
    assert "nan" not in html.lower().replace("tolerance", "")
    assert "| Test split | 30 | 0 | \u2013 |" in card(comparison, features)


def test_the_card_says_what_it_must() -> None:
    comparison = compared()
    text = card(comparison)
    for heading in ("Intended use", "Data", "Metrics", "Threshold", "Limits"):
        assert f"## {heading}\n" in text
    for told in ("Decision support, not a diagnosis", "skin tone", "not a medical device"):
        assert told in text
    for heading in ("Factors", "Ethical considerations"):
        assert f"## {heading}\n" in text
    for note in comparison.notes:
        chosen = comparison.best.title in note or "ROC AUCs differ" not in note
        assert (note.split(":")[0] in text.replace("\\", "")) is chosen
    auc = comparison.best.evaluations["test"].auc
    assert auc is not None
    assert f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})" in text


def test_zone_tests_and_subgroups_are_shown() -> None:
    comparison = compared()
    rows = [
        Subgroup("test", "age", "under 30", 12, 2, None, None, Interval(0.5, 0.2, 0.8), few=True),
        Subgroup("test", "sex", NASTY, 40, 14, Interval(0.7, 0.5, 0.8), None, None, few=False),
    ]
    html = report(replace(comparison, subgroups=tuple(rows)))
    text = " ".join(Page(html).text.split())
    zone = comparison.best.decision.zone
    assert f"From {zone.lower:.3f} to {zone.upper:.3f} the verdict is cannot tell" in text
    assert "age: under 30 few" in text
    assert f"sex: {NASTY}" in text
    assert "<script" not in html
    for test in comparison.tests:
        assert f"{test.first} \u2212 {test.second}" in text
    assert "can't tell them apart" in text
    assert "Subgroups" not in report(comparison)
    for shown in (comparison, replace(comparison, subgroups=tuple(rows))):
        examined = "were not examined" in card(shown) and "age, sex, body site, camera" in card(
            shown
        )
        assert examined is not bool(shown.subgroups)
