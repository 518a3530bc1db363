"""Fitting a calibration to out-of-fold scores, and choosing which kind by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import logit, xlogy
from sklearn.isotonic import IsotonicRegression

from models.decisions.calibrators import Beta, Calibration, Isotonic, Platt
from models.decisions.newton import logistic_fit

__all__ = ["METHODS", "calibrate", "choose_method", "fit_beta", "fit_isotonic", "fit_platt"]

Floats = npt.NDArray[np.float64]

_EDGE = 1e-12


def fit_platt(labels: npt.NDArray[Any], scores: Floats) -> Platt:
    """Fit Platt's sigmoid, with his smoothed targets.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest; both occur.
    scores : ndarray, shape (n,)
        Out-of-fold: scores of images that the head was fitted on would be overconfident.

    Returns
    -------
    Platt
        If higher scores do not go with the positive class, the slope is 0 and every probability
        is the share of positives.
    """
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = float(scores.mean()), float(scores.std())
    fit = None
    if spread > 0:
        column = (scores - centre) / spread
        fit = logistic_fit(np.stack([np.ones_like(column), column], axis=1), target)
    if fit is None or fit.coefficients[1] <= 0:
        return Platt(slope=0.0, intercept=float(logit(positives / len(labels))))
    slope = float(fit.coefficients[1]) / spread
    return Platt(slope=slope, intercept=float(fit.coefficients[0]) - slope * centre)


def fit_beta(labels: npt.NDArray[Any], scores: Floats, platt: Platt | None = None) -> Beta:
    """Fit beta calibration on top of Platt's sigmoid.

    Parameters
    ----------
    labels, scores
        As for `fit_platt`.
    platt : Platt, optional
        What `fit_platt` gave for the same.

    Returns
    -------
    Beta
        A coefficient that would be negative is 0, and the other is fitted without it.
    """
    platt = platt or fit_platt(labels, scores)
    odds = platt.slope * scores + platt.intercept
    ones = np.ones_like(odds)
    rises = {"a": -np.logaddexp(0, -odds), "b": np.logaddexp(0, odds)}
    target = labels.astype(np.float64)
    for names in (("a", "b"), ("a",), ("b",)):
        fit = logistic_fit(np.stack([*(rises[name] for name in names), ones], axis=1), target)
        if fit is not None and (fit.coefficients[:-1] >= 0).all():
            found = dict(zip(names, fit.coefficients[:-1].tolist(), strict=True))
            return Beta(
                platt.slope,
                platt.intercept,
                found.get("a", 0.0),
                found.get("b", 0.0),
                float(fit.coefficients[-1]),
            )
    # Nothing to be added: a flat sigmoid, or classes that are wholly apart.
    return Beta(platt.slope, platt.intercept, 1.0, 1.0, 0.0)


def fit_isotonic(labels: npt.NDArray[Any], scores: Floats) -> Isotonic:
    """Fit the rising step function of least squares, as a line through the ends of its steps.

    Parameters
    ----------
    labels, scores
        As for `fit_platt`.

    Returns
    -------
    Isotonic
        No probability is nearer to 0 or 1 than Platt's smoothed targets are, so that no image is
        ever called certain.
    """
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    model = IsotonicRegression(
        y_min=1 / (negatives + 2), y_max=(positives + 1) / (positives + 2), out_of_bounds="clip"
    )
    model.fit(scores, labels.astype(np.float64))
    return Isotonic(
        tuple(np.asarray(model.X_thresholds_, float).tolist()),
        # Rounding in averages could make a step down of 1e-17.
        tuple(np.maximum.accumulate(np.asarray(model.y_thresholds_, float)).tolist()),
    )


_FITS: Final[dict[str, Callable[[npt.NDArray[Any], Floats], Calibration]]] = {
    "platt": fit_platt,
    "isotonic": fit_isotonic,
    "beta": fit_beta,
}
METHODS: Final = tuple(_FITS)

# With fewer it overfits (Niculescu-Mizil and Caruana, Predicting good probabilities with supervised
# learning, ICML 2005), and gives many images the same probability.
_ISOTONIC_FROM: Final = 1000


def choose_method(
    labels: npt.NDArray[Any], scores: Floats, folds: Sequence[npt.NDArray[np.intp]]
) -> tuple[str, dict[str, float]]:
    """Compare the kinds of calibration by cross-validated log loss.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    scores : ndarray, shape (n,)
        Out-of-fold.
    folds : sequence of ndarray of int
        Rows of each fold; each is judged by calibrations of the others' rows.

    Returns
    -------
    method : str
        The one with the lowest loss; of equals, the first of `METHODS`.
    losses : dict of str to float
        Mean log loss in nats per image; isotonic is tried from 1,000 images on.
    """
    judged = np.concatenate(folds)
    known = np.zeros(len(labels), bool)
    known[judged] = True
    summed: dict[str, float] = {}
    for test in folds:
        others = known.copy()
        others[test] = False
        learnt = labels[others], scores[others]
        platt = fit_platt(*learnt)
        fitted: dict[str, Calibration] = {"platt": platt}
        if len(labels) >= _ISOTONIC_FROM:
            fitted["isotonic"] = fit_isotonic(*learnt)
        fitted["beta"] = fit_beta(*learnt, platt)
        for method, calibration in fitted.items():
            predicted = np.clip(calibration.apply(scores[test]), _EDGE, 1 - _EDGE)
            loss = xlogy(labels[test], predicted) + xlogy(1 - labels[test], 1 - predicted)
            summed[method] = summed.get(method, 0.0) - float(np.sum(loss))
    losses = {method: loss / len(judged) for method, loss in summed.items()}
    return min(losses, key=losses.__getitem__), losses


def calibrate(
    labels: npt.NDArray[Any],
    scores: Floats,
    folds: Sequence[npt.NDArray[np.intp]] = (),
    method: str = "platt",
) -> tuple[Calibration, Mapping[str, float]]:
    """Fit a calibration.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest; both occur.
    scores : ndarray, shape (n,)
        Out-of-fold.
    folds : sequence of ndarray of int
        To choose by, with ``"auto"``.
    method : {"auto", "platt", "isotonic", "beta"}

    Returns
    -------
    calibration : Calibration
    losses : dict of str to float
        What it was chosen by; empty if it was asked for.
    """
    losses: Mapping[str, float] = {}
    if method == "auto":
        method, losses = choose_method(labels, scores, folds)
    return _FITS[method](labels, scores), losses
