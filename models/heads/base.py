"""What a head is: settings worth trying, and how they are searched, fitted and kept.

A `Head` as it stands takes any classifier: it fits all candidates one by one, in memory, and keeps
what it fitted in skops' format. What knows a better way is a class of its own in its own module;
`models.heads.HEADS` lists them.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import logit
from threadpoolctl import threadpool_limits

from features.cache.rows import Rows
from features.errors import LesionError
from models.heads.folds.blocks import Blocks, in_blocks
from models.heads.folds.fold import Fold

__all__ = [
    "Candidates",
    "CannotStream",
    "Floats",
    "Format",
    "Head",
    "HeadFileError",
    "LabelSets",
    "Labels",
    "Settings",
    "Solution",
    "first_line",
    "require_readable",
    "score",
    "worthwhile_threads",
]

Settings = dict[str, Any]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
LabelSets = Sequence[Labels]
Candidates = Sequence[Settings]
Solution = Mapping[str, npt.NDArray[Any]]

# Probabilities come as float32; nearer to 0 or 1 than this their logit is rounding.
_FLOAT32_EDGE: Final = 1e-7
# With less to do, threads mostly wait for each other, and on a busy machine for long.
_ENTRIES_PER_THREAD: Final = 10_000_000
_AT_ONCE: Final = 2**23  # 64 MB in double precision, of which estimators make copies
# What libraries raise on a file that is not what they wrote, besides their own errors.
_DAMAGE: Final = (
    zipfile.BadZipFile, ImportError, LookupError, AttributeError, TypeError, ValueError, EOFError,
    RecursionError, MemoryError,
)  # fmt: skip


class CannotStream(LesionError):
    """A head that needs all embeddings at once, where they are too many for that."""


class HeadFileError(LesionError):
    """A head's file that holds anything but a head."""


@dataclass(frozen=True)
class Format:
    """How fitted heads of one kind are kept in a file that holds numbers only and can't run code.

    Parameters
    ----------
    suffix : str
        Of the file.
    holds : callable
        Tells whether an estimator is of the kind.
    dump : callable
        Gives the file's content; raises `HeadFileError` if `load` wouldn't take it.
    load : callable
        Gives the estimator; raises `HeadFileError` if the content is damaged, or anything else.
    """

    suffix: str
    holds: Callable[[Any], bool]
    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]


