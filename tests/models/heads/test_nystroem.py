from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.heads import HEADS
from models.heads.base import score
from models.heads.folds.fold import whole
from models.training.tuning import tune
from tests.models.data.blocks import D, both, data, small_nystroem

pytestmark = pytest.mark.usefixtures("tiny_blocks")


def test_the_approximate_svm_is_near_the_exact_one() -> None:
    dense, streamed, y = both(2)
    exact = tune(HEADS["svm"], dense, y, jobs=1)
    near = tune(small_nystroem(), streamed, y, jobs=1)
    best = [max(each.auc for each in found.candidates) for found in (exact, near)]
    assert best[1] == pytest.approx(best[0], abs=0.02)
    assert np.corrcoef(exact.scores, near.scores)[0, 1] > 0.9


def test_the_approximate_svm_is_what_scikit_learn_fits_of_the_same_parts() -> None:
    X, y = data()
    head, chosen = small_nystroem(), {"C": 0.1, "gamma": 0.3 / D, "n_components": 150}
    found = head.refit(chosen, whole(X), y, seed=0, jobs=1)
    # Other landmarks, so not the same machine.
    expected = head.fit(chosen, X, y, seed=0, jobs=1)
    areas = [roc_auc_score(y, score(each, X)) for each in (found, expected)]
    assert areas[0] == pytest.approx(areas[1], abs=0.01)
    scaled = found["scale"].transform(X.astype(np.float64))
    refitted = expected["classify"].fit(found["describe"].transform(scaled), y)
    own = refitted.decision_function(found["describe"].transform(scaled))
    np.testing.assert_allclose(score(found, X), own, atol=0.02 * own.std())
