"""A user's own estimators as heads: named by a dotted path, compared on the same terms."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier

from models.errors import TrainingError
from models.heads import HEADS
from models.heads.base import Head, Settings, first_line, score
from models.heads.files import HeadFileError, dump_head

__all__ = ["find_head"]

# What importing, making and fitting somebody else's estimator may end in.
_FAILURES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
# Their versions are known to whoever keeps what they computed; other code may change unnoticed.
_VERSIONED: Final = {"sklearn", "xgboost"}


def find_head(name: str) -> Head:
    """Find a head by its name, or make one of an estimator by its dotted path.

    Parameters
    ----------
    name : str
        Key of `models.heads.HEADS`, or ``package.module.Name`` of a scikit-learn classifier,
        of a class of them, or of a function that gives one. The current folder is searched, too.

    Returns
    -------
    Head
        An estimator of the user's is taken with the settings that it comes with, and with the
        seed for every ``random_state`` that is None.

    Raises
    ------
    TrainingError
        If there is no such thing, it is no classifier, or it can't be fitted to a small example.

    Examples
    --------
    >>> find_head("sklearn.naive_bayes.GaussianNB").title
    'GaussianNB (sklearn.naive_bayes)'
    """
    if name in HEADS:
        return HEADS[name]
    if "." not in name:
        raise TrainingError(
            f"no head is called {name!r}: there are {', '.join(HEADS)}, and scikit-learn "
            "classifiers by their dotted path, such as my_module.MyEstimator"
        )
    prototype = _prototype(name, _load(name))

    def make(settings: Settings, seed: int) -> Any:
        estimator = clone(prototype)
        unset = [
            key
            for key, value in estimator.get_params().items()
            if key.split("__")[-1] == "random_state" and value is None
        ]
        return estimator.set_params(**dict.fromkeys(unset, seed))

    module, _, last = name.rpartition(".")
    head = Head(name, f"{last} ({module})", lambda _: [{}], make, reusable=_is_versioned(prototype))
    return replace(head, storable=_try_out(head))


def _load(name: str) -> Any:
    module, _, last = name.rpartition(".")
    # As `python script.py` does it for the script's own folder.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), last)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise TrainingError(
                f"there is no module {module} for the head {name}: give the path of an "
                "installed package, or of a file in the current folder"
            ) from error
        raise TrainingError(
            f"the module {module} of the head {name} can't be imported ({error})"
        ) from error
    except AttributeError as error:
        raise TrainingError(
            f"the module {module} has no {last}: name a scikit-learn classifier in it"
        ) from error
    except _FAILURES as error:
        raise TrainingError(
            f"the module {module} of the head {name} can't be imported "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error


def _prototype(name: str, found: Any) -> BaseEstimator:
    if callable(found) and not (isinstance(found, BaseEstimator)):
        try:
            found = found()
        except _FAILURES as error:
            raise TrainingError(
                f"{name}() fails ({first_line(error)}): a head is made without arguments; "
                "write a function that gives the estimator"
            ) from error
    if not isinstance(found, BaseEstimator) or not is_classifier(found):
        raise TrainingError(
            f"{name} is {_described(found)}, expected a scikit-learn classifier, "
            "a class of them, or a function that gives one"
        )
    return found


def _try_out(head: Head) -> bool:
    """Fit the head to a small example; say whether a bundle can hold it."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    X = (rng.normal(size=(80, 16)) + y[:, None]).astype(np.float32)
    try:
        estimator = head.fit({}, X, y, seed=0, jobs=1)
        scores = score(estimator, X)
    except _FAILURES as error:
        raise TrainingError(
            f"the head {head.name} can't be trained on 80 embeddings of 16 numbers "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    if scores.shape != (80,) or not np.isfinite(scores).all():
        raise TrainingError(
            f"the head {head.name} gives scores of shape {scores.shape}, "
            "expected one finite number for each of 80 images"
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            dump_head(estimator, Path(folder))
        except HeadFileError:
            return False
    return hasattr(estimator, "classes_") and hasattr(estimator, "n_features_in_")


def _is_versioned(prototype: BaseEstimator) -> bool:
    parts = [prototype, *prototype.get_params().values()]
    packages = {type(part).__module__.split(".")[0] for part in parts}
    return packages <= _VERSIONED | {"builtins", "numpy"} and not any(map(callable, parts))


def _described(found: Any) -> str:
    kind = type(found).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
