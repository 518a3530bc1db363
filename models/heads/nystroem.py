"""The kernel SVM where there are too many images for their inner products: Nyström's approximation.

A kernel machine on half a million images would need every image's kernel with every other. Here
each is described by its kernel with some of them, the landmarks, and a linear machine is fitted to
that description.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from features.cache.rows import Rows, StoredTable
from models.heads.base import Head, Settings
from models.heads.blockwise import Fit, Moments

__all__ = ["NYSTROEM", "describe", "landmark_map", "machine", "scaler_of"]

_LANDMARKS: Final = 1024
# Beneath this, relative to the largest, an eigenvalue is the rounding of single precision.
_FLAT: Final = 1e-6


def scaler_of(moments: Moments) -> StandardScaler:
    """Give the fitted scaler that has these moments."""
    scaler = StandardScaler()
    scaler.mean_, scaler.var_, scaler.scale_ = moments.mean, moments.variance, moments.scale
    scaler.n_samples_seen_ = np.int64(moments.n)
    scaler.n_features_in_ = len(moments.mean)
    return scaler


def landmark_map(
    rows: Rows,
    train: npt.NDArray[np.intp],
    moments: Moments,
    settings: Settings,
    *,
    seed: int,
) -> Nystroem:
    """Choose landmarks among the rows to fit on, and give the fitted map.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    train : ndarray of int
    moments : Moments
        Of those rows.
    settings : dict
        With ``gamma`` and ``n_components``.
    seed : int

    Returns
    -------
    Nystroem
        Of standardised rows.

    References
    ----------
    Williams and Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000.
    """
    m = min(settings["n_components"], len(train))
    chosen = np.sort(np.random.default_rng(seed).permutation(train)[:m])
    landmarks = (rows[chosen].astype(np.float64) - moments.mean) / moments.scale
    found = _map(settings, seed).set_params(n_components=m).fit(landmarks)
    kernel = _kernel(found.components_, found.components_, settings["gamma"])
    eigenvalues, axes = eigh(kernel, driver="evd")
    kept = eigenvalues > _FLAT * eigenvalues[-1]
    # As scikit-learn's, without the directions that hold nothing but noise.
    found.normalization_ = axes[:, kept] / np.sqrt(eigenvalues[kept]) @ axes[:, kept].T
    return found


def describe(rows: Rows, moments: Moments, landmarks: Nystroem, path: Path) -> Rows:
    """Write every row's description by its kernels with the landmarks, in half precision.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    moments : Moments
        Of the rows to fit on.
    landmarks : Nystroem
    path : Path
        Of a file, which is overwritten.

    Returns
    -------
    Rows, shape (n, number of landmarks)
        From that file.
    """
    gamma = landmarks.gamma
    centre, scale = moments.mean.astype(np.float32), moments.scale.astype(np.float32)
    places = landmarks.components_.astype(np.float32)
    mixing = landmarks.normalization_.T.astype(np.float32)
    with h5py.File(path, "w") as file:
        table = file.create_dataset("described", (len(rows), len(places)), np.float16)
        start = 0
        for block in rows.blocks():
            block -= centre
            block /= scale
            table[start : start + len(block)] = _kernel(block, places, gamma) @ mixing
            start += len(block)
    return Rows(StoredTable(path, "described", (len(rows), len(places)), np.dtype(np.float16)))


def _kernel(rows: npt.NDArray[Any], places: npt.NDArray[Any], gamma: float) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = rows @ places.T
    found *= -2
    found += np.einsum("ij,ij->i", rows, rows)[:, None]
    found += np.einsum("ij,ij->i", places, places)
    np.maximum(found, 0, out=found)
    found *= -gamma
    np.exp(found, out=found)
    return found


def machine(
    settings: Settings, seed: int, moments: Moments, landmarks: Nystroem, fit: Fit
) -> Pipeline:
    """Put the fitted parts together.

    Parameters
    ----------
    settings : dict
    seed : int
    moments : Moments
    landmarks : Nystroem
    fit : Fit
        Of the descriptions.

    Returns
    -------
    Pipeline
        As scikit-learn's own fit gives it.
    """
    model = _linear(settings, seed)
    model.coef_, model.intercept_ = fit.weights[None, :], np.array([fit.intercept])
    model.classes_, model.n_features_in_ = np.array([0, 1]), len(fit.weights)
    model.n_iter_ = 0
    return Pipeline([("scale", scaler_of(moments)), ("describe", landmarks), ("classify", model)])


def _map(settings: Settings, seed: int) -> Nystroem:
    return Nystroem(
        kernel="rbf",
        gamma=settings["gamma"],
        n_components=settings["n_components"],
        random_state=seed,
    )


def _linear(settings: Settings, seed: int) -> LinearSVC:
    return LinearSVC(
        C=settings["C"], class_weight="balanced", dual=False, random_state=seed, max_iter=5000
    )


def _make(settings: Settings, seed: int) -> Pipeline:
    return Pipeline(
        [
            ("scale", StandardScaler()),
            ("describe", _map(settings, seed)),
            ("classify", _linear(settings, seed)),
        ]
    )


def _candidates(d: int) -> list[Settings]:
    return [
        {"C": C, "gamma": scale / d, "n_components": _LANDMARKS}
        for scale in (0.125, 0.5)
        for C in (0.001, 0.01, 0.1, 1.0)
    ]


NYSTROEM: Final = Head("svm", "SVM (RBF, Nyström approximation)", _candidates, _make)
