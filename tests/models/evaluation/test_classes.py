"""What is said of several classes is what scikit-learn says, and intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
    roc_auc_score,
)

from models.evaluation.classes import evaluate_classes, macro_auc, macro_variance, mean_of_shares
from models.evaluation.roc import delong_covariance
from models.evaluation.values import Interval
from models.heads.classes import share_out

LABELS = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def guessed(
    n: int = 400, k: int = 7, *, skill: float = 0.4, digits: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """True classes of unequal frequency, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    shares = np.arange(k, 0, -1) / np.arange(1, k + 1).sum()
    truth = rng.choice(k, n, p=shares)
    odds = rng.normal(size=(n, k)) + np.log(shares)
    odds[np.arange(n), truth] += 3 * skill
    probabilities = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    return truth, probabilities if digits is None else probabilities.round(digits)


@pytest.mark.parametrize("digits", [None, 1])
def test_the_figures_are_those_of_scikit_learn(digits: int | None) -> None:
    truth, raw = guessed(digits=digits)
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    found = evaluate_classes("test", LABELS, truth, probabilities, [1 / 7] * 7)
    predicted = probabilities.argmax(axis=1)
    assert found.macro_auc is not None
    assert found.macro_auc.value == pytest.approx(
        roc_auc_score(truth, probabilities, multi_class="ovr"), abs=1e-9
    )
    assert found.balanced_accuracy.value == pytest.approx(
        balanced_accuracy_score(truth, predicted), abs=1e-9
    )
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, predicted), abs=1e-9)
    matrix = confusion_matrix(truth, predicted)
    np.testing.assert_array_equal(found.confusion, matrix)
    areas = roc_auc_score(truth, probabilities, multi_class="ovr", average=None)
    recalls = recall_score(truth, predicted, average=None)
    precisions = precision_score(truth, predicted, average=None, zero_division=np.nan)
    for place, figures in enumerate(found.classes):
        assert figures.label == LABELS[place]
        assert figures.n == (truth == place).sum()
        assert figures.auc is not None
        assert figures.sensitivity is not None
        assert figures.specificity is not None
        assert figures.auc.value == pytest.approx(areas[place], abs=1e-9)
        assert figures.sensitivity.value == pytest.approx(recalls[place], abs=1e-9)
        wrongly = (predicted == place)[truth != place].mean()
        assert figures.specificity.value == pytest.approx(1 - wrongly, abs=1e-9)
        if figures.ppv is None:
            assert not (predicted == place).any()
        else:
            assert figures.ppv.value == pytest.approx(precisions[place], abs=1e-9)


def test_deciding_as_if_all_were_equally_frequent_divides_by_the_shares() -> None:
    truth, probabilities = guessed(skill=0.3)
    shares = np.bincount(truth) / len(truth)
    found = evaluate_classes("test", LABELS, truth, probabilities, shares.tolist())
    expected = balanced_accuracy_score(truth, (probabilities / shares).argmax(axis=1))
    assert found.balanced_accuracy_even.value == pytest.approx(expected, abs=1e-9)
    assert found.balanced_accuracy_even.value > found.balanced_accuracy.value


def test_classes_without_images_have_no_figures_and_don_t_count_in_means() -> None:
    truth, probabilities = guessed()
    kept = truth != 2
    found = evaluate_classes("test", LABELS, truth[kept], probabilities[kept], [1 / 7] * 7)
    bcc = found.classes[2]
    assert (bcc.n, bcc.auc, bcc.sensitivity) == (0, None, None)
    others = [figures for figures in found.classes if figures.label != "BCC"]
    assert found.macro_auc is not None
    assert found.macro_auc.value == pytest.approx(np.mean([f.auc.value for f in others]))  # type: ignore[union-attr]
    assert found.balanced_accuracy.value == pytest.approx(
        np.mean([f.sensitivity.value for f in others])  # type: ignore[union-attr]
    )


def test_a_single_class_has_no_areas() -> None:
    truth, probabilities = guessed()
    own = truth == 1
    found = evaluate_classes("test", LABELS, truth[own], probabilities[own], [1 / 7] * 7)
    assert found.macro_auc is None
    assert all(figures.auc is None for figures in found.classes)


def test_with_two_classes_the_macro_area_varies_as_delong_says() -> None:
    truth, probabilities = guessed(90, 2)
    probability = probabilities[:, 1]
    areas, covariance = delong_covariance(truth, probability)
    area, parts = macro_variance(truth, np.stack([1 - probability, probability], axis=1))
    assert area == pytest.approx(areas[0], abs=1e-12)
    assert parts.sum() == pytest.approx(covariance[0, 0], abs=1e-12)


def test_the_macro_area_varies_as_much_as_bootstrap_draws_of_it() -> None:
    truth, probabilities = guessed(500, 4)
    found = macro_auc(truth, probabilities)
    assert found is not None
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(truth == place) for place in range(4)]
    drawn = []
    for _ in range(400):
        chosen = np.concatenate([rng.choice(of_class, len(of_class)) for of_class in rows])
        drawn.append(roc_auc_score(truth[chosen], probabilities[chosen], multi_class="ovr"))
    assert (found.high - found.low) / 3.92 == pytest.approx(np.std(drawn), rel=0.15)


@pytest.mark.parametrize("images", [(1, 30, 40), (20, 30, 40)])
def test_classes_wholly_apart_or_alone_still_have_an_honest_interval(
    images: tuple[int, ...],
) -> None:
    truth = np.repeat([0, 1, 2], images)
    found = macro_auc(truth, np.eye(3)[truth])
    assert found is not None
    assert found.value == found.high == 1
    assert 0.6 > 1 - found.low > 0.01


def test_the_mean_of_one_share_is_its_wilson_interval() -> None:
    assert vars(mean_of_shares([8], [10])) == pytest.approx(
        {"value": 0.8, "low": 0.4901624, "high": 0.9433178}, abs=1e-6
    )


def covered(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([found.low <= truth <= found.high for found in intervals]))


@pytest.mark.slow
@pytest.mark.parametrize("skill", [0.3, 0.8])
def test_intervals_of_the_macro_area_cover(skill: float) -> None:
    truth, probabilities = guessed(200_000, 5, skill=skill)
    area = roc_auc_score(truth, probabilities, multi_class="ovr")
    found = []
    for seed in range(1, 1501):
        interval = macro_auc(*guessed(150, 5, skill=skill, seed=seed))
        assert interval is not None
        found.append(interval)
    assert 0.93 <= covered(found, area) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("shares", [(0.9, 0.6, 0.8, 0.95), (0.5, 0.5, 0.7, 0.3)])
def test_intervals_of_balanced_accuracy_cover(shares: tuple[float, ...]) -> None:
    n = (60, 10, 25, 15)
    hits = np.random.default_rng(0).binomial(n, shares, size=(4000, 4))
    # Many draws are alike, and have the same interval.
    kinds, places = np.unique(hits, axis=0, return_inverse=True)
    found = [mean_of_shares(row.tolist(), n) for row in kinds]
    each = [found[place] for place in places.ravel()]
    assert 0.93 <= covered(each, float(np.mean(shares))) <= 0.975


def test_the_positive_class_keeps_its_probability_and_the_rest_is_shared_out() -> None:
    rng = np.random.default_rng(0)
    positive, others = rng.random(50), rng.random((50, 3))
    others[0] = 0
    found = share_out(positive, others)
    np.testing.assert_array_equal(found[:, 0], positive)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(found[1:, 1] / found[1:, 3], others[1:, 0] / others[1:, 2])
    np.testing.assert_allclose(found[0, 1:], (1 - positive[0]) / 3)
