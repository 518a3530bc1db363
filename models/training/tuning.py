"""The settings of a head: searched on the folds, or recalled from earlier searches.

Out-of-fold scores and what the final fits found are kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from features.cache.rows import Rows
from models.heads.base import Head, Settings, Solution
from models.heads.folds.fold import Fold
from models.results_cache import Kept
from models.training.results import Candidate

__all__ = ["Reuse", "Tuned", "Workers", "limited_pool", "threads", "tune", "tune_each", "workers"]

Floats = npt.NDArray[np.float64]


# Raise it when a search would come out differently from the same embeddings.
_SEARCH: Final = 4


class Reuse:
    """What was found before on the same embeddings, labels and folds.

    Parameters
    ----------
    folds : sequence of Fold
    y : ndarray of int, shape (n,)
    kept : Kept, optional
        Where it is kept; in the user's cache folder by default.
    """

    def __init__(
        self, folds: Sequence[Fold], y: npt.NDArray[Any], *, kept: Kept | None = None
    ) -> None:
        self._kept = kept or Kept()
        self._n = len(y)
        self._data = _hash_of(folds, y)

    def recall(self, head: Head, settings: Settings, seed: int) -> Floats | None:
        """Give the out-of-fold scores (n,) of a candidate; None if they have to be computed."""
        if not head.reusable:
            return None
        scores = (self._kept.recall(self._about(head, settings, seed)) or {}).get("scores")
        sound = (
            scores is not None
            and scores.shape == (self._n,)
            and scores.dtype == np.float64
            and bool(np.isfinite(scores).all())
        )
        return scores if sound else None

    def keep(self, head: Head, settings: Settings, seed: int, scores: Floats) -> None:
        """Keep the out-of-fold scores (n,) of a candidate, if there is a folder to keep it in."""
        if head.reusable:
            self._kept.keep(self._about(head, settings, seed), {"scores": scores})

    def recall_fit(self, head: Head, settings: Settings, seed: int) -> Solution | None:
        """Give what fitting to all images found, as `models.heads.base.Head.solve` gives it."""
        if not head.reusable:
            return None
        return self._kept.recall({**self._about(head, settings, seed), "fit": _FIT})

    def keep_fit(self, head: Head, settings: Settings, seed: int, solution: Solution) -> None:
        """Keep what fitting to all images found, if there is a folder to keep it in."""
        if head.reusable:
            self._kept.keep({**self._about(head, settings, seed), "fit": _FIT}, solution)

    def _about(self, head: Head, settings: Settings, seed: int) -> dict[str, Any]:
        return {
            "search": _SEARCH,
            "data": self._data,
            "head": head.name,
            "settings": settings,
            "seed": seed,
        }


def _hash_of(folds: Sequence[Fold], y: npt.NDArray[Any]) -> str:
    X: Any = folds[0].X
    if isinstance(X, Rows):
        digest = hashlib.sha256(f"blocks {X.shape} {len(folds)}".encode())
        for block in X.blocks():
            digest.update(block.data)
    else:
        digest = hashlib.sha256(f"{X.dtype} {X.shape} {len(folds)}".encode())
        digest.update(np.ascontiguousarray(X).view(np.uint8).data)
    digest.update(np.asarray(y, np.int8).tobytes())
    if folds[0].weights is not None:
        digest.update(folds[0].weights.tobytes())
    for fold in folds:
        digest.update(len(fold.test).to_bytes(8, "little"))
        digest.update(np.asarray(fold.test, np.int64).tobytes())
    return digest.hexdigest()


Labels = npt.NDArray[Any]

# Raise it when a final fit would come out differently from the same embeddings.
_FIT: Final = 1


@dataclass(frozen=True)
class Tuned:
    """What the search found.

    Parameters
    ----------
    candidates : tuple of Candidate
        All that were tried, with the area under the ROC curve of their out-of-fold scores.
    settings : dict
        Of the best.
    scores : ndarray of float, shape (n,)
        Of every training image, by the best candidate fitted on the folds without it.
    """

    candidates: tuple[Candidate, ...]
    settings: Settings
    scores: Floats


def threads(jobs: int) -> int:
    """Give how many threads ``jobs`` means here; -1 is one per core."""
    return int(effective_n_jobs(jobs))


@dataclass(frozen=True)
class Workers:
    """Threads that search one fold each.

    Not processes: the work is in libraries that release the interpreter's lock, and the embeddings
    need no copies.

    Parameters
    ----------
    pool : Executor
    inner : int
        Threads that each of them may use besides.
    """

    pool: Executor
    inner: int


def limited_pool(count: int, inner: int) -> ThreadPoolExecutor:
    """Start so many threads, in each of which OpenMP keeps to `inner` threads.

    OpenMP's own limit is of the thread that sets it; without it XGBoost wakes a thread for every
    core with each booster, whatever it was told, and these wait in a loop.
    """
    return ThreadPoolExecutor(
        count, initializer=lambda: threadpool_limits(limits=inner, user_api="openmp")
    )


@contextlib.contextmanager
def workers(jobs: int, most: int) -> Iterator[Workers]:
    """Start threads, and hold back those of the linear algebra as long as they work.

    Parameters
    ----------
    jobs : int
        Threads in all; -1 is one per core.
    most : int
        There is no use for more workers than this.

    Yields
    ------
    Workers
        If what they are for fails, what has not begun is dropped.
    """
    count = min(threads(jobs), most)
    inner = max(1, threads(jobs) // count)
    with threadpool_limits(limits=inner):
        pool = limited_pool(count, inner)
        try:
            yield Workers(pool, inner)
        finally:
            pool.shutdown(cancel_futures=True)


def tune(
    head: Head,
    folds: Sequence[Fold],
    y: Labels,
    *,
    candidates: Sequence[Settings] | None = None,
    seed: int = 0,
    jobs: int = -1,
    beside: Callable[[int], object] | None = None,
    reuse: Reuse | None = None,
    shared: Workers | None = None,
) -> Tuned:
    """Try the settings of a head on all folds.

    Parameters
    ----------
    head : Head
    folds : sequence of Fold
    y : ndarray of int, shape (n,)
        1 for the positive class, 0 for the rest.
    candidates : sequence of dict, optional
        Instead of the head's own.
    seed : int
    jobs : int
        Threads in all; -1 is one per core.
    beside : callable, optional
        Something else to be done meanwhile, so that no thread waits for the last fold, unless all
        is known already; is told how many threads it may take.
    reuse : Reuse, optional
        Of the same folds and labels: gives the scores of candidates that were tried before.
    shared : Workers, optional
        Threads that search other heads, too, instead of some for this one.

    Returns
    -------
    Tuned
        The best has the highest area under the ROC curve; of equals, the first.
    """
    tried = _tried(head, folds, candidates)
    known = [reuse.recall(head, settings, seed) if reuse else None for settings in tried]
    missing = [place for place, scores in enumerate(known) if scores is None]
    with _workers(jobs, folds, shared) as at:
        first = [at.pool.submit(beside, at.inner)] if beside and missing else []
        if missing:
            new = [tried[place] for place in missing]
            found = _out_of_fold(head, folds, [y], new, seed, jobs, at)[0]
            for place, scores in zip(missing, found, strict=True):
                known[place] = scores
                if reuse:
                    reuse.keep(head, tried[place], seed, scores)
        for done in first:
            done.result()
    return _best(tried, y, np.array(known))


def tune_each(
    head: Head,
    folds: Sequence[Fold],
    ys: Sequence[Labels],
    *,
    candidates: Sequence[Settings] | None = None,
    seed: int = 0,
    jobs: int = -1,
) -> list[Tuned]:
    """Tune a head for several sets of labels of the same images, such as one per class.

    What depends on the embeddings alone is computed once for all of them.

    Parameters
    ----------
    ys : sequence of ndarray of int, shape (n,)
        Each 1 for a positive class, 0 for the rest.
    head, folds, candidates, seed, jobs
        As for `tune`.

    Returns
    -------
    list of Tuned
        One for each of `ys`, each with the settings that are best for it.
    """
    tried = _tried(head, folds, candidates)
    with _workers(jobs, folds) as at:
        found = _out_of_fold(head, folds, ys, tried, seed, jobs, at)
    return [_best(tried, y, scores) for y, scores in zip(ys, found, strict=True)]


def _tried(
    head: Head, folds: Sequence[Fold], candidates: Sequence[Settings] | None
) -> list[Settings]:
    return [dict(settings) for settings in candidates or head.candidates(folds[0].X.shape[1])]


def _workers(
    jobs: int, folds: Sequence[Fold], shared: Workers | None = None
) -> contextlib.AbstractContextManager[Workers]:
    return contextlib.nullcontext(shared) if shared else workers(jobs, len(folds))


def _out_of_fold(
    head: Head,
    folds: Sequence[Fold],
    ys: Sequence[Labels],
    tried: list[Settings],
    seed: int,
    jobs: int,
    at: Workers,
) -> Floats:
    if head.by_blocks(folds[0].X):
        return head.search_in_blocks(folds, ys, tried, seed=seed, jobs=threads(jobs))
    found = [
        at.pool.submit(head.search, fold, ys, tried, seed=seed, jobs=at.inner) for fold in folds
    ]
    out_of_fold = np.empty((len(ys), len(tried), len(folds[0].X)))
    for fold, scores in zip(folds, found, strict=True):
        out_of_fold[:, :, fold.test] = scores.result()
    return out_of_fold


def _best(tried: list[Settings], y: Labels, out_of_fold: Floats) -> Tuned:
    # Over all folds at once: one calibration and one threshold serve them all, and an average of
    # the folds' areas is blind to scores that are shifted from one fold to the next.
    aucs = [float(roc_auc_score(y, scores)) for scores in out_of_fold]
    best = int(np.argmax(aucs))
    return Tuned(
        tuple(Candidate(settings, auc) for settings, auc in zip(tried, aucs, strict=True)),
        tried[best],
        out_of_fold[best],
    )
