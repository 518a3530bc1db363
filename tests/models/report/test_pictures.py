"""What the report shows of images: mistakes, leaks, the map, and what stands beside the curves."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.cache.contents import Features
from models.machine import machine
from models.report.dermatologists import READERS, reader_points
from models.report.embedding_map import embedding_map
from models.report.html import options_text, render_report
from models.report.mistakes import find_mistakes
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.results import Comparison
from tests.models.data.cached import cluster_features, spec_of
from tests.models.report.test_html import Page

FEATURES = cluster_features()
NASTY = 'x" onerror="alert(1)<script>.jpg'


def compared(
    features: Features = FEATURES, *, groups: np.ndarray | None = None, on_leak: str = "drop"
) -> Comparison:
    options = Options(heads=["logistic_regression"], folds=3, jobs=1, on_leak=on_leak)
    return compare_heads(features, options, groups=groups)


def report(comparison: Comparison, features: Features, **other: object) -> str:
    return render_report(
        comparison,
        features,
        created="2025-03-04T05:06:07+00:00",
        versions={"features": {}, "heads": {}},
        **other,  # type: ignore[arg-type]
    )


@pytest.fixture
def photographed(folder_of_images: Callable[..., Path]) -> Features:
    """The same embeddings, with files for all images but a few."""
    names = [f"images/{row}.jpg" for row in range(150)]
    names[0] = f"images/{NASTY}"
    folder = folder_of_images(*names)
    sha256 = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    items = replace(FEATURES.items, path=np.array(names), sha256=np.array(sha256))
    return replace(FEATURES, items=items, images=str(folder))


def test_mistakes_are_the_most_confident_ones(photographed: Features) -> None:
    comparison = compared(photographed)
    evaluations = comparison.best.evaluations
    found = find_mistakes(evaluations, comparison.images, photographed.images)
    assert [(group.split, group.missed) for group in found] == [
        (split, missed) for split in evaluations for missed in (True, False)
    ]
    for group in found:
        evaluation = evaluations[group.split]
        wrong = (evaluation.labels == 1) if group.missed else (evaluation.labels == 0)
        wrong &= evaluation.suspicious != (evaluation.labels == 1)
        expected = np.sort(evaluation.probabilities[wrong])
        expected = expected if group.missed else expected[::-1]
        assert group.total == wrong.sum()
        assert [shown.probability for shown in group.shown] == expected[:6].tolist()
        items = comparison.images[{"cross-validation": "train"}.get(group.split, group.split)]
        for shown in group.shown:
            place = items.path.tolist().index(shown.path)
            assert evaluation.probabilities[place] == shown.probability
            assert wrong[place]
            assert shown.proportions == "600 / 450"
            assert shown.picture is not None
            data = base64.b64decode(shown.picture.removeprefix("data:image/jpeg;base64,"))
            assert Image.open(io.BytesIO(data)).size == (160, 160)
            assert len(data) < 20_000
    assert sum(group.total for group in found) > 6


def test_files_that_are_gone_changed_or_broken_are_said_to_be(photographed: Features) -> None:
    comparison = compared(photographed)
    groups = find_mistakes(comparison.best.evaluations, comparison.images, "", thumbnails=False)
    group = max(groups, key=lambda one: len(one.shown))
    gone, changed, broken = (shown.path for shown in group.shown[:3])
    folder = Path(photographed.images)
    (folder / gone).unlink()
    (folder / changed).write_bytes(b"another file")
    (folder / broken).write_bytes(b"no image")
    images = {}
    for part, items in comparison.images.items():
        sha256 = items.sha256.copy()
        sha256[items.path == broken] = hashlib.sha256(b"no image").hexdigest()
        images[part] = replace(items, sha256=sha256)
    again = find_mistakes(comparison.best.evaluations, images, photographed.images)
    told = {shown.path: shown for group in again for shown in group.shown}
    assert "not where it was" in told[gone].missing
    assert "has changed" in told[changed].missing
    assert "can't be read" in told[broken].missing
    assert all(told[name].picture is None for name in (gone, changed, broken))
    html = report(replace(comparison, images=images), photographed)
    assert "not where it was at extraction" in Page(html).text


@pytest.mark.parametrize("thumbnails", [True, False])
def test_pictures_are_in_the_page_unless_they_are_not_wanted(
    photographed: Features, thumbnails: bool
) -> None:
    comparison = compared(photographed)
    html = report(comparison, photographed, thumbnails=thumbnails)
    page = Page(html)
    pictures = page.all("img")
    assert bool(pictures) is thumbnails
    assert ("whoever has it has them" in page.text) is thumbnails
    assert ("base64" in html) is thumbnails
    for group in find_mistakes(
        comparison.best.evaluations, comparison.images, "", thumbnails=False
    ):
        assert all(shown.name in page.text for shown in group.shown)
    assert len(html) < 500_000


def test_names_of_files_cannot_inject_anything(photographed: Features) -> None:
    comparison = compared(photographed)
    paths = {part: items.path for part, items in comparison.images.items()}
    images = {
        part: replace(comparison.images[part], path=np.full(len(path), f"a/{NASTY}"))
        for part, path in paths.items()
    }
    html = report(replace(comparison, images=images), photographed)
    page = Page(html)
    assert "<script" not in html
    assert NASTY in page.text
    assert not any("onerror" in attributes for _, attributes in page.elements)


def test_leaks_are_counted_and_the_head_is_judged_without_them() -> None:
    items = FEATURES.items
    group = np.full(len(items), "", "<U20")
    # Items 0, 1, 2 are of training, 3 of the validation split, 4 of the test split.
    group[[0, 3]] = "leak"
    group[[1, 2]] = "copies"
    label = items.label.copy()
    label[1], label[2] = "benign", "melanoma"
    label[3] = label[0]
    features = replace(FEATURES, items=replace(items, label=label))
    for on_leak, trained in (("drop", 0), ("group", 1)):
        comparison = compared(features, groups=group, on_leak=on_leak)
        audit = comparison.audit
        assert audit is not None
        assert audit.searched
        assert (audit.groups, audit.images, audit.contradicting, audit.crossing) == (2, 4, 1, 1)
        assert audit.trained == trained
        assert [(row.split, row.leaks) for row in audit.rows] == [("valid", True), ("valid", False)]
        whole, without = audit.rows
        assert whole.n == without.n + 1 == comparison.best.evaluations["valid"].n
        assert whole.auc == comparison.best.evaluations["valid"].auc
        assert comparison.as_dict()["audit"]["figures"][1]["n"] == without.n
        text = " ".join(Page(report(comparison, features)).text.split())
        assert "found 2 groups of copies with 4 image files" in text
        assert "Validation split, without them" in text
        assert ("trained on none of their relatives" in text) is (trained == 0)


def test_data_that_nobody_audited_say_so() -> None:
    comparison = compared()
    assert comparison.audit is not None
    assert not comparison.audit.searched
    assert comparison.audit.rows == ()
    assert "Nobody has looked for copies" in Page(report(comparison, FEATURES)).text


def test_the_map_is_the_same_for_the_same_seed_and_keeps_leaks() -> None:
    images = compared().images
    leaking = {"valid": np.arange(len(images["valid"])) == 2}
    first, again = (embedding_map(FEATURES, images, "melanoma", leaking) for _ in range(2))
    assert first is not None
    assert first == again
    assert first.total == len(first.points) == 150
    assert first.leaking.count(True) == 1
    assert first.parts[first.leaking.index(True)] == "valid"
    assert np.ptp(np.array(first.points), axis=0) == pytest.approx([0.96, 0.96])
    assert "t-SNE" in first.method


def test_like_images_are_neighbours_in_the_map() -> None:
    features = cluster_features()
    apart = features.embeddings.copy()
    positive = features.items.label == "melanoma"
    apart[positive] += 20
    features = replace(features, embeddings=apart)
    found = embedding_map(features, {"train": features.items}, "melanoma", {})
    assert found is not None
    points, truth = np.array(found.points), np.array(found.positive)
    distance = np.linalg.norm(points[:, None] - points, axis=2) + 9 * np.eye(len(points))
    assert (truth[distance.argmin(axis=1)] == truth).all()


@pytest.mark.parametrize(("n", "method"), [(2, None), (3, "principal"), (40, "principal")])
def test_few_images_have_a_simple_map_or_none(n: int, method: str | None) -> None:
    items = FEATURES.items.take(np.arange(n))
    found = embedding_map(FEATURES, {"train": items}, "melanoma", {})
    if method is None:
        assert found is None
    else:
        assert found is not None
        assert method in found.method
        assert np.isfinite(found.points).all()


def test_equal_embeddings_and_many_images_have_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = replace(FEATURES, embeddings=np.ones_like(FEATURES.embeddings))
    found = embedding_map(flat, {"train": FEATURES.items}, "melanoma", {})
    assert found is not None
    assert np.isfinite(found.points).all()
    monkeypatch.setattr("models.report.embedding_map._LARGEST", 70)
    leaking = {"train": np.arange(150) % 3 == 0}
    found = embedding_map(FEATURES, {"train": FEATURES.items}, "melanoma", leaking)
    assert found is not None
    assert (len(found.points), found.total) == (70, 150)
    assert sum(found.leaking) == 50


def test_dermatologists_stand_beside_photographs_of_melanoma_only() -> None:
    spec = spec_of(weights="pretrained", weights_sha256="a" * 64)
    photographs = replace(FEATURES, spec=spec, synthetic=False)
    assert reader_points(photographs, "melanoma") == READERS
    assert reader_points(photographs, "MEL") == READERS
    assert reader_points(photographs, "bcc") == ()
    assert reader_points(FEATURES, "melanoma") == ()
    comparison = compared(photographs)
    page = Page(report(comparison, photographs))
    assert "not a comparison on these images" in " ".join(page.text.split())
    marks = [path for path in page.all("path") if path.get("class") == "reader"]
    assert len(marks) == len(READERS) * 3
    for point in READERS:
        assert f"specificity {100 * point.specificity:g} %" in point.sentence
        assert point.sentence in page.text
    assert "dermatologists" not in Page(report(compared(), FEATURES)).text


def test_options_and_machine_are_told() -> None:
    options = {
        "seed": 7,
        "metadata": (Path("/home/somebody/meta.csv"),),
        "heads": (),
        "overwrite": True,
    }
    text = " ".join(Page(report(compared(), FEATURES, options=options)).text.split())
    assert "--seed 7; --metadata meta.csv; --heads default; --overwrite yes" in text
    assert "somebody" not in text
    assert options_text({"head": None}) == {"head": "default"}
    for value in machine().values():
        assert value
        assert value in text
