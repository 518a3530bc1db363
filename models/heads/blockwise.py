"""Linear heads fitted block by block: many of them at once, in the same passes over the embeddings.

Reading and converting a block costs more than multiplying it, so all fits (folds, candidates and
sets of labels) go forward together: every pass answers what each of them asks next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.preprocessing import StandardScaler

from features.cache.rows import Rows

__all__ = [
    "Fit",
    "Moments",
    "Task",
    "fit_together",
    "moments_of",
    "scaler_of",
    "scores_of",
]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]

_GRADIENT: Final = 1e-6
_GAIN: Final = 1e-9  # nats per image: at half a million images, half a thousandth in all
_PASSES: Final = 300
_ROUNDING: Final = float(np.finfo(np.float32).eps)
_SAMPLE: Final = 16_384
_WIDEST: Final = 6000


@dataclass(frozen=True)
class Moments:
    """Mean and deviation of the columns, as `sklearn.preprocessing.StandardScaler` has them.

    Parameters
    ----------
    n : int
        Rows.
    mean, variance, scale : ndarray, shape (d,)
        The scale of a column that doesn't vary is 1.
    """

    n: int
    mean: Floats
    variance: Floats
    scale: Floats


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


def moments_of(rows: Rows, masks: Sequence[Mask]) -> list[Moments]:
    """Give the moments of several subsets of the rows, in one pass.

    Parameters
    ----------
    rows : Rows, shape (n, d)
    masks : sequence of ndarray of bool, shape (n,)

    Returns
    -------
    list of Moments

    Notes
    -----
    Deviations are summed around the mean of the first block, in float64, which loses nothing where
    columns are far from zero (Chan, Golub and LeVeque, Algorithms for computing the sample
    variance, The American Statistician 1983).
    """
    d = rows.shape[1]
    sums, squares = np.zeros((len(masks), d)), np.zeros((len(masks), d))
    shift: Singles | None = None
    for place, block in _placed(rows):
        if shift is None:
            shift = block.mean(axis=0, dtype=np.float64).astype(np.float32)
        block -= shift
        chosen = np.stack([mask[place] for mask in masks]).astype(np.float32)
        sums += chosen @ block
        np.square(block, out=block)
        squares += chosen @ block
    found = []
    for mask, total, square in zip(masks, sums, squares, strict=True):
        n = int(mask.sum())
        beside = total / n
        mean = beside + (0.0 if shift is None else shift)
        variance = np.maximum(square / n - beside**2, 0)
        # What single precision can't tell from a column that doesn't vary.
        variance[variance <= (_ROUNDING * mean) ** 2] = 0
        found.append(Moments(n, mean, variance, np.where(variance > 0, np.sqrt(variance), 1.0)))
    return found


def scaler_of(moments: Moments) -> StandardScaler:
    """Give the fitted scaler that has these moments."""
    scaler = StandardScaler()
    scaler.mean_, scaler.var_, scaler.scale_ = moments.mean, moments.variance, moments.scale
    scaler.n_samples_seen_ = np.int64(moments.n)
    scaler.n_features_in_ = len(moments.mean)
    return scaler


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

    Returns
    -------
    list of Fit
        In the order of `tasks`.

    Notes
    -----
    L-BFGS in the eigenbasis of the columns' covariance, scaled by the Hessian's diagonal there.
    Basis and scale come from a sample of all rows and are the same for all tasks: they decide how
    soon a fit ends and not where, since every task's loss and penalty are those of its own rows.
    """
    kind = _LOSSES[loss]
    d = rows.shape[1]
    basis = _Basis.of(rows, seed, standardise=moments is not None)
    known = moments or [Moments(int(m.sum()), np.zeros(d), np.ones(d), np.ones(d)) for m in masks]
    shares = [[float(np.mean(y[mask])) for y in ys] for mask in masks]
    weights = [_class_weights(share, kind.balanced) for share in shares]
    scales, starts = [], []
    for task in tasks:
        share, n = shares[task.split][task.y], known[task.split].n
        curvature = kind.curvature(share)
        scales.append(1 / np.sqrt(1 + task.C * curvature * n * basis.eigenvalues))
        across = 1 / np.sqrt(task.C * curvature * n)
        scales[-1] = np.append(scales[-1], across)
        starts.append(np.append(np.zeros(d), kind.start(share) / across))
    units = [m.scale / basis.scale for m in known]

    def evaluate(asked: dict[int, Floats]) -> dict[int, tuple[float, Floats]]:
        """Give value and slope for each task at its point, in one pass."""
        numbers = sorted(asked)
        scaled = np.stack([asked[number] * scales[number] for number in numbers], axis=1)
        W = basis.axes @ scaled[:-1].astype(np.float32)
        b = scaled[-1].astype(np.float32)
        splits = [tasks[number].split for number in numbers]
        kinds = [tasks[number].y for number in numbers]
        values, slopes = np.zeros(len(numbers)), np.zeros((d + 1, len(numbers)))
        for place, block in _placed(rows):
            basis.standardise(block)
            positive = np.stack([ys[y][place] == 1 for y in kinds], axis=1)
            signs = np.where(positive, np.float32(1), np.float32(-1))
            counted = np.stack([masks[split][place] for split in splits], axis=1).astype(np.float32)
            if kind.balanced:
                pairs = [weights[split][y] for split, y in zip(splits, kinds, strict=True)]
                up, down = np.array(pairs, np.float32).T
                counted *= np.where(positive, up, down)
            lost, pull = kind.of(signs * (block @ W + b))
            values += np.sum(lost * counted, axis=0, dtype=np.float64)
            pull *= signs * counted
            slopes[:-1] += block.T @ pull
            slopes[-1] += pull.sum(axis=0, dtype=np.float64)
        found = {}
        for column, number in enumerate(numbers):
            task, n = tasks[number], known[tasks[number].split].n
            unit = units[task.split] ** 2
            w = W[:, column].astype(np.float64)
            value = task.C * values[column] + float(w @ (unit * w)) / 2
            along = basis.axes.T @ (task.C * slopes[:-1, column] + unit * w).astype(np.float32)
            slope = np.append(along, task.C * slopes[-1, column]) * scales[number]
            found[number] = (value / (task.C * n), slope / (task.C * n))
        return found

    ends = _minimise_together(evaluate, starts)
    fits = []
    for task, end, scale in zip(tasks, ends, scales, strict=True):
        w = (basis.axes @ (end * scale)[:-1].astype(np.float32)).astype(np.float64)
        b = float(end[-1] * scale[-1])
        b += float(w @ ((known[task.split].mean - basis.centre) / basis.scale))
        fits.append(Fit(units[task.split] * w, b))
    return fits


