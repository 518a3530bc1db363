"""Heads as they are asked while serving: few images at a time, and many changes of a part of one.

What is served gives the same scores as what was fitted, to within 1e-5 of their spread, from less
memory: a linear head is one row of weights, and an SVM's vectors stay in half precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from models.heads.base import score
from models.heads.classes import ClassHead, ClassHeads
from models.heads.ensemble import Ensemble
from models.heads.svm import KernelMachine
from models.inference.products import inner_products, weighted_sums

__all__ = ["Changes", "changes_in_full", "changes_of", "to_serve"]

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
Changes = Callable[[int, Floats], Scores]

# Full rows of so many changes are held at once, where a head can't do with less.
_ROWS: Final = 256
# Of the changes of a part, those that are scored in full anyway, and how far off the others may be,
# as a part of the largest difference that any of them makes.
_LEAST_IN_FULL: Final = 16
_PART_IN_FULL: Final = 0.125
_OFF: Final = 0.01


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Scaling and logistic regression as one row of weights.

    Parameters
    ----------
    weights : ndarray of float64, shape (d,)
    intercept : float
    """

    weights: npt.NDArray[np.float64]
    intercept: float

    @classmethod
    def of(cls, scaler: StandardScaler, model: LogisticRegression) -> LinearHead:
        """Make one of a pipeline's two fitted parts."""
        weights = np.asarray(model.coef_[0] / scaler.scale_, np.float64)
        return cls(weights, float(model.intercept_[0] - scaler.mean_ @ weights))

    @property
    def n_features_in_(self) -> int:
        """Length of an embedding."""
        return len(self.weights)

    def decision_function(self, X: npt.ArrayLike) -> Scores:
        """Give the scores of embeddings (n, d), shape (n,)."""
        return np.asarray(np.asarray(X, np.float64) @ self.weights + self.intercept)

    def changes(self, whole: Floats) -> Changes:
        """As `changes_of`."""
        before = self.decision_function(whole)[0]

        def scores(start: int, parts: Floats) -> Scores:
            place = slice(start, start + parts.shape[1])
            change = parts.astype(np.float64) - whole[:, place]
            return np.asarray(before + change @ self.weights[place])

        return scores


@dataclass(frozen=True, eq=False)
class SlimMachine:
    """A `KernelMachine` without another copy of its vectors in single precision.

    Parameters
    ----------
    machine : KernelMachine
    """

    machine: KernelMachine

    @property
    def n_features_in_(self) -> int:
        """Length of an embedding."""
        return self.machine.n_features_in_

    def decision_function(self, X: npt.ArrayLike) -> Scores:
        """Give the scores of embeddings (n, d), shape (n,)."""
        rows = np.asarray(X)
        found = [np.empty(0)]
        for start in range(0, len(rows), _ROWS):
            scaled = self.scaled(rows[start : start + _ROWS], slice(None))
            products = inner_products(scaled, self.machine.support)
            found.append(self.scores(_squares(scaled), products))
        return np.concatenate(found)

    def changes(self, whole: Floats) -> Changes:
        """As `changes_of`."""
        return _MachineChanges(self, whole).scores

    def scaled(self, rows: npt.NDArray[Any], place: slice) -> Floats:
        """Standardise a part of embeddings."""
        machine = self.machine
        return np.asarray((rows - machine.centre[place]) / machine.width[place], np.float32)

    def scores(self, lengths: Scores, products: Floats) -> Scores:
        """Give the scores of standardised embeddings by squared length and inner products."""
        return np.asarray(
            self.kernel(lengths, products) @ self.machine.weights + self.machine.intercept
        )

    def kernel(self, lengths: Scores, products: Floats) -> Scores:
        """Give the likeness to every support vector, by the same."""
        squared = lengths[:, np.newaxis] + self._lengths - 2.0 * products
        return np.exp(-self.machine.gamma * np.maximum(squared, 0))

    @cached_property
    def _lengths(self) -> Scores:
        support = self.machine.support
        return np.concatenate(
            [
                _squares(support[start : start + _ROWS].astype(np.float32))
                for start in range(0, len(support), _ROWS)
            ]
        )


