"""Estimators of the user's own, by their dotted path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.errors import TrainingError
from models.heads import HEADS
from models.heads.base import score
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.own_heads import find_head
from tests.models.data.clusters import clusters, features_of

Write = Callable[..., str]

MODULE = """
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def pipeline():
    return make_pipeline(StandardScaler(), GaussianNB())

ready = LogisticRegression(C=0.5)
number = 7

def needs(what):
    return GaussianNB()

def regression():
    return LinearRegression()

class FirstColumn(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = sorted(set(y))
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X):
        return X[:, 0]

class Broken(FirstColumn):
    def fit(self, X, y):
        raise ValueError("needs 1000 images")

class Wide(FirstColumn):
    def decision_function(self, X):
        return X
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module into the current folder and give its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def module(text: str = MODULE, name: str = "own_heads") -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    yield module
    for name in ("own_heads", "own_broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["pipeline", "ready", "FirstColumn"])
def test_a_function_an_estimator_and_a_class_are_found(name: str, write: Write) -> None:
    head = find_head(f"{write()}.{name}")
    X, y = clusters(60, 12)
    fitted = head.fit(head.candidates(12)[0], X, y, seed=0, jobs=1)
    assert np.isfinite(score(fitted, X)).all()
    assert head.storable is (name != "FirstColumn")


def test_names_of_the_projects_own_heads_are_those_heads() -> None:
    for name, head in HEADS.items():
        assert find_head(name) is head


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "svn",
            "no head is called 'svn'.*logistic_regression, svm, xgboost.*my_module.MyEstimator",
        ),
        ("no_such_module.Model", "no module no_such_module.*current folder"),
        ("sklearn.no_such.Model", "no module sklearn.no_such"),
        ("sklearn.svm.NoSuch", "the module sklearn.svm has no NoSuch"),
        ("own_heads.number", "is an int, expected a scikit-learn classifier"),
        ("own_heads.needs", r"own_heads.needs\(\) fails.*made without arguments"),
        ("own_heads.regression", "is a LinearRegression, expected a scikit-learn classifier"),
        ("own_heads.Broken", r"can't be trained.*needs 1000 images"),
        ("own_heads.Wide", r"gives scores of shape \(80, 16\), expected one finite number"),
        ("sklearn.svm", "the module sklearn.svm|is a module"),
        (".svm", "no module|can't be imported"),
    ],
)
def test_what_is_no_head_is_refused_in_one_sentence(name: str, said: str, write: Write) -> None:
    write()
    with pytest.raises(TrainingError, match=said) as refusal:
        find_head(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["import no_such_thing", "def", "1 / 0", "raise OSError('disk')"])
def test_a_module_that_cannot_be_imported_is_named(text: str, write: Write) -> None:
    name = write(text, "own_broken")
    with pytest.raises(TrainingError, match=r"the module own_broken .*can't be imported"):
        find_head(f"{name}.Model")


def test_the_seed_is_given_to_whatever_takes_one() -> None:
    head = find_head("sklearn.ensemble.RandomForestClassifier")
    assert head.make({}, 7).random_state == 7
    assert head.make({}, 7).get_params() == head.make({}, 7).get_params()


def test_only_code_of_known_version_may_be_reused(write: Write) -> None:
    name = write()
    assert find_head("sklearn.naive_bayes.GaussianNB").reusable
    assert not find_head(f"{name}.FirstColumn").reusable


def test_an_own_head_is_compared_on_the_same_terms_and_never_chosen_if_unsafe(
    write: Write,
) -> None:
    X, y = clusters(150, 12, distance=1.0)
    X[:, 0] = y * 10  # which the own head alone makes everything of
    features = features_of(X, np.where(y, "melanoma", "naevus"))
    own = f"{write()}.FirstColumn"
    found = compare_heads(features, Options(heads=["logistic_regression", own], folds=3, jobs=1))
    assert found.chosen == "logistic_regression"
    judged = found.heads[own].evaluations["cross-validation"]
    other = found.heads["logistic_regression"].evaluations["cross-validation"]
    assert judged.labels.tolist() == other.labels.tolist()
    assert judged.auc is not None
    assert judged.auc.value == 1
    assert {found.heads[own].title} <= {test.second for test in found.tests}
    assert any("a bundle can't hold its parts" in note for note in found.notes)


def test_a_head_that_no_bundle_can_hold_cannot_be_the_one_to_serve(write: Write) -> None:
    X, y = clusters(90, 12)
    features = features_of(X, np.where(y, "melanoma", "naevus"))
    own = f"{write()}.FirstColumn"
    for asked in ({"heads": [own]}, {"heads": ["svm", own], "head": own}):
        with pytest.raises(TrainingError, match=r"a bundle can't hold own_heads\.FirstColumn"):
            compare_heads(features, Options(folds=3, **asked))
