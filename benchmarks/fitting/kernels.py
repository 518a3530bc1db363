"""Heads on kernels of layers: weights learnt in each fold, and labels that spread to neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve
from scipy.optimize import minimize, nnls

from benchmarks.fitting.trials import (
    STRENGTHS,
    Floats,
    Judged,
    Singles,
    Study,
    area,
    best_of,
    fit_together,
    inner_parts,
    nested,
)

__all__ = ["aligned", "chosen", "gaussian_process", "propagated"]

_DRAWN: Final = 13
_BEST: Final = 8
_NEIGHBOURS: Final = (10, 30, 100)


def aligned(study: Study, matrices: Sequence[Singles]) -> Judged:
    """Add matrices with the weights that bring their sum nearest to the labels, in each fold.

    References
    ----------
    Cortes, Mohri and Rostamizadeh, Algorithms for learning kernels based on centered alignment,
    JMLR 2012.
    """
    centred = [each - each.mean(axis=0) - each.mean(axis=1)[:, None] + each.mean()
               for each in matrices]  # fmt: skip
    between = np.array([[np.vdot(one, other) for other in centred] for one in centred], float)
    root = np.linalg.cholesky(between + 1e-6 * between.trace() * np.eye(len(between)))
    found = np.zeros((len(STRENGTHS), *study.held.shape[::2]))
    for repeat, parts in enumerate(study.held):
        for held in parts:
            labels = np.where(held, 0, study.y - study.y[~held].mean()).astype(np.float32)
            towards = np.array([labels @ each @ labels for each in centred], float)
            weights, _ = nnls(root.T, np.linalg.solve(root, towards))
            total = sum(weight * each for weight, each in zip(weights, matrices, strict=True))
            scores = fit_together(
                np.asarray(total / np.trace(total) * len(total), np.float32),
                study.y.astype(np.float32)[:, None],
                ~held[:, None],
                STRENGTHS,
            )
            found[:, repeat, held] = scores[:, held, 0]
    return Judged.of(study, best_of(study, found))


def chosen(
    study: Study, matrices: Sequence[Singles], groups: npt.NDArray[Any], start: Floats
) -> Judged:
    """Add matrices with weights that each fold chooses by folds of its own training part.

    Tried are `start`, the same weight for each, `start` without each or with one more, and weights
    drawn at random; the scores of the best eight are averaged.
    """
    n = len(study.y)
    kept = ~study.held.reshape(-1, n)
    shares = [start, np.ones_like(start)]
    for place, share in enumerate(start):
        other = start.copy()
        other[place] = 0 if share else start.max()
        shares.append(other)
    shares += list(np.random.default_rng(0).dirichlet(np.full(len(start), 0.5), _DRAWN))
    totals = (
        np.asarray(np.tensordot(share / share.sum(), matrices, 1), np.float32) for share in shares
    )
    inner, outer = nested(study, totals, groups, STRENGTHS[1:3])
    found = np.zeros((len(kept), n))
    for number, rows in enumerate(kept):
        parts = inner_parts(study, rows, groups, number)
        reached = [np.mean([area(study.y[p], one[number, p]) for p in parts]) for one in inner]
        for at in np.argsort(reached)[-_BEST:]:
            scores = outer[at][number]
            found[number] += (scores - scores[rows].mean()) / scores[rows].std()
    found[kept] = 0
    return Judged.of(study, found.reshape(study.held.shape).sum(axis=1))


def gaussian_process(study: Study, matrices: Sequence[Singles]) -> Judged:
    """Regress the labels on a Gaussian process whose kernel adds matrices, in each fold.

    Their weights, and the noise, are those under which the training part's labels are likeliest
    (Rasmussen and Williams, Gaussian processes for machine learning, 2006, 5.4.1).
    """
    found = np.zeros(study.held.shape[::2])
    for repeat, parts in enumerate(study.held):
        for held in parts:
            rows = ~held
            y = study.y[rows] - study.y[rows].mean()
            y /= y.std()
            kernels = [each[np.ix_(rows, rows)] for each in matrices]
            inside = np.array([*kernels, np.eye(len(y))], float)

            def unlikeliness(
                logs: Floats, inside: Floats = inside, y: Floats = y
            ) -> tuple[float, Floats]:
                factor = cho_factor(np.tensordot(np.exp(logs), inside, 1), lower=True)
                pull = cho_solve(factor, y)
                slope = np.outer(pull, pull) - cho_solve(factor, np.eye(len(y)))
                value = y @ pull / 2 + np.log(np.diag(factor[0])).sum()
                slopes = [np.vdot(slope, each) for each in inside]
                return value, -np.exp(logs) * slopes / 2

            first = np.log([*[0.3 / len(matrices)] * len(matrices), 0.7])
            logs = minimize(
                unlikeliness, first, jac=True, method="L-BFGS-B", options={"maxiter": 15},
                bounds=[*[(-12, 3)] * len(matrices), (-4, 2)],
            ).x  # fmt: skip
            pull = solve(np.tensordot(np.exp(logs), inside, 1), y, assume_a="pos")
            across = [each[np.ix_(held, rows)] for each in matrices]
            found[repeat, held] = np.tensordot(np.exp(logs[:-1]), across, 1) @ pull
    return Judged.of(study, found)


def propagated(study: Study, matrix: Singles) -> Judged:
    """Let each fold's labels spread to the most alike images, labelled or not.

    Of three numbers of neighbours each repeat's best is kept.

    References
    ----------
    Zhou and others, Learning with local and global consistency, NIPS 2003, with alpha 0.9.
    """
    centred = matrix - matrix.mean(axis=0) - matrix.mean(axis=1)[:, None] + matrix.mean()
    size = np.sqrt(np.diag(centred))
    alike = centred / size / size[:, None]
    np.fill_diagonal(alike, -1)
    n = len(alike)
    found = np.zeros((len(_NEIGHBOURS), *study.held.shape[::2]))
    for row, count in zip(found, _NEIGHBOURS, strict=True):
        last = n - min(count, n - 1)
        least = np.partition(alike, last, axis=1)[:, last][:, None]
        near = np.where((alike >= least) | (alike >= least.T), np.exp(alike), 0)
        root = np.sqrt(near.sum(axis=1))
        spread = np.linalg.inv(np.eye(n) - 0.9 * near / root / root[:, None])
        for repeat, parts in enumerate(study.held):
            for held in parts:
                # Of either class the same weight in all, so that the rarer one is not drowned.
                shares = [np.where(held, 0, study.y == each) for each in (1, 0)]
                ahead, behind = (spread[held] @ (share / share.sum()) for share in shares)
                both = ahead + behind
                row[repeat, held] = (ahead - behind) / np.where(both > 0, both, 1)
    return Judged.of(study, best_of(study, found))
