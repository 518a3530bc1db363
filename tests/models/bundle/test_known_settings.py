from __future__ import annotations

from pathlib import Path

import pytest

from models.bundle.known_settings import read_settings
from models.bundle.manifest import BundleRefused
from models.errors import TrainingError
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.cached import cluster_features

TREES = "max_bin=16,n_estimators=30"


def test_settings_are_read_as_the_head_takes_them() -> None:
    assert read_settings("C=3, gamma=6e-5", ["svm"]) == ("svm", {"C": 3.0, "gamma": 6e-5})
    name, settings = read_settings(
        f"max_depth=2,learning_rate=0.1,colsample_bytree=0.5,{TREES}", ["xgboost"]
    )
    assert name == "xgboost"
    assert settings["n_estimators"] == 30
    assert type(settings["n_estimators"]) is int


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("C=3", [], "needs the one head"),
        ("C=3", ["svm", "xgboost"], "needs the one head"),
        ("C=3", ["my.Model"], "needs the one head"),
        ("C=3", ["svm"], "also needs gamma"),
        ("K=3", ["svm"], "no setting 'K'.*C=…, gamma=…"),
        ("C=3,gamma=", ["svm"], "got gamma=, expected a number above 0"),
        ("C=-1,gamma=1", ["svm"], "got C=-1, expected a number above 0"),
        ("C=inf", ["logistic_regression"], "got C=inf"),
        (
            f"max_depth=2.5,learning_rate=0.1,colsample_bytree=0.5,{TREES}",
            ["xgboost"],
            "got max_depth=2.5, expected a whole number",
        ),
        (
            f"max_depth=2,learning_rate=0.1,colsample_bytree=5,{TREES}",
            ["xgboost"],
            "colsample_bytree=5, expected a share",
        ),
    ],
)
def test_settings_that_are_not_the_heads_are_refused(
    text: str, names: list[str], said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        read_settings(text, names)


def test_nothing_is_searched_and_a_bundle_gives_its_own_settings(tmp_path: Path) -> None:
    features = cluster_features()
    settings = {"svm": {"C": 2.0, "gamma": 0.01}}
    found = compare_heads(features, Options(heads=["svm"], folds=3, jobs=1, settings=settings))
    assert [one.settings for one in found.best.candidates] == [settings["svm"]]
    assert found.best.evaluations["cross-validation"].auc is not None
    publish_bundle(tmp_path / "bundle", found, features)
    assert read_settings(str(tmp_path / "bundle"), []) == ("svm", settings["svm"])
    with pytest.raises(TrainingError, match="are of the head svm, not of xgboost"):
        read_settings(str(tmp_path / "bundle"), ["xgboost"])


def test_a_bundle_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="there is no bundle"):
        read_settings(str(tmp_path / "nothing"), [])