def scores_of(rows: Rows, fits: Sequence[Fit]) -> Floats:
    """Give the scores of all rows by all fits, shape (fits, n)."""
    weights = np.stack([fit.weights for fit in fits], axis=1).astype(np.float32)
    intercepts = np.array([fit.intercept for fit in fits])
    found: Floats = np.concatenate([block @ weights + intercepts for block in rows.blocks()]).T
    return found


def _class_weights(shares: Sequence[float], balanced: bool) -> list[tuple[float, float]]:
    return [(0.5 / share, 0.5 / (1 - share)) if balanced else (1.0, 1.0) for share in shares]


@dataclass(frozen=True)
class _Basis:
    """Coordinates in which all directions are about alike: a centre, a scale, and axes."""

    centre: Floats
    scale: Floats
    axes: Singles
    eigenvalues: Floats

    @classmethod
    def of(cls, rows: Rows, seed: int, *, standardise: bool) -> _Basis:
        n, d = rows.shape
        chosen = np.random.default_rng(seed).permutation(n)[: max(_SAMPLE, 4 * d)]
        sample = rows.take(np.sort(chosen))
        centre, scale = np.zeros(d), np.ones(d)
        if standardise:
            found = moments_of(sample, [np.ones(len(sample), bool)])[0]
            centre, scale = found.mean, found.scale
        plain = cls(centre, scale, np.empty((0, 0), np.float32), np.empty(0))
        product, squares = None, np.zeros(d)
        for block in sample.blocks():
            plain.standardise(block)
            squares += np.einsum("ij,ij->j", block, block, dtype=np.float64)
            if d <= _WIDEST:
                product = block.T @ block if product is None else product + block.T @ block
        if product is None:
            # The eigenproblem would take longer than what it saves.
            return cls(centre, scale, np.eye(d, dtype=np.float32), squares / len(sample))
        eigenvalues, axes = eigh(product / len(sample), driver="evd", check_finite=False)
        return cls(centre, scale, axes, np.maximum(eigenvalues, 0).astype(np.float64))

    def standardise(self, block: Singles) -> None:
        """Do so in place."""
        block -= self.centre.astype(np.float32)
        block /= self.scale.astype(np.float32)


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


def _placed(rows: Rows) -> Iterator[tuple[slice, Singles]]:
    start = 0
    for block in rows.blocks():
        yield slice(start, start + len(block)), block
        start += len(block)
