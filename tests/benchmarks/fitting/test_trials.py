import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.fitting.trials import (
    Judged,
    Study,
    corrected_difference,
    fit_together,
    gram,
    judge,
    ridge,
)


@pytest.fixture
def columns(rng):
    return rng.normal(size=(120, 300)) * np.linspace(2, 0.1, 300)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def y(columns, rng):
    return (columns[:, :5].sum(axis=1) + rng.normal(size=120) > 1).astype(int)


def standardised(columns):
    return (columns - columns.mean(axis=0)) / columns.std(axis=0) / np.sqrt(columns.shape[1])


def test_every_part_is_fitted_as_scikit_learn_fits_it(columns, y):
    parts = np.ones((120, 2), bool)
    parts[:30, 0] = parts[60:, 1] = False
    found = fit_together(gram(columns), y[:, None].astype(np.float32), parts, [2.0, 20.0])
    Z = standardised(columns)
    for scores, C in zip(found, (2.0, 20.0), strict=True):
        for part, own in zip(parts.T, scores.T, strict=True):
            model = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(Z[part], y[part])
            assert own == pytest.approx(model.decision_function(Z), abs=0.06)


def test_an_image_is_judged_by_the_fit_that_did_not_see_it(columns, y):
    study = Study.of(y, np.arange(120), repeats=2)
    judged = judge(study, gram(columns), strengths=[5.0])
    Z, held = standardised(columns), study.held[1, 3]
    model = LogisticRegression(C=5.0, tol=1e-8, max_iter=5000).fit(Z[~held], y[~held])
    assert judged.scores[1, held] == pytest.approx(model.decision_function(Z[held]), abs=0.02)
    assert judged.areas[1, 3] == pytest.approx(roc_auc_score(y[held], judged.scores[1, held]))


def test_a_ridge_on_the_labels_ranks_as_shrunken_discriminant_analysis(columns, y):
    study = Study.of(y, np.arange(120), repeats=1)
    judged = ridge(study, gram(columns), strengths=[3.0])
    held = study.held[0, 0]
    Z = standardised(columns)
    own = Z[~held]
    # The scatter between the classes bends a ridge along the same direction, and no other.
    scatter = sum(
        np.cov(own[y[~held] == each].T, bias=True) * (y[~held] == each).sum() for each in (0, 1)
    )
    means = [own[y[~held] == each].mean(axis=0) for each in (0, 1)]
    direction = np.linalg.solve(scatter + 3.0 * np.eye(300), means[1] - means[0])
    assert np.corrcoef(Z[held] @ direction, judged.scores[0, held])[0, 1] == pytest.approx(1)


def test_the_interval_counts_that_folds_share_what_they_were_fitted_on():
    folds = np.array([[0.80, 0.84, 0.82, 0.79, 0.85], [0.81, 0.83, 0.80, 0.82, 0.84]])
    change = np.array([[0.01, 0.02, 0.0, 0.01, 0.03], [0.02, 0.0, 0.01, 0.02, 0.01]])
    none = np.empty((2, 0))
    found, p = corrected_difference(Judged(none, folds + change), Judged(none, folds))
    error = change.std(ddof=1) * np.sqrt(1 / 10 + 1 / 4)
    assert found.value == pytest.approx(0.013)
    assert found.high - found.value == pytest.approx(student.ppf(0.975, 9) * error)
    assert p == pytest.approx(2 * student.sf(0.013 / error, 9))
