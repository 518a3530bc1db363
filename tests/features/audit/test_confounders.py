from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from features.audit.confounders import auc_interval, find_confounders, name_properties


def test_the_area_is_that_of_the_roc_curve() -> None:
    rng = np.random.default_rng(0)
    ones, others = rng.integers(0, 9, 40).astype(float), rng.integers(0, 7, 90).astype(float)
    auc, low, high = auc_interval(ones, others, 0.95)
    truth = np.repeat([1, 0], [40, 90])
    assert auc == pytest.approx(roc_auc_score(truth, np.concatenate([ones, others])), abs=1e-12)
    assert 0 < low < auc < high < 1


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        _, low, high = auc_interval(rng.normal(0.5, 1, 60), rng.normal(0, 1, 90), 0.95)
        inside += low <= 0.638163 <= high
    assert 0.93 <= inside / 2000 <= 0.97


def test_what_predicts_the_label_is_notable_and_noise_is_not() -> None:
    rng = np.random.default_rng(2)
    labels = np.where(np.arange(400) % 4 == 0, "melanoma", "nevus").tolist()
    positive = np.array(labels) == "melanoma"
    found = {
        confounder.property: confounder
        for confounder in find_confounders(
            labels,
            {
                "size": rng.normal(size=400) + positive,
                "noise": rng.normal(size=400),
                "constant": np.ones(400),
                "unknown": np.full(400, np.nan),
            },
        )
    }
    assert set(found) == {"size", "noise"}
    assert (found["size"].notable, found["size"].label) == (True, "melanoma")
    assert found["size"].medians[0] > found["size"].medians[1]
    assert not found["noise"].notable


def test_of_several_classes_the_one_told_best_is_named() -> None:
    labels = ["a"] * 30 + ["b"] * 30 + ["c"] * 30
    (found,) = find_confounders(
        labels, {"size": np.r_[np.tile([1.0, 2.0], 15), np.full(30, 5.0), np.tile([2.0, 1.0], 15)]}
    )
    assert (found.label, found.auc, found.notable) == ("b", 1.0, True)


def test_unlabelled_images_count_for_nothing() -> None:
    values = np.r_[np.zeros(20), np.ones(20), np.full(50, 99.0)]
    (found,) = find_confounders(["a"] * 20 + ["b"] * 20 + [""] * 50, {"size": values})
    assert found.n == 40
    assert find_confounders(["a"] * 90, {"size": values}) == []


def test_name_patterns_are_properties() -> None:
    paths = [f"x/AUG_{k}_7.jpg" for k in range(30)] + [f"ISIC_{k:07d}.jpg" for k in range(30)]
    found = name_properties(paths)
    assert found["file name like AUG_#_#.jpg"].tolist() == [1.0] * 30 + [0.0] * 30
    assert found["file name like ISIC_#.jpg"].sum() == 30
    numbers = name_properties([f"ISIC_{k:07d}.jpg" for k in range(30)])
    assert numbers["number in the file name"].tolist() == list(range(30))
    rng = np.random.default_rng(0)
    assert name_properties([f"{rng.bytes(16).hex()}.jpg" for _ in range(30)]) == {}
