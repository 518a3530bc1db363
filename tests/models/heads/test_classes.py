"""A list of heads, one for each class against the rest; with two classes, a list of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.decisions.calibrators import Platt
from models.heads import HEADS
from models.heads.classes import ClassHead, ClassHeads

X = np.random.default_rng(0).normal(size=(90, 5)).astype(np.float32)
kinds = X[:, :3].argmax(axis=1)
NAMES = ("melanoma", "nevus", "keratosis")
SHARES = (0.2, 0.5, 0.3)


def head(place: int, label: Any = "") -> ClassHead:
    y = (kinds == place).astype(np.int8)
    estimator = HEADS["logistic_regression"].fit({"C": 1.0}, X, y, seed=0, jobs=1)
    return ClassHead(label or NAMES[place], estimator, Platt(1.0, 0.0))


def test_two_classes_are_a_list_of_one() -> None:
    heads = ClassHeads((head(0),))
    positive = heads.heads[0].calibration.apply(heads.heads[0].score(X))
    assert not heads.several
    assert heads.labels == ("melanoma",)
    np.testing.assert_array_equal(heads.probabilities(X, positive), positive[:, None])
    assert heads.ranked(X, positive) == [None] * len(X)


def test_several_share_out_what_the_positive_class_leaves() -> None:
    heads = ClassHeads((head(0), head(1), head(2)), SHARES)
    positive = np.linspace(0, 1, len(X))
    found = heads.probabilities(X, positive)
    assert heads.several
    np.testing.assert_array_equal(found[:, 0], positive)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for row, ranked in zip(found, heads.ranked(X, positive), strict=True):
        assert ranked is not None
        assert list(ranked.values()) == sorted(row.tolist(), reverse=True)
        assert next(iter(ranked)) == NAMES[row.argmax()]


@pytest.mark.parametrize(
    ("labels", "shares", "message"),
    [
        (("melanoma", ""), (), "expected names"),
        (("melanoma", 3, "nevus"), SHARES, "expected names"),
        (("melanoma", "nevus"), (0.5, 0.5), "expected one, or three and more"),
        (("melanoma", "nevus", "nevus"), SHARES, "expected one, or three and more"),
        (("melanoma",), (1.0,), "got 1 shares of 1 classes"),
        (NAMES, (0.5, 0.5), "got 2 shares of 3 classes"),
        (NAMES, (0.5, 0.5, 0.5), "don't sum to 1"),
        (NAMES, (1.0, 0.0, 0.0), "don't sum to 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    labels: tuple[Any, ...], shares: tuple[float, ...], message: str
) -> None:
    one = head(0)
    heads = tuple(ClassHead(label, one.estimator, one.calibration) for label in labels)
    with pytest.raises(ValueError, match=message):
        ClassHeads(heads, shares)
