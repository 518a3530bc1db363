"""The ensemble: the mean of its members' standardised scores, judged and kept like any head."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle.loading import load_bundle
from models.errors import TrainingError
from models.heads import HEADS
from models.heads.base import score
from models.heads.ensemble import ENSEMBLE, MEMBERS, Ensemble, Scale, average, side_by_side
from models.heads.files import HeadFileError, dump_head, load_head
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.clusters import clusters, features_of

X, Y = clusters(160, 12, distance=1.0)
FEATURES = features_of(
    X, np.where(Y == 1, "melanoma", "benign"), split=["train"] * 120 + ["valid"] * 40
)


def fitted(*names: str) -> Ensemble:
    members = {}
    for name in names:
        head = HEADS[name]
        members[name] = head.fit(head.candidates(12)[-1], X, Y, seed=0, jobs=1)
    _, scales = average({name: score(member, X) for name, member in members.items()})
    return Ensemble(members, scales)


def edited(data: bytes, **files: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(written, "w") as target:
        for name in source.namelist():
            target.writestr(name, files.get(name, source.read(name)))
    return written.getvalue()


def test_members_count_alike_whatever_the_scale_of_their_scores() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 50))
    plain, _ = average({"one": one, "two": two})
    moved, _ = average({"one": 1000 * one + 7, "two": two / 50 - 3})
    np.testing.assert_allclose(moved, plain, atol=1e-12)
    assert np.corrcoef(plain, one)[0, 1] == pytest.approx(np.corrcoef(plain, two)[0, 1])


def test_a_member_whose_scores_are_all_the_same_changes_no_order() -> None:
    one = np.array([3.0, 1.0, 2.0])
    mean, scales = average({"one": one, "flat": np.full(3, 5.0)})
    assert scales["flat"] == Scale(5.0, 1.0)
    assert np.argsort(mean).tolist() == np.argsort(one).tolist()


def test_the_estimator_scores_as_the_average_of_its_members() -> None:
    ensemble = fitted(*MEMBERS)
    by_hand = np.mean(
        [
            (score(member, X) - score(member, X).mean()) / score(member, X).std()
            for member in ensemble.members.values()
        ],
        axis=0,
    )
    np.testing.assert_allclose(score(ensemble, X), by_hand, atol=1e-12)
    assert ensemble.n_features_in_ == 12
    assert ensemble.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("names", [MEMBERS, (*MEMBERS, "xgboost")])
def test_a_file_gives_back_the_same_ensemble(names: tuple[str, ...], tmp_path: Path) -> None:
    ensemble = fitted(*names)
    assert dump_head(ensemble, tmp_path) == "head.zip"
    data = (tmp_path / "head.zip").read_bytes()
    again = load_head("head.zip", data)
    assert list(again.members) == list(names)
    np.testing.assert_array_equal(score(again, X), score(ensemble, X))
    dump_head(fitted(*names), tmp_path)
    assert (tmp_path / "head.zip").read_bytes() == data


def table(**change: Any) -> bytes:
    entry = {"name": "svm", "file": "head.safetensors", "centre": 0.0, "width": 1.0} | change
    return json.dumps([entry]).encode()


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        (table(width=0.0), "no sense"),
        (table(centre=float("nan")), "no sense"),
        (table(file="../head.skops"), "which is no head|can't be read"),
        (table(file="head.zip"), "which is no head|can't be read"),
        (b"[]", "names no members"),
        (b"7", "names no members"),
        (b'[{"name": "svm"}]', "can't be read"),
        (b"{", "can't be read"),
    ],
)
def test_a_table_without_sense_is_refused(about: bytes, reason: str, tmp_path: Path) -> None:
    dump_head(fitted(*MEMBERS), tmp_path)
    data = edited((tmp_path / "head.zip").read_bytes(), **{"ensemble.json": about})
    with pytest.raises(HeadFileError, match=reason):
        load_head("head.zip", data)


def test_a_member_within_is_looked_at_like_any_head(tmp_path: Path) -> None:
    dump_head(fitted(*MEMBERS), tmp_path)
    smuggled = {"0/head.linear.safetensors": b"cos\nsystem\n"}
    data = edited((tmp_path / "head.zip").read_bytes(), **smuggled)
    with pytest.raises(HeadFileError, match="can't be read"):
        load_head("head.zip", data)


def test_an_ensemble_within_an_ensemble_is_refused(tmp_path: Path) -> None:
    nested = Ensemble({"svm": fitted(*MEMBERS)}, {"svm": Scale(0.0, 1.0)})
    dump_head(nested, tmp_path)
    with pytest.raises(HeadFileError, match="which is no head"):
        load_head("head.zip", (tmp_path / "head.zip").read_bytes())


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    dump_head(fitted(*MEMBERS), tmp_path)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ensemble.json", table())
        archive.writestr("0/head.safetensors", bytes(10_000_000))
    with pytest.raises(HeadFileError, match="compressed"):
        load_head("head.zip", written.getvalue())


def test_it_is_compared_like_any_head_and_agrees_with_its_members() -> None:
    comparison = compare_heads(FEATURES, Options(folds=3, jobs=1))
    assert list(comparison.heads) == [*HEADS, ENSEMBLE]
    result = comparison.heads[ENSEMBLE]
    members = [comparison.heads[name] for name in MEMBERS]
    for split in ("cross-validation", "valid"):
        expected = np.mean(
            [
                (one.evaluations[split].scores - one.evaluations["cross-validation"].scores.mean())
                / one.evaluations["cross-validation"].scores.std()
                for one in members
            ],
            axis=0,
        )
        np.testing.assert_allclose(result.evaluations[split].scores, expected, atol=1e-9)
    np.testing.assert_allclose(
        score(result.estimator, X[120:]), result.evaluations["valid"].scores, atol=1e-9
    )
    pairs = {(test.first, test.second) for test in comparison.tests}
    assert ("SVM (RBF)", "Ensemble") in pairs


def test_it_is_chosen_where_it_is_best() -> None:
    comparison = compare_heads(FEATURES, Options(heads=[*MEMBERS, ENSEMBLE], folds=3, jobs=1))
    areas = {
        name: head.evaluations["cross-validation"].auc for name, head in comparison.heads.items()
    }
    assert comparison.chosen == max(areas, key=lambda name: areas[name].value)  # type: ignore[union-attr]
    asked = compare_heads(
        FEATURES, Options(heads=[*MEMBERS, ENSEMBLE], head=ENSEMBLE, folds=3, jobs=1)
    )
    assert asked.chosen == ENSEMBLE


@pytest.mark.parametrize(
    ("heads", "head", "reason"),
    [
        (["svm", "ensemble"], None, "averages logistic_regression and svm: ask for those"),
        (["ensemble"], None, "no head to train"),
        (["svm"], "ensemble", "the head to choose, ensemble, is not among"),
    ],
)
def test_what_it_averages_must_be_trained(heads: list[str], head: str | None, reason: str) -> None:
    with pytest.raises(TrainingError, match=reason):
        compare_heads(FEATURES, Options(heads=heads, head=head, folds=3, jobs=1))


def test_it_is_not_made_where_other_heads_were_asked_for() -> None:
    assert ENSEMBLE not in compare_heads(FEATURES, Options(heads=["svm"], folds=3, jobs=1)).heads


def test_a_bundle_holds_it(tmp_path: Path) -> None:
    comparison = compare_heads(
        FEATURES, Options(heads=[*MEMBERS, ENSEMBLE], head=ENSEMBLE, folds=3, jobs=1)
    )
    publish_bundle(tmp_path / "bundle", comparison, FEATURES)
    bundle = load_bundle(tmp_path / "bundle")
    assert (bundle.head_name, bundle.head_title) == ("ensemble", "Ensemble")
    assert bundle.settings == {"members": "logistic_regression, svm"}
    np.testing.assert_allclose(bundle.score(X), score(comparison.best.estimator, X), rtol=1e-9)
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "members = logistic_regression, svm" in card
    assert "Ensemble" in (tmp_path / "bundle" / "report.html").read_text(encoding="utf-8")


def of_two_networks() -> tuple[Ensemble, Ensemble]:
    """Give an average over embeddings of 12 and 5 numbers, and it as it is given all 17."""
    members = {}
    for name, rows in (("one", X), ("two", X[:, :5])):
        inner = {
            each: HEADS[each].fit(HEADS[each].candidates(12)[-1], rows, Y, seed=0, jobs=1)
            for each in MEMBERS
        }
        members[name] = Ensemble(inner, average({k: score(m, rows) for k, m in inner.items()})[1])
    scores = {"one": score(members["one"], X), "two": score(members["two"], X[:, :5])}
    together = Ensemble(members, average(scores)[1])
    return together, side_by_side(together, {"one": slice(0, 12), "two": slice(12, 17)})


def test_members_side_by_side_give_the_same_mean_and_come_back(tmp_path: Path) -> None:
    together, joined = of_two_networks()
    rows = np.hstack([X, X[:, :5]])
    expected = together.combine(
        {"one": score(together.members["one"], X), "two": score(together.members["two"], X[:, :5])}
    )
    np.testing.assert_allclose(score(joined, rows), expected, atol=1e-9)
    assert joined.n_features_in_ == 17
    assert len(joined.members) == 4
    again = load_head(name := dump_head(joined, tmp_path), (tmp_path / name).read_bytes())
    assert again.columns == joined.columns
    np.testing.assert_allclose(score(again, rows), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("columns", [[0, 11], [12, 12], [5, 1], [-12, 0], ["0", "12"], [0.0, 12.0]])
def test_columns_that_are_no_part_of_embeddings_are_refused(
    columns: list[object], tmp_path: Path
) -> None:
    _, joined = of_two_networks()
    data = (tmp_path / dump_head(joined, tmp_path)).read_bytes()
    about = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("ensemble.json"))
    about[0]["columns"] = columns
    changed = edited(data, **{"ensemble.json": json.dumps(about).encode()})
    if columns == [0, 11]:
        # Of another length than its member takes: no bundle takes such a head.
        assert load_head("head.zip", changed).n_features_in_ is None
        return
    with pytest.raises(HeadFileError):
        load_head("head.zip", changed)