@dataclass(frozen=True)
class Head:
    """A kind of classifier, and the settings worth trying.

    Parameters
    ----------
    name : str
        Key in `models.heads.HEADS`, or a dotted path.
    title : str
        The name that a person reads.
    candidates : callable
        Gives the settings to try for embeddings of a length, simplest first.
    make : callable
        Makes an estimator that is not fitted, from settings and a seed.
    storable : bool
        Whether a bundle can hold it.
    reusable : bool
        Whether the same settings and versions will always mean the same estimator.
    note : str
        What a reader of its figures must know.
    parts : tuple of str
        The scikit-learn classes that it is made of, by where they are defined: a file may hold
        those.
    format : Format, optional
        Of its file; skops' by default.
    """

    name: str
    title: str
    candidates: Callable[[int], list[Settings]]
    make: Callable[[Settings, int], Any]
    storable: bool = True
    reusable: bool = True
    note: str = ""
    parts: tuple[str, ...] = ()
    format: Format | None = None

    def objection(self, settings: Settings) -> str:
        """Say what is wrong with settings of the right names and types, all above 0; or nothing."""
        return ""

    def suited_to(self, X: npt.NDArray[Any] | Rows) -> Head:
        """Give the head that takes so many embeddings: itself, or what comes near to it."""
        return self

    def by_blocks(self, X: npt.NDArray[Any] | Rows) -> bool:
        """Tell whether it is fitted by blocks: because the embeddings come so, or always."""
        return isinstance(X, Rows)

    def fit(
        self, settings: Settings, X: npt.NDArray[Any], y: Labels, *, seed: int, jobs: int
    ) -> Any:
        """Fit with known settings.

        Parameters
        ----------
        settings : dict
            As one of ``candidates(d)``.
        X : ndarray, shape (n, d)
            Embeddings.
        y : ndarray of int, shape (n,)
            1 for the positive class, 0 for the rest.
        seed, jobs : int
            The latter is of threads at most, where the estimator has them.

        Returns
        -------
        estimator
            Fitted; see `score`.

        Examples
        --------
        >>> from models.heads import HEADS
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
        >>> estimator = HEADS["logistic_regression"].fit({"C": 1.0}, X, y, seed=0, jobs=1)
        >>> score(estimator, X).round(2)
        array([-1.27, -0.42,  0.42,  1.27])
        """
        return self.make(settings, seed).fit(np.asarray(X, np.float64), y)

    def search(
        self, fold: Fold, ys: LabelSets, candidates: Candidates, *, seed: int, jobs: int
    ) -> Floats:
        """Try candidates on one fold.

        Parameters
        ----------
        fold : Fold
        ys : sequence of ndarray of int, shape (n,)
            Sets of labels for the same rows: 1 for a positive class, 0 for the rest.
        candidates : sequence of dict
        seed, jobs : int
            The latter is of threads.

        Returns
        -------
        ndarray, shape (len(ys), len(candidates), n_test)
            Scores of the part to judge by.
        """
        train, test = fold.X[fold.train], fold.X[fold.test]
        return np.array(
            [
                [
                    score(self.fit(settings, train, y[fold.train], seed=seed, jobs=jobs), test)
                    for settings in candidates
                ]
                for y in ys
            ]
        )

    def search_in_blocks(
        self, folds: Sequence[Fold], ys: LabelSets, candidates: Candidates, *, seed: int, jobs: int
    ) -> Floats:
        """Try candidates on all folds, by blocks.

        Parameters
        ----------
        folds : sequence of Fold
            All of the same `Rows`, or the same array.
        ys, candidates, seed, jobs
            As for `search`.

        Returns
        -------
        ndarray, shape (len(ys), len(candidates), n)
            Scores of every row by what was fitted on the folds without it.

        Raises
        ------
        CannotStream
            If the head can't be fitted so.
        """
        with in_blocks(folds[0].X, seed, jobs) as blocks:
            return self._search_blocks(blocks, folds, ys, candidates)

    def prepare(self, data: Fold, candidates: Candidates, *, seed: int, jobs: int) -> None:
        """Do beforehand what `refit` needs whichever of the candidates will be chosen.

        The fold keeps it, unless it is large; parameters are as for `search`.
        """
        if not self.by_blocks(data.X) and data.small:
            self._prepare(data, candidates, seed=seed, jobs=jobs)

    def forget(self, folds: Sequence[Fold]) -> None:
        """Drop from folds what this head alone asks of them: it is done with all labels."""

    def refit(
        self,
        settings: Settings,
        data: Fold,
        y: Labels,
        *,
        seed: int,
        jobs: int,
        limited: bool = False,
    ) -> Any:
        """Fit with known settings on all rows.

        Parameters
        ----------
        settings : dict
        data : Fold
            All rows, as `whole` of a fold gives them; other labels and heads share it.
        y, seed, jobs
            As for `fit`.
        limited : bool
            Whether the linear algebra keeps to so many threads already, as it does in
            `models.training.tuning.workers`.

        Returns
        -------
        estimator
            It scores as what `fit` gives, and is found sooner from what the fold knows.

        Raises
        ------
        CannotStream
            As for `search_in_blocks`.
        """
        if self.by_blocks(data.X):
            with in_blocks(data.X, seed, jobs) as blocks:
                known = replace(blocks, common=data.common.rows)
                return self._refit_blocks(known, settings, y)
        solution = self.solve(settings, data, y, seed=seed, jobs=jobs, limited=limited)
        if solution is not None:
            return self.build(solution, settings, data, seed=seed)
        with _threads(data.X, jobs, limited) as jobs:
            return self._refit(settings, data, y, seed=seed, jobs=jobs)

    def solve(
        self,
        settings: Settings,
        data: Fold,
        y: Labels,
        *,
        seed: int,
        jobs: int,
        limited: bool = False,
    ) -> Solution | None:
        """Find what `refit` comes down to: arrays for `build`; None where there is no such way."""
        if self.by_blocks(data.X):
            return None
        with _threads(data.X, jobs, limited) as jobs:
            return self._solve(settings, data, y, seed=seed, jobs=jobs)

    def build(self, solution: Solution, settings: Settings, data: Fold, *, seed: int) -> Any:
        """Make the estimator of what `solve` found on the same rows, with the same settings."""
        raise NotImplementedError(f"{self.title} has no solution to be built from")

    def _prepare(self, data: Fold, candidates: Candidates, *, seed: int, jobs: int) -> None:
        """Prepare nothing."""

    def _refit(self, settings: Settings, data: Fold, y: Labels, *, seed: int, jobs: int) -> Any:
        return self.fit(settings, data.X, y, seed=seed, jobs=jobs)

    def _solve(
        self, settings: Settings, data: Fold, y: Labels, *, seed: int, jobs: int
    ) -> Solution | None:
        """Know no shortcut."""
        return None

    def _search_blocks(
        self, blocks: Blocks, folds: Sequence[Fold], ys: LabelSets, candidates: Candidates
    ) -> Floats:
        raise self._needs_memory()

    def _refit_blocks(self, blocks: Blocks, settings: Settings, y: Labels) -> Any:
        raise self._needs_memory()

    def _needs_memory(self) -> CannotStream:
        return CannotStream(
            f"{self.title} needs all embeddings in memory at once, and there is too little of it: "
            "leave that head out with --heads, or allow more with --memory"
        )


