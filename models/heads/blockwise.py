"""Linear heads fitted block by block: many of them at once, in the same passes over the embeddings.

Reading and converting a block costs more than multiplying it, so all fits (folds, candidates and
sets of labels) go forward together: every pass answers what each of them asks next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from features.cache.rows import Rows
from models.heads.folds.blocks import over_blocks
from models.heads.folds.columns import Basis, Moments

__all__ = [
    "Fit",
    "Task",
    "fit_together",
    "scores_of",
]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]

_GRADIENT: Final = 1e-6
_GAIN: Final = 1e-9  # nats per image: at half a million images, half a thousandth in all
_PASSES: Final = 300


@dataclass(frozen=True)
class Task:
    """A fit that is wanted.

    Parameters
    ----------
    split : int
        Which rows to fit on: the number of the mask.
    y : int
        Which labels: the number of the set.
    C : float
        Strength of the data against the penalty, as in scikit-learn.
    """

    split: int
    y: int
    C: float


@dataclass(frozen=True)
class Fit:
    """Weights of the standardised columns, and the intercept."""

    weights: Floats
    intercept: float


@dataclass(frozen=True)
class _Loss:
    """A loss of the margin ``(2 y - 1) * score``: its value and its slope."""

    of: Callable[[Singles], tuple[Singles, Singles]]
    curvature: Callable[[float], float]
    start: Callable[[float], float]
    balanced: bool


def _log_loss(margins: Singles) -> tuple[Singles, Singles]:
    return np.logaddexp(np.float32(0), -margins), -expit(-margins)


def _squared_hinge(margins: Singles) -> tuple[Singles, Singles]:
    slack = np.maximum(1 - margins, 0)
    return slack**2, -2 * slack


_LOSSES: Final[Mapping[str, _Loss]] = {
    "log": _Loss(
        _log_loss, lambda share: share * (1 - share), lambda share: float(logit(share)), False
    ),
    "squared_hinge": _Loss(_squared_hinge, lambda _: 1.0, lambda _: 0.0, True),
}


def fit_together(
    rows: Rows,
    masks: Sequence[Mask],
    ys: Sequence[Labels],
    tasks: Sequence[Task],
    *,
    loss: str = "log",
    moments: Sequence[Moments] | None = None,
    seed: int = 0,
    jobs: int = 1,
) -> list[Fit]:
    """Minimise ``C * sum(loss) + |w|^2 / 2`` for every task, all in the same passes.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    masks : sequence of ndarray of bool, shape (n,)
        Rows to fit on.
    ys : sequence of ndarray of int, shape (n,)
        Sets of labels: 1 for a positive class, 0 for the rest.
    tasks : sequence of Task
    loss : {"log", "squared_hinge"}
        Log loss, as in logistic regression; squared hinge, as in `sklearn.svm.LinearSVC`, with
        the classes weighed alike (``class_weight="balanced"``).
    moments : sequence of Moments, optional
        Of each mask: columns are standardised by them. As they are by default.
    seed : int
        Of the sample that the preconditioner is made from.
    jobs : int
        Threads.

    Returns
    -------
    list of Fit
        In the order of `tasks`.

    Notes
    -----
    L-BFGS in the eigenbasis of the columns' covariance, scaled by the Hessian's diagonal there; of
    many columns, the leading axes only. Basis and scale come from a sample of all rows and are the
    same for all tasks: they decide how soon a fit ends and not where, since every task's loss and
    penalty are those of its own rows.
    """
    kind = _LOSSES[loss]
    d = rows.shape[1]
    basis = Basis.of(rows, seed, standardise=moments is not None)
    known = moments or [Moments(int(m.sum()), np.zeros(d), np.ones(d), np.ones(d)) for m in masks]
    shares = [[float(np.mean(y[mask])) for y in ys] for mask in masks]
    weights = [_class_weights(share, kind.balanced) for share in shares]
    along, across, starts = [], [], []
    for task in tasks:
        share, n = shares[task.split][task.y], known[task.split].n
        steep = task.C * kind.curvature(share) * n
        along.append(1 / np.sqrt(1 + steep * basis.eigenvalues))
        beside = 0.0 if len(basis.eigenvalues) == d else 1 / np.sqrt(1 + steep * basis.rest)
        across.append((beside, 1 / np.sqrt(steep)))
        starts.append(np.append(np.zeros(d), kind.start(share) / across[-1][1]))
    means, units = zip(*map(basis.moments_here, known), strict=True)

    def evaluate(asked: dict[int, Floats]) -> dict[int, tuple[float, Floats]]:
        """Give value and slope for each task at its point, in one pass."""
        numbers = sorted(asked)
        points = np.stack([asked[number] for number in numbers], axis=1)
        beside, upright = np.array([across[number] for number in numbers]).T
        stretch = np.stack([along[number] for number in numbers], axis=1)
        W = basis.scaled(points[:-1], stretch, beside)
        b = (points[-1] * upright).astype(np.float32)
        splits = [tasks[number].split for number in numbers]
        kinds = [tasks[number].y for number in numbers]
        values, slopes = np.zeros(len(numbers)), np.zeros((d + 1, len(numbers)))

        def asked_of(place: slice, block: Singles) -> tuple[Any, Singles, Any]:
            basis.standardise(block)
            positive = np.stack([ys[y][place] == 1 for y in kinds], axis=1)
            signs = np.where(positive, np.float32(1), np.float32(-1))
            counted = np.stack([masks[split][place] for split in splits], axis=1).astype(np.float32)
            if kind.balanced:
                pairs = [weights[split][y] for split, y in zip(splits, kinds, strict=True)]
                up, down = np.array(pairs, np.float32).T
                counted *= np.where(positive, up, down)
            lost, pull = kind.of(signs * (block @ W + b))
            pull *= signs * counted
            value = np.sum(lost * counted, axis=0, dtype=np.float64)
            return value, block.T @ pull, pull.sum(axis=0, dtype=np.float64)

        for value, slope, upward in over_blocks(rows, asked_of, jobs):
            values += value
            slopes[:-1] += slope
            slopes[-1] += upward
        units_of = np.stack([units[split] ** 2 for split in splits], axis=1)
        Cs = np.array([tasks[number].C for number in numbers])
        turned = basis.scaled(Cs * slopes[:-1] + units_of * W, stretch, beside)
        found = {}
        for column, number in enumerate(numbers):
            task, n = tasks[number], known[tasks[number].split].n
            w = W[:, column].astype(np.float64)
            value = task.C * values[column] + float(w @ (units_of[:, column] * w)) / 2
            up = task.C * slopes[-1, column] * upright[column]
            downhill = np.append(turned[:, column].astype(np.float64), up)
            found[number] = (value / (task.C * n), downhill / (task.C * n))
        return found

    ends = _minimise_together(evaluate, starts)
    fits = []
    for task, end, stretch, (beside, upright) in zip(tasks, ends, along, across, strict=True):
        w = basis.scaled(end[:-1, None], stretch[:, None], np.array([beside]))[:, 0]
        w = w.astype(np.float64)
        b = float(end[-1] * upright)
        b += float(w @ means[task.split])
        fits.append(Fit(units[task.split] * w, b))
    return fits


def scores_of(rows: Rows, fits: Sequence[Fit], jobs: int = 1) -> Floats:
    """Give the scores of all rows by all fits, shape (fits, n)."""
    weights = np.stack([fit.weights for fit in fits], axis=1).astype(np.float32)
    intercepts = np.array([fit.intercept for fit in fits])
    parts = over_blocks(rows, lambda _, block: block @ weights + intercepts, jobs)
    found: Floats = np.concatenate([*parts]).T
    return found


def _class_weights(shares: Sequence[float], balanced: bool) -> list[tuple[float, float]]:
    return [(0.5 / share, 0.5 / (1 - share)) if balanced else (1.0, 1.0) for share in shares]


class _Stopped(Exception):
    """Ends a minimisation that nobody waits for any more."""


def _minimise_together(
    evaluate: Callable[[dict[int, Floats]], dict[int, tuple[float, Floats]]],
    starts: Sequence[Floats],
) -> list[Floats]:
    """Run one L-BFGS for each start; evaluate for all of them at once, when all have asked.

    SciPy's minimiser asks by calling, so each runs in a thread of its own, and sleeps while the
    others think.
    """
    asked: SimpleQueue[tuple[int, Floats | None]] = SimpleQueue()
    answers: list[SimpleQueue[tuple[float, Floats] | None]] = [SimpleQueue() for _ in starts]

    def run(number: int) -> Floats:
        def ask(point: Floats) -> tuple[float, Floats]:
            asked.put((number, point.copy()))
            answer = answers[number].get()
            if answer is None:
                raise _Stopped
            return answer

        try:
            return np.asarray(
                minimize(
                    ask,
                    starts[number],
                    jac=True,
                    method="L-BFGS-B",
                    options={"gtol": _GRADIENT, "ftol": _GAIN, "maxfun": _PASSES, "maxcor": 20},
                ).x
            )
        finally:
            asked.put((number, None))

    with ThreadPoolExecutor(len(starts)) as pool:
        running = [pool.submit(run, number) for number in range(len(starts))]
        try:
            _answer(evaluate, asked, answers)
        except BaseException:
            # Nobody would wake the sleeping threads, and the pool waits for them.
            for answer in answers:
                answer.put(None)
            raise
        return [each.result() for each in running]


def _answer(
    evaluate: Callable[[dict[int, Floats]], dict[int, tuple[float, Floats]]],
    asked: SimpleQueue[tuple[int, Floats | None]],
    answers: Sequence[SimpleQueue[tuple[float, Floats] | None]],
) -> None:
    active, waiting = len(answers), dict[int, Floats]()
    while active:
        number, point = asked.get()
        if point is None:
            active -= 1
        else:
            waiting[number] = point
        if waiting and len(waiting) == active:
            for number, answer in evaluate(waiting).items():
                answers[number].put(answer)
            waiting = {}