class _MachineChanges:
    """Scores of an embedding of which a part is replaced, by a `SlimMachine`.

    Most changes are so small that the kernel is as good as linear in them, and one product with
    its slope tells them all. Those that change the part most are scored in full, and tell how far
    off the slope is, which grows with the square of a change; where the others might be further off
    than is allowed, they are scored in full as well.
    """

    def __init__(self, slim: SlimMachine, whole: Floats) -> None:
        self._slim, self._machine = slim, slim.machine
        self._row = slim.scaled(whole, slice(None))
        self._length = _squares(self._row)
        self._products = inner_products(self._row, self._machine.support)
        pull = slim.kernel(self._length, self._products) * self._machine.weights
        self._before = float(pull.sum())
        towards = weighted_sums(pull.astype(np.float32), self._machine.support)[0]
        self._slope = 2 * self._machine.gamma * (towards - self._before * self._row[0])

    def scores(self, start: int, parts: Floats) -> Scores:
        """As `Changes`."""
        place = slice(start, start + parts.shape[1])
        after = self._slim.scaled(parts, place)
        change = after - self._row[:, place]
        sizes = _squares(change)
        found = np.exp(-self._machine.gamma * sizes) * (self._before + change @ self._slope[place])
        order = np.argsort(-sizes)
        count = max(_LEAST_IN_FULL, round(len(order) * _PART_IN_FULL))
        most, others = order[:count], order[count:]
        full = self._in_full(place, after[most])
        rate = np.abs(full - found[most]) / np.maximum(sizes[most], 1e-12)
        found[most] = full
        if len(others):
            allowed = _OFF * np.abs(found - self._before).max()
            if rate.max() * sizes[others].max() > allowed:
                found[others] = self._in_full(place, after[others])
        return np.asarray(found + self._machine.intercept)

    def _in_full(self, place: slice, after: Floats) -> Scores:
        before = self._row[:, place]
        products = inner_products(after - before, self._machine.support[:, place])
        lengths = self._length - _squares(before) + _squares(after)
        found = self._slim.scores(lengths, self._products + products)
        return np.asarray(found - self._machine.intercept)


def to_serve(heads: ClassHeads) -> ClassHeads:
    """Give the same heads as they are served.

    Parameters
    ----------
    heads : ClassHeads

    Returns
    -------
    ClassHeads
        Those of kinds that aren't known here are as they were.
    """
    served: tuple[ClassHead, ...] = tuple(
        replace(head, estimator=_slim(head.estimator)) for head in heads.heads
    )
    return replace(heads, heads=served)


def changes_of(estimator: Any, whole: Floats) -> Changes:
    """Give what tells the scores of an embedding with a part of it replaced in several ways.

    Parameters
    ----------
    estimator : object
        A head's, served or not.
    whole : ndarray of float32, shape (1, d)

    Returns
    -------
    callable
        Takes where the part begins and what takes its place, float32 (n, width); gives what
        `models.heads.base.score` would give for all n embeddings in full, shape (n,). For an SVM
        those that change the score little come from the kernel's slope; they are off by about a
        hundredth of the largest difference at most, as estimated from the others.
    """
    if isinstance(estimator, Ensemble):
        members = {
            name: _within(estimator.columns.get(name), each, whole)
            for name, each in estimator.members.items()
        }
        return lambda start, parts: estimator.combine(
            {name: scores(start, parts) for name, scores in members.items()}
        )
    if isinstance(estimator, LinearHead | SlimMachine):
        return estimator.changes(whole)
    return changes_in_full(lambda rows: score(estimator, rows), whole)


def _within(part: slice | None, estimator: Any, whole: Floats) -> Changes:
    """Tell what changes of a whole embedding do to a head that is given a part of it."""
    if part is None:
        return changes_of(estimator, whole)
    own = changes_of(estimator, whole[:, part])
    before = score(estimator, whole[:, part])

    def scores(start: int, parts: Floats) -> Scores:
        low, high = max(start, part.start), min(start + parts.shape[1], part.stop)
        if low >= high:
            return np.repeat(before, len(parts))
        return own(low - part.start, parts[:, low - start : high - start])

    return scores


def changes_in_full(scored: Callable[[Floats], npt.NDArray[Any]], whole: Floats) -> Changes:
    """Do as `changes_of` where no more is known of a head than how it scores (n, d)."""

    def scores(start: int, parts: Floats) -> Scores:
        found = [np.empty(0)]
        for begin in range(0, len(parts), _ROWS):
            some = parts[begin : begin + _ROWS]
            rows = np.repeat(whole, len(some), axis=0)
            rows[:, start : start + parts.shape[1]] = some
            found.append(scored(rows))
        return np.concatenate(found)

    return scores


def _slim(estimator: Any) -> Any:
    if isinstance(estimator, Ensemble):
        members = {name: _slim(member) for name, member in estimator.members.items()}
        return replace(estimator, members=members)
    if isinstance(estimator, KernelMachine):
        return SlimMachine(estimator)
    if isinstance(estimator, Pipeline) and [type(part) for _, part in estimator.steps] == [
        StandardScaler,
        LogisticRegression,
    ]:
        scaler, model = (part for _, part in estimator.steps)
        if scaler.scale_ is not None and scaler.mean_ is not None and len(model.coef_) == 1:
            return LinearHead.of(scaler, model)
    return estimator


def _squares(rows: Floats) -> Scores:
    return np.asarray(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