@contextlib.contextmanager
def _threads(X: npt.NDArray[Any], jobs: int, limited: bool) -> Iterator[int]:
    """Hold back threads that wait for each other at every step: they cost more than they bring."""
    jobs = min(jobs, worthwhile_threads(X))
    with contextlib.nullcontext() if limited else threadpool_limits(limits=jobs):
        yield jobs


def worthwhile_threads(X: npt.NDArray[Any]) -> int:
    """Give how many threads a single fit can keep busy with embeddings of that size."""
    return 1 + X.size // _ENTRIES_PER_THREAD


def score(estimator: Any, X: npt.ArrayLike | Rows) -> Floats:
    """Give the head's scores, some rows at a time.

    Parameters
    ----------
    estimator : object
        Fitted on labels 0 and 1; has ``decision_function`` or ``predict_proba``.
    X : array-like or Rows, shape (n, d)
        Embeddings.

    Returns
    -------
    ndarray of float, shape (n,)
        Higher means more likely positive: the decision function, or else the logit of the
        probability. Not calibrated.
    """
    if isinstance(X, Rows):
        return np.concatenate([np.empty(0), *(score(estimator, block) for block in X.blocks())])
    rows = np.asarray(X)
    if rows.size > _AT_ONCE and (half := len(rows) // 2):
        return np.concatenate([score(estimator, part) for part in (rows[:half], rows[half:])])
    embeddings = np.asarray(rows, np.float64)
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(embeddings), np.float64)
    probabilities = np.asarray(estimator.predict_proba(embeddings)[:, 1], np.float64)
    # Finite also at 0 and 1.
    return np.asarray(logit(np.clip(probabilities, _FLOAT32_EDGE, 1 - _FLOAT32_EDGE)), np.float64)


@contextlib.contextmanager
def require_readable(*errors: type[Exception]) -> Iterator[None]:
    """Refuse a head's file where reading it fails.

    Parameters
    ----------
    *errors : type
        What the library that reads it raises, besides Python's own.

    Raises
    ------
    HeadFileError
        With the reason.
    """
    expected: tuple[type[Exception], ...] = (*_DAMAGE, *errors)
    try:
        yield
    except expected as error:
        raise HeadFileError(f"it can't be read ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """Give what an error says, or its name where it says nothing, cut to 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
