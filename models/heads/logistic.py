"""Logistic regression with a ridge penalty.

In memory it is fitted in the eigenbasis of the Gram matrix, which all candidates share, in the end
to the last digits; what comes out is scikit-learn's own pipeline. By blocks, all folds and
candidates go through the embeddings together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from features.cache.rows import Rows
from models.heads.base import (
    Candidates,
    Floats,
    Format,
    Head,
    HeadFileError,
    Labels,
    LabelSets,
    Settings,
    Solution,
    require_readable,
)
from models.heads.blockwise import Fit, Task, fit_together, scores_of
from models.heads.folds.blocks import Blocks
from models.heads.folds.columns import moments_of, scaler_of
from models.heads.folds.fold import Eigenbasis, Fold
from models.machine import AXES_UNTIL

__all__ = ["LOGISTIC_REGRESSION", "fit_in", "make_logistic"]

_GRADIENT: Final = 1e-6
# Smaller gains are the rounding of single precision: the line search would look for them in vain.
_LOSS: Final = 1e-8
_NEWTON_STEPS: Final = 20
_HALVINGS: Final = 10
_CONJUGATE: Final = 1e-2
_CONJUGATE_STEPS: Final = 200
# Of a step, relative to what is found; less is rounding.
_SETTLED: Final = 1e-5
_NEAR: Final = 1e-3
_LEAST_SPREAD: Final = 1e-12
_ARRAYS: Final = ("mean", "deviation", "weights", "intercept")


def make_logistic(settings: Settings, seed: int) -> Pipeline:
    """Give scikit-learn's pipeline of scaler and classifier, not fitted; ``C`` is its setting."""
    model = LogisticRegression(C=settings["C"], max_iter=5000, random_state=seed)
    return Pipeline([("scale", StandardScaler()), ("classify", model)])


class _LogisticRegression(Head):
    def by_blocks(self, X: npt.NDArray[Any] | Rows) -> bool:
        """Go by blocks, too, where the eigenproblem would take longer."""
        return isinstance(X, Rows) or not _has_small_eigenproblem(X)

    def search(
        self, fold: Fold, ys: LabelSets, candidates: Candidates, *, seed: int, jobs: int
    ) -> Floats:
        basis = fold.eigenbasis()
        scores = np.empty((len(ys), len(candidates), len(fold.test)))
        for y, found in zip(ys, scores, strict=True):
            for place, settings in enumerate(candidates):
                weights, intercept = fit_in(basis, y[fold.train], settings["C"])
                found[place] = basis.test @ weights.astype(np.float32) + intercept
        return scores

    def _prepare(self, data: Fold, candidates: Candidates, *, seed: int, jobs: int) -> None:
        if data.X.shape[1] < len(data.train):
            data.eigenbasis()
        else:
            data.inner_products()

    def _solve(
        self, settings: Settings, data: Fold, y: Labels, *, seed: int, jobs: int
    ) -> Solution | None:
        """Fit to the last digits: the first labels without the eigenbasis, which others share."""
        C, first = settings["C"], data.shared("first labels", lambda: y, size=0)
        direct = y is first and data.X.shape[1] >= len(data.train)
        start = _near(data.inner_products().gram, y, C) if direct else None
        if start is None:
            basis = data.eigenbasis()
            weights, intercept = fit_in(basis, y, C)
            if basis.axes is not None:
                return {"weights": basis.axes @ weights, "intercept": np.array([intercept])}
            start = np.append(basis.train @ (weights / basis.eigenvalues), intercept)
        gram = data.inner_products().gram.astype(np.float64)
        point, _ = _settle(gram, y, C, start, _SETTLED)
        return {"weights": data.weighted(point[:-1]), "intercept": point[-1:]}

    def build(self, solution: Solution, settings: Settings, data: Fold, *, seed: int) -> Any:
        fit = Fit(solution["weights"], float(solution["intercept"][0]))
        return self._pipeline(settings, data.scaler(), fit, seed)

    def _pipeline(self, settings: Settings, scaler: StandardScaler, fit: Fit, seed: int) -> Any:
        return _fitted(self.make(settings, seed), scaler, fit)

    def _search_blocks(
        self, blocks: Blocks, folds: Sequence[Fold], ys: LabelSets, candidates: Candidates
    ) -> Floats:
        masks = [blocks.mask(fold.train) for fold in folds]
        moments = moments_of(blocks.rows, masks, blocks.jobs)
        tasks = [
            Task(split, label, settings["C"])
            for split in range(len(folds))
            for label in range(len(ys))
            for settings in candidates
        ]
        fits = fit_together(
            blocks.rows, masks, ys, tasks, moments=moments, seed=blocks.seed, jobs=blocks.jobs
        )
        found = np.empty((len(ys), len(candidates), len(blocks.rows)))
        share = len(ys) * len(candidates)
        for split, (fold, known) in enumerate(zip(folds, moments, strict=True)):
            plain = []
            for fit in fits[split * share : (split + 1) * share]:
                weights = fit.weights / known.scale
                plain.append(Fit(weights, fit.intercept - float(weights @ known.mean)))
            scores = scores_of(blocks.rows.take(fold.test), plain, blocks.jobs)
            found[:, :, fold.test] = scores.reshape(len(ys), len(candidates), -1)
        return found

    def _refit_blocks(self, blocks: Blocks, settings: Settings, y: Labels) -> Any:
        every = np.ones(len(blocks.rows), bool)
        moments = moments_of(blocks.rows, [every], blocks.jobs)
        task = Task(0, 0, settings["C"])
        (fit,) = fit_together(
            blocks.rows, [every], [y], [task], moments=moments, seed=blocks.seed, jobs=blocks.jobs
        )
        return self._pipeline(settings, scaler_of(moments[0]), fit, blocks.seed)


