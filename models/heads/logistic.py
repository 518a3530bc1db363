"""Logistic regression with a ridge penalty.

In memory it is fitted in the eigenbasis of the Gram matrix, which all candidates share; in the end
scikit-learn fits it from a start next to the solution. By blocks, all folds and candidates go
through the embeddings together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from models.heads.base import Candidates, Floats, Head, Labels, LabelSets, Settings
from models.heads.blockwise import Fit, Task, fit_together, moments_of, scaler_of, scores_of
from models.heads.fold import Blocks, Eigenbasis, Fold

__all__ = ["LOGISTIC_REGRESSION", "make_logistic"]

_GRADIENT: Final = 1e-6
# Smaller gains are the rounding of single precision: the line search would look for them in vain.
_LOSS: Final = 1e-8
# From here on the eigenproblem takes longer than scikit-learn's own way.
_EIGENBASIS_UNTIL: Final = 4000


def make_logistic(settings: Settings, seed: int) -> Pipeline:
    """Give scikit-learn's pipeline of scaler and classifier, not fitted; ``C`` is its setting."""
    model = LogisticRegression(C=settings["C"], max_iter=5000, random_state=seed)
    return Pipeline([("scale", StandardScaler()), ("classify", model)])


class _LogisticRegression(Head):
    def search(
        self, fold: Fold, ys: LabelSets, candidates: Candidates, *, seed: int, jobs: int
    ) -> Floats:
        basis = fold.eigenbasis()
        scores = np.empty((len(ys), len(candidates), len(fold.test)))
        for y, found in zip(ys, scores, strict=True):
            for place, settings in enumerate(candidates):
                weights, intercept = _fit(basis, y[fold.train], settings["C"])
                found[place] = basis.test @ weights.astype(np.float32) + intercept
        return scores

    def _prepare(self, data: Fold, candidates: Candidates, *, seed: int, jobs: int) -> None:
        if _has_small_eigenproblem(data):
            data.eigenbasis()
            data.scaled()

    def _refit(self, settings: Settings, data: Fold, y: Labels, *, seed: int, jobs: int) -> Any:
        if not _has_small_eigenproblem(data):
            return self.fit(settings, data.X, y, seed=seed, jobs=jobs)
        basis = data.eigenbasis()
        weights, intercept = _fit(basis, y, settings["C"])
        pipeline = self.make(settings, seed)
        scaler, scaled = data.scaled()
        pipeline.steps[0] = ("scale", scaler)
        model = pipeline["classify"].set_params(warm_start=True)
        model.coef_ = (basis.train @ (weights / basis.eigenvalues))[None, :] @ scaled
        model.intercept_ = np.array([intercept])
        model.fit(scaled, y).set_params(warm_start=False)
        return pipeline

    def _search_blocks(
        self, blocks: Blocks, folds: Sequence[Fold], ys: LabelSets, candidates: Candidates
    ) -> Floats:
        masks = [blocks.mask(fold.train) for fold in folds]
        moments = moments_of(blocks.rows, masks)
        tasks = [
            Task(split, label, settings["C"])
            for split in range(len(folds))
            for label in range(len(ys))
            for settings in candidates
        ]
        fits = fit_together(blocks.rows, masks, ys, tasks, moments=moments, seed=blocks.seed)
        found = np.empty((len(ys), len(candidates), len(blocks.rows)))
        share = len(ys) * len(candidates)
        for split, (fold, known) in enumerate(zip(folds, moments, strict=True)):
            plain = []
            for fit in fits[split * share : (split + 1) * share]:
                weights = fit.weights / known.scale
                plain.append(Fit(weights, fit.intercept - float(weights @ known.mean)))
            scores = scores_of(blocks.rows.take(fold.test), plain)
            found[:, :, fold.test] = scores.reshape(len(ys), len(candidates), -1)
        return found

    def _refit_blocks(self, blocks: Blocks, settings: Settings, y: Labels) -> Any:
        every = np.ones(len(blocks.rows), bool)
        moments = moments_of(blocks.rows, [every])
        task = Task(0, 0, settings["C"])
        fit = fit_together(blocks.rows, [every], [y], [task], moments=moments, seed=blocks.seed)[0]
        pipeline = self.make(settings, blocks.seed)
        pipeline.steps[0] = ("scale", scaler_of(moments[0]))
        model = pipeline["classify"]
        model.coef_, model.intercept_ = fit.weights[None, :], np.array([fit.intercept])
        model.classes_, model.n_features_in_ = np.array([0, 1]), len(fit.weights)
        model.n_iter_ = np.array([0], np.int32)
        return pipeline


def _has_small_eigenproblem(data: Fold) -> bool:
    n, d = data.X.shape
    return bool(min(n, d) <= _EIGENBASIS_UNTIL)


def _fit(basis: Eigenbasis, y: Labels, C: float) -> tuple[Floats, float]:
    """Give the weights in the eigenbasis, shape (r,), and the intercept; C is scikit-learn's.

    The objective is scikit-learn's, ``C * sum(log loss) + |w|^2 / 2``. Rotating to the eigenbasis
    of the Gram matrix changes neither the penalty nor the fit (Hastie and Tibshirani, Efficient
    quadratic regularization for expression arrays, Biostatistics 2004); there the Hessian is
    nearly diagonal, and scaling by its diagonal makes all directions alike. A warm start from
    another C would save little more, and what is found would depend on what else is tried.
    """
    Z, n = basis.train, len(y)
    share = float(np.mean(y))
    signs = 2.0 * np.asarray(y, np.float64) - 1
    scale = 1 / np.sqrt(1 + C * share * (1 - share) * basis.eigenvalues)
    scale_intercept = 1 / np.sqrt(C * share * (1 - share) * n)

    def loss(point: Floats) -> tuple[float, Floats]:
        w, b = point[:-1] * scale, point[-1] * scale_intercept
        margins = signs * (Z @ w.astype(np.float32) + b)
        pull = -signs * expit(-margins)
        value = C * np.logaddexp(0, -margins).sum() + w @ w / 2
        along = C * (pull.astype(np.float32) @ Z) + w
        slope = np.append(along * scale, C * pull.sum() * scale_intercept)
        return value / (C * n), slope / (C * n)

    found = minimize(
        loss,
        np.append(np.zeros(Z.shape[1]), logit(share) / scale_intercept),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": _GRADIENT, "ftol": _LOSS, "maxiter": 1000, "maxcor": 20},
    ).x
    return found[:-1] * scale, float(found[-1] * scale_intercept)


LOGISTIC_REGRESSION: Final = _LogisticRegression(
    "logistic_regression",
    "Logistic regression",
    lambda _: [{"C": 10.0**power} for power in (-5, -4, -3.5, -3, -2, -1, 0)],
    make_logistic,
    parts=(
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
    ),
)
