from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from models.evaluation.binary import evaluate
from models.evaluation.representations import Representation, Row, rank, summary
from models.evaluation.roc import compare_auc
from models.evaluation.values import Evaluation

LABELS = (np.arange(200) % 4 == 0).astype(np.int8)


def judged(distance: float, seed: int, split: str = "cross-validation") -> Evaluation:
    scores = np.random.default_rng(seed).normal(size=200) + distance * LABELS
    return evaluate(split, LABELS, scores, 1 / (1 + np.exp(-scores)), 0.5, seed=0)


def rows(*distances: float, heads: tuple[str, ...] = ("A", "B")) -> list[Row]:
    return [
        Row(
            f"n{place}",
            head,
            {
                split: judged(distance, 100 * place + 10 * number + (split == "test"), split)
                for split in ("cross-validation", "test")
            },
        )
        for place, distance in enumerate(distances)
        for number, head in enumerate(heads)
    ]


def named(n: int) -> list[Representation]:
    return [Representation(f"n{place}", "net", 9, "") for place in range(n)]


def test_p_values_are_holms_over_all_heads_and_pairs() -> None:
    ranking = rank(named(3), rows(0.4, 0.9, 1.4), folds=5)
    for split in ("cross-validation", "test"):
        tests = [test for test in ranking.tests if test.split == split]
        assert len(tests) == 6
        # Step down from the smallest p, and stop at the first that is too large.
        rejected = set()
        for step, test in enumerate(sorted(tests, key=lambda test: test.p)):
            if test.p > 0.05 / (len(tests) - step):
                break
            rejected.add((test.first, test.second))
        assert {(test.first, test.second) for test in tests if test.told_apart} == rejected
        smallest = min(tests, key=lambda test: test.p)
        assert smallest.p_holm == pytest.approx(6 * smallest.p)
    assert len({test.told_apart for test in ranking.tests}) == 2


def test_in_cross_validation_the_training_images_count_too() -> None:
    one, other = rows(0.6, 1.2, heads=("A",))
    ranking = rank(named(2), [one, other], folds=5)
    for test, wider in zip(ranking.tests, (1.5, 1.0), strict=True):
        scores = [row.evaluations[test.split].scores for row in (one, other)]
        plain = compare_auc(LABELS, *scores)
        assert test.auc.value == plain.difference.value
        width = test.auc.high - test.auc.low
        assert width == pytest.approx(
            wider * (plain.difference.high - plain.difference.low), rel=1e-9
        )
        z = norm.isf(plain.p / 2) / wider
        assert test.p == pytest.approx(2 * norm.sf(z), rel=1e-6)


def test_two_folds_share_no_training_images_but_count_most() -> None:
    scores = [judged(1.0, seed).scores for seed in (1, 2)]
    widths = [
        (found := compare_auc(LABELS, *scores, folds=folds).difference).high - found.low
        for folds in (2, 10)
    ]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(3 / (1 + 10 / 9)))


def test_rows_are_ranked_by_cross_validation_and_not_by_the_test_split() -> None:
    good, poor = (judged(2.0, 1), judged(0.2, 2, "test")), (judged(0.2, 3), judged(2.0, 4, "test"))
    made = [
        Row(name, "A", {"cross-validation": cv, "test": test})
        for name, (cv, test) in (("n0", poor), ("n1", good))
    ]
    ranking = rank(named(2), made, folds=5)
    assert [row.representation for row in ranking.rows] == ["n1", "n0"]
    assert ranking.verdict(ranking.rows[1], "n1") == "worse"
    assert ranking.verdict(ranking.rows[0], "n0") == "better"
    assert summary(ranking) == [
        "n1 ranks these images better than n0 by A (cross-validated ROC AUC, paired and corrected "
        "for all heads and pairs)."
    ]


def test_heads_may_disagree_on_which_network_is_better() -> None:
    made = [
        Row(name, head, {"cross-validation": judged(distance, seed)})
        for seed, (name, head, distance) in enumerate(
            [
                ("n0", "A", 2.5),
                ("n1", "A", 0.0),
                ("n0", "B", 0.0),
                ("n1", "B", 2.5),
                ("n0", "C", 1.0),
                ("n1", "C", 1.0),
            ]
        )
    ]
    assert summary(rank(named(2), made, folds=5)) == [
        "n0 ranks these images better than n1 by A; n1 ranks these images better than n0 by B; "
        "n0 and n1 can't be told apart by these data by C (cross-validated ROC AUC, paired and "
        "corrected for all heads and pairs)."
    ]


def test_a_split_of_one_class_is_ranked_but_not_tested() -> None:
    none = np.zeros(20, np.int8)
    alone = evaluate("test", none, np.arange(20.0), np.full(20, 0.5), 0.5, seed=0)
    made = [
        Row(f"n{n}", "A", {"cross-validation": judged(1.0, n), "test": alone}) for n in range(2)
    ]
    ranking = rank(named(2), made, folds=5)
    assert {test.split for test in ranking.tests} == {"cross-validation"}
    assert ranking.as_dict()["rows"][0]["auc"]["test"] is None