def _fitted(pipeline: Pipeline, scaler: StandardScaler, fit: Fit) -> Pipeline:
    pipeline.steps[0] = ("scale", scaler)
    model = pipeline["classify"]
    model.coef_, model.intercept_ = fit.weights[None, :], np.array([fit.intercept])
    model.classes_, model.n_features_in_ = np.array([0, 1]), len(fit.weights)
    model.n_iter_ = np.array([0], np.int32)
    return pipeline


def _has_small_eigenproblem(X: npt.NDArray[Any]) -> bool:
    return bool(min(X.shape) <= AXES_UNTIL)


def fit_in(basis: Eigenbasis, y: Labels, C: float) -> tuple[Floats, float]:
    """Give the weights in the eigenbasis, shape (r,), and the intercept; C is scikit-learn's."""
    return _refine(basis, y, C, *_start(basis, y, C))


def _start(basis: Eigenbasis, y: Labels, C: float) -> tuple[Floats, float]:
    """Come near to the minimum.

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


def _refine(
    basis: Eigenbasis, y: Labels, C: float, weights: Floats, intercept: float
) -> tuple[Floats, float]:
    """Bring a fit to within rounding of the minimum, by Newton's method.

    Each step is solved by conjugate gradients, which the scaling of `_start` makes quick. Where a
    whole step doesn't come nearer, a half does.
    """
    Z = basis.train
    signs = 2.0 * np.asarray(y, np.float64) - 1
    point = np.append(weights, intercept)
    shape = (len(point), len(point))

    def slope_at(point: Floats) -> tuple[Floats, Floats]:
        margins = signs * (Z @ point[:-1].astype(np.float32) + point[-1])
        missing = expit(-margins)
        pull = -C * signs * missing
        slope = np.append(pull.astype(np.float32) @ Z + point[:-1], pull.sum())
        return slope, C * missing * (1 - missing)

    slope, spread = slope_at(point)
    for _ in range(_NEWTON_STEPS):
        scale = 1 / np.append(1 + spread.mean() * basis.eigenvalues, spread.sum())

        def bend(step: Floats, spread: Floats = spread) -> Floats:
            along = spread * (Z @ step[:-1].astype(np.float32) + step[-1])
            return np.append(along.astype(np.float32) @ Z + step[:-1], along.sum())

        step, _ = cg(
            LinearOperator(shape, bend, dtype=np.float64),
            -slope,
            rtol=_CONJUGATE,
            maxiter=_CONJUGATE_STEPS,
            M=LinearOperator(shape, lambda rest, scale=scale: scale * rest, dtype=np.float64),
        )
        for _ in range(_HALVINGS):
            found, wide = slope_at(point + step)
            if scale @ found**2 <= scale @ slope**2:
                break
            step = step / 2
        point, slope, spread = point + step, found, wide
        if step @ (step / scale) <= _SETTLED**2 * (point @ (point / scale)):
            break
    return point[:-1], float(point[-1])


def _near(gram: npt.NDArray[np.float32], y: Labels, C: float) -> Floats | None:
    """Come near to what `_settle` looks for; None where single precision is too little for it."""
    try:
        point, settled = _settle(gram, y, C, np.append(np.zeros(len(y)), logit(np.mean(y))), _NEAR)
    except LinAlgError:
        return None
    return point if settled else None


def _settle(
    products: npt.NDArray[np.floating], y: Labels, C: float, point: Floats, tolerance: float
) -> tuple[Floats, bool]:
    """Find the minimum in terms of the rows: weights are the sum of pulls times rows.

    By Newton's method for ``pulls = C * (y - probabilities)``, in the precision of the inner
    products. The weak axes, of which single precision leaves little, have no part in it. Pulls
    and intercept go in and come out as one array, with whether it came to rest.
    """
    kind = products.dtype
    for _ in range(_NEWTON_STEPS):
        chances = expit(np.float64(products @ point[:-1].astype(kind)) + point[-1])
        spread = C * np.maximum(chances * (1 - chances), _LEAST_SPREAD)
        away = (C * (y - chances) - point[:-1]) / spread
        matrix = products.copy()
        matrix[np.diag_indices_from(matrix)] += (1 / spread).astype(kind)
        sides = np.stack([away, np.ones(len(y))], axis=1).astype(kind)
        # LAPACK has matrices by columns: a symmetric one need not be copied for that.
        factor = cho_factor(matrix.T, lower=True, overwrite_a=True, check_finite=False)
        both = cho_solve(factor, sides, check_finite=False).astype(np.float64)
        shift = (both[:, 0].sum() + point[:-1].sum()) / both[:, 1].sum()
        step = np.append(both[:, 0] - shift * both[:, 1], shift)
        point = point + step
        if step @ step <= tolerance**2 * (point @ point):
            return point, True
    return point, False


def _holds(estimator: Any) -> bool:
    """Tell whether it is a pipeline as `make_logistic` makes it, fitted to two classes."""
    if not isinstance(estimator, Pipeline):
        return False
    if [type(part) for _, part in estimator.steps] != [StandardScaler, LogisticRegression]:
        return False
    scaler, model = (part for _, part in estimator.steps)
    classes = getattr(model, "classes_", np.empty(0))
    return (
        bool(scaler.with_mean and scaler.with_std)
        and np.array_equal(classes, [0, 1])
        and bool(model.fit_intercept)
    )


def _dump(pipeline: Pipeline) -> bytes:
    from safetensors.numpy import save

    scaler, model = (part for _, part in pipeline.steps)
    values = scaler.mean_, scaler.scale_, model.coef_[0], model.intercept_
    return bytes(
        save(
            {
                name: np.ascontiguousarray(value, np.float64)
                for name, value in zip(_ARRAYS, values, strict=True)
            }
        )
    )


def _load(data: bytes) -> Pipeline:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with require_readable(SafetensorError):
        arrays = load(data)
        if set(arrays) != set(_ARRAYS) or arrays["weights"].ndim != 1:
            raise HeadFileError("it holds other arrays than a logistic regression's")
        mean, deviation, weights, intercept = (arrays[name] for name in _ARRAYS)
        d = weights.shape
        if (
            [mean.shape, deviation.shape, intercept.shape] != [d, d, (1,)]
            or any(array.dtype != np.float64 for array in arrays.values())
            or not all(np.isfinite(array).all() for array in arrays.values())
            or not (deviation > 0).all()
        ):
            raise HeadFileError("its weights and scales make no sense")
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.var_ = mean, deviation, deviation**2
        scaler.n_features_in_ = len(mean)
        fit = Fit(weights, float(intercept[0]))
        return _fitted(make_logistic({"C": 1.0}, 0), scaler, fit)


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
    format=Format(".linear.safetensors", _holds, _dump, _load),
)
