from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.binary import evaluate
from models.evaluation.paired import as_rows, compare_all, holm, sentence
from models.evaluation.roc import compare_auc
from models.evaluation.values import Evaluation, Interval


def judged(quality: float, seed: int) -> Evaluation:
    labels = np.repeat(np.array([1, 0], np.int8), [80, 240])
    noise = np.random.default_rng(0).normal(size=320)
    scores = labels * quality + noise + 0.2 * np.random.default_rng(seed).normal(size=320)
    return evaluate("test", labels, scores, 1 / (1 + np.exp(1 - scores)), 0.4)


def test_every_pair_is_tested_as_one_family() -> None:
    named = [("A", judged(1.0, 1)), ("B", judged(1.0, 2)), ("C", judged(1.8, 3))]
    tests = compare_all("test", named)
    assert [(t.first, t.second) for t in tests] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [t.told_apart for t in tests] == [False, True, True]
    for test, (one, other) in zip(tests, ((0, 1), (0, 2), (1, 2)), strict=True):
        first, second = named[one][1], named[other][1]
        plain = compare_auc(first.labels, first.scores, second.scores)
        assert (test.auc, test.p) == (plain.difference, plain.p)
    assert [t.p_holm for t in tests] == holm([t.p for t in tests])
    sides = [(t, side) for t in tests for side in ("sensitivity", "specificity")]
    together = holm([t.mcnemar[side] for t, side in sides])
    assert [t.mcnemar_holm[side] for t, side in sides] == together


def test_mcnemar_counts_each_class_by_itself() -> None:
    one, other = judged(1.0, 1), judged(1.8, 3)
    test = compare_all("test", [("A", one), ("C", other)])[0]
    positive = one.labels == 1
    assert test.first_only["sensitivity"] == int(
        (one.suspicious & ~other.suspicious & positive).sum()
    )
    assert test.second_only["specificity"] == int(
        (one.suspicious & ~other.suspicious & ~positive).sum()
    )


def test_the_sentence_says_plainly_what_the_data_can_not_tell() -> None:
    same, apart = (
        compare_all("test", [("A", judged(1.0, 1)), ("B", judged(1.0, 2))]),
        compare_all("test", [("A", judged(1.0, 1)), ("C", judged(1.8, 3))]),
    )
    assert "A and B can't be told apart by these data" in sentence(same[0])
    assert sentence(apart[0]).startswith("C ranks these images better than A: ")
    assert "p < 0.001 after Holm's correction" in sentence(apart[0])
    # A difference is told from the better's side, whichever comes first in the table.
    auc = apart[0].auc
    assert auc.value < 0
    assert (
        f"differ by {-auc.value:+.3f} (95 % interval {-auc.high:+.3f} to {-auc.low:+.3f}, "
        in sentence(apart[0])
    )
    there = Interval(-auc.value, -auc.high, -auc.low)
    turned = replace(apart[0], first="C", second="A", auc=there)
    assert sentence(turned) == sentence(apart[0])
    rows = as_rows([same[0], apart[0]])
    assert [row[-1] for row in rows] == ["verdict", "can't be told apart", "different"]


def test_under_no_difference_few_families_find_one() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat(np.array([1, 0], np.int8), [50, 150])
    wrong = 0
    for _ in range(300):
        base = labels + rng.normal(size=200)
        scores = [base + 0.7 * rng.normal(size=200) for _ in range(3)]
        p = [compare_auc(labels, scores[i], scores[j]).p for i, j in ((0, 1), (0, 2), (1, 2))]
        wrong += min(holm(p)) < 0.05
    assert wrong / 300 == pytest.approx(0.04, abs=0.035)


@pytest.mark.parametrize("split", ["cross-validation", "test"])
def test_the_sentence_names_the_variance(split: str) -> None:
    found = compare_all(split, [("A", judged(1.0, 1)), ("B", judged(1.0, 2))], folds=5)[0]
    assert ("Nadeau and Bengio's variance" in sentence(found)) == (split == "cross-validation")


def out_of_fold(X: np.ndarray, y: np.ndarray, folds: int) -> np.ndarray:
    """Scores of a ridge regression that was fitted without each image."""
    scores, fold = np.empty(len(y)), np.arange(len(y)) % folds
    for number in range(folds):
        train, test = fold != number, fold == number
        inner = X[train].T @ X[train] + 30 * np.eye(X.shape[1])
        scores[test] = X[test] @ np.linalg.solve(inner, X[train].T @ (2.0 * y[train] - 1))
    return scores


@pytest.mark.slow
def test_heads_of_one_network_that_are_equally_good_are_rarely_told_apart() -> None:
    """Each sees half of the numbers, and all halves are alike: neither is better on average."""
    rng = np.random.default_rng(0)
    plain, corrected, draws = 0, 0, 1000
    for _ in range(draws):
        y = (np.arange(240) % 4 == 0).astype(np.int8)[rng.permutation(240)]
        X = rng.normal(size=(240, 60)) + 0.25 * y[:, None]
        scores = [out_of_fold(half, y, 5) for half in (X[:, :30], X[:, 30:])]
        plain += compare_auc(y, *scores).p < 0.05
        corrected += compare_auc(y, *scores, folds=5).p < 0.05
    # 1,000 draws at 5 % give more than 71 with a probability of 0.1 %.
    assert corrected <= 71
    assert plain > 71
