"""A head's file gives back the head, and nothing else can come out of it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC

from models.heads import HEADS
from models.heads.base import score
from models.heads.files import HeadFileError, dump_head, load_head

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 12)).astype(np.float32)
Y = (X[:, 0] + RNG.normal(size=80) > 0).astype(int)


def fitted(name: str) -> Any:
    head = HEADS[name]
    return head.fit(head.candidates(12)[0], X, Y, seed=0, jobs=1)


def packed(schema: Any, compression: int = zipfile.ZIP_STORED, **files: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        archive.writestr("schema.json", json.dumps(schema))
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def schema_of(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return json.loads(archive.read("schema.json"))


@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_comes_back_with_the_same_scores(name: str, tmp_path: Path) -> None:
    head = fitted(name)
    file = dump_head(head, tmp_path)
    again = load_head(file, (tmp_path / file).read_bytes())
    np.testing.assert_array_equal(score(again, X), score(head, X))


@pytest.mark.parametrize("name", list(HEADS))
def test_the_same_head_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    written = []
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        file = dump_head(fitted(name), tmp_path / part)
        written.append((tmp_path / part / file).read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    "estimator",
    [
        GaussianNB(),
        LinearDiscriminantAnalysis(),
        QuadraticDiscriminantAnalysis(reg_param=0.1),
        RidgeClassifier(),
        make_pipeline(RobustScaler(), PCA(3), LinearSVC(random_state=0)),
        make_pipeline(MinMaxScaler(), VarianceThreshold(), LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_an_estimator_of_safe_parts_comes_back_with_the_same_scores(
    estimator: Any, tmp_path: Path
) -> None:
    head = estimator.fit(X, Y)
    file = dump_head(head, tmp_path)
    again = load_head(file, (tmp_path / file).read_bytes())
    np.testing.assert_array_equal(score(again, X), score(head, X))


def test_a_logistic_regression_in_skops_format_as_it_was_kept_before_is_still_read() -> None:
    head = fitted("logistic_regression")
    again = load_head("head.skops", skops.io.dumps(head))
    np.testing.assert_array_equal(score(again, X), score(head, X))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("file", ["head.skops", "head.json", "head.linear.safetensors"])
def test_a_pickle_is_refused_and_not_run(file: str, tmp_path: Path) -> None:
    trap = tmp_path / "was_run"
    with pytest.raises(HeadFileError, match="can't be read"):
        load_head(file, pickle.dumps(Payload(trap)))
    assert not trap.exists()


def test_a_pickle_inside_of_an_array_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "was_run"
    array = io.BytesIO()
    np.save(array, np.array([Payload(trap)], dtype=object), allow_pickle=True)
    file = dump_head(GaussianNB().fit(X, Y), tmp_path)
    data = (tmp_path / file).read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        arrays = {name: array.getvalue() for name in archive.namelist() if name.endswith(".npy")}
    with pytest.raises(HeadFileError, match="can't be read"):
        load_head("head.skops", packed(schema_of(data), **arrays))
    assert not trap.exists()


@pytest.mark.parametrize(
    "estimator",
    [
        # Trusted by skops as it comes, but not what a head is made of.
        make_pipeline(StandardScaler(), SGDClassifier(random_state=0)).fit(X, Y),
        make_pipeline(FunctionTransformer(np.exp)).fit(X, Y),
        # Compiled code would follow its nodes wherever they lead.
        RandomForestClassifier(n_estimators=2, random_state=0).fit(X, Y),
    ],
    ids=["another model", "a function", "trees"],
)
def test_parts_that_no_head_has_are_refused(estimator: Any, tmp_path: Path) -> None:
    with pytest.raises(HeadFileError, match="which no head is made of"):
        load_head("head.skops", skops.io.dumps(estimator))
    with pytest.raises(HeadFileError, match="which no head is made of"):
        dump_head(estimator, tmp_path)


@pytest.mark.parametrize(
    "part",
    [
        {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
        {"__class__": "str", "__module__": "builtins", "__loader__": "MethodNode"},
        {"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode"},
        {"__class__": "SVC", "__module__": "sklearn.svm._classes", "__loader__": "TypeNode"},
        {"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode"},
        {"__class__": "str", "__loader__": "JsonNode"},
    ],
)
def test_a_part_smuggled_into_a_head_is_refused(part: dict[str, Any], tmp_path: Path) -> None:
    file = dump_head(fitted("svm"), tmp_path)
    schema = schema_of((tmp_path / file).read_bytes())
    schema["content"]["content"]["steps"]["content"].append({**part, "content": []})
    with pytest.raises(HeadFileError):
        load_head("head.skops", packed(schema))


def test_a_file_that_swells_when_unpacked_is_refused() -> None:
    bomb = packed({}, zipfile.ZIP_DEFLATED, **{"1.npy": bytes(50_000_000)})
    assert len(bomb) < 100_000
    with pytest.raises(HeadFileError, match="compressed"):
        load_head("head.skops", bomb)


def test_deeply_nested_parts_are_refused() -> None:
    depth = 200_000
    schema = b'{"a":' * depth + b"0" + b"}" * depth
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("schema.json", schema)
    with pytest.raises(HeadFileError, match="can't be read"):
        load_head("head.skops", written.getvalue())


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_a_truncated_head_is_refused(name: str, tmp_path: Path) -> None:
    file = dump_head(fitted(name), tmp_path)
    data = (tmp_path / file).read_bytes()
    for end in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(HeadFileError):
            load_head(file, data[:end])
