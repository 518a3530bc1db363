"""The SVM is scikit-learn's, and kept as plain numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from models.heads.base import score
from models.heads.files import HeadFileError, dump_head, load_head
from models.heads.folds.fold import whole
from models.heads.svm import SVM, KernelMachine
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.clusters import clusters, features_of


def machine(n: int = 70, d: int = 30) -> KernelMachine:
    X, y = clusters(n, d, distance=1.0)
    fitted = SVM.refit({"C": 1.0, "gamma": 0.3 / d}, whole(X), y, seed=0, jobs=1)
    assert isinstance(fitted, KernelMachine)
    return fitted


def test_it_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    fitted = machine()
    others, _ = clusters(600, 30, seed=4)
    assert dump_head(fitted, tmp_path) == "head.safetensors"
    data = (tmp_path / "head.safetensors").read_bytes()
    again = load_head("head.safetensors", data)
    np.testing.assert_array_equal(score(again, others), score(fitted, others))
    assert (again.n_features_in_, list(again.classes_)) == (30, [0, 1])
    dump_head(again, tmp_path)
    assert (tmp_path / "head.safetensors").read_bytes() == data


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("width"),
        lambda arrays: arrays.update(more=np.zeros(3)),
        lambda arrays: arrays.update(support=arrays["support"][:, :-1].copy()),
        lambda arrays: arrays.update(support=arrays["support"][0].copy()),
        lambda arrays: arrays.update(support=arrays["support"].astype(np.float32)),
        lambda arrays: arrays.update(weights=arrays["weights"] * np.nan),
        lambda arrays: arrays.update(width=-arrays["width"]),
        lambda arrays: arrays.update(numbers=np.array([0.0, -1.0])),
        lambda arrays: arrays.update(numbers=np.array([0.0])),
    ],
)
def test_other_arrays_are_refused(change: Any, tmp_path: Path) -> None:
    dump_head(machine(), tmp_path)
    arrays = load((tmp_path / "head.safetensors").read_bytes())
    change(arrays)
    with pytest.raises(HeadFileError):
        load_head("head.safetensors", save(arrays))


@given(st.binary(max_size=300))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(HeadFileError):
        load_head("head.safetensors", data)


def test_parts_that_dont_fit_are_refused() -> None:
    fitted = machine()
    with pytest.raises(ValueError, match="make no sense"):
        replace(fitted, centre=fitted.centre[:-1])


@pytest.mark.parametrize(("n", "d"), [(150, 24), (90, 160)])
def test_the_svm_is_scikit_learns(n: int, d: int) -> None:
    X, y = clusters(n, d, distance=1.0)
    settings = {"C": 3.0, "gamma": 0.25 / d}
    fitted = SVM.refit(settings, whole(X), y, seed=0, jobs=1)
    exact = make_pipeline(StandardScaler(), SVC(**settings, class_weight="balanced"))
    others, _ = clusters(60, d, distance=1.0, seed=5)
    expected = exact.fit(X.astype(float), y).decision_function(others.astype(float))
    np.testing.assert_allclose(score(fitted, others), expected, atol=5e-3)
    assert isinstance(fitted, KernelMachine)
    assert len(fitted.weights) == len(exact[-1].support_)


def test_beyond_the_limit_the_svm_is_approximated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.heads.svm.SVM_LIMIT", 500)
    X, y = clusters(600, 16, distance=2.0)
    given = features_of(X, np.where(y == 1, "melanoma", "nevus"))
    found = compare_heads(given, Options(heads=["svm"], folds=2, jobs=1))
    assert found.best.title == "SVM (RBF, Nyström approximation)"
    assert any("Nyström" in note for note in found.notes)
    auc = found.best.evaluations["cross-validation"].auc
    assert auc is not None
    assert auc.value > 0.85


def test_so_many_candidates_are_tried() -> None:
    assert len(SVM.candidates(2048)) == 16
