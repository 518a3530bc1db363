"""What predicts the label without looking at the lesion: sizes, light, file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

__all__ = ["Confounder", "auc_interval", "find_confounders", "name_properties"]

Doubles = npt.NDArray[np.float64]

# An area under the ROC curve of 0.55 is hardly a shortcut, however certain it is.
_WORTH: Final = 0.05
_CONFIDENCE: Final = 0.95
_LEAST_IMAGES: Final = 10
_PATTERNS: Final = 6


@dataclass(frozen=True)
class Confounder:
    """How well a property of the file or the picture alone tells a class from the others.

    Parameters
    ----------
    property : str
    label : str
        The class.
    n : int
        Images with the property and a label.
    auc, low, high : float
        Area under the ROC curve with its 95 % interval; above 0.5 the class has more of it.
    notable : bool
        Whether it is worth a look: beyond 0.55 or 0.45 with certainty, allowing for the number of
        properties looked at.
    medians : tuple of float
        Of the class and of the others.
    """

    property: str
    label: str
    n: int
    auc: float
    low: float
    high: float
    notable: bool
    medians: tuple[float, float]


def find_confounders(labels: Sequence[str], properties: dict[str, Doubles]) -> list[Confounder]:
    """Ask each property how well it predicts the label.

    Parameters
    ----------
    labels : sequence of str
        Empty where unknown.
    properties : dict of str to ndarray, shape (n,)
        NaN where unknown.

    Returns
    -------
    list of Confounder
        One per property that varies, farthest from 0.5 first. Of several classes the one that the
        property tells best from all others; of two the rarer.
    """
    named = np.asarray(labels)
    counts = Counter(label for label in labels if label)
    classes = sorted(counts, key=lambda label: (counts[label], label))
    classes = classes[:1] if len(classes) == 2 else classes
    found = []
    if len(counts) > 1:
        for name, values in properties.items():
            known = np.isfinite(values) & (named != "")
            asked = [
                confounder
                for label in classes
                if (
                    confounder := _ask(
                        name, label, values[known], named[known] == label, len(properties)
                    )
                )
            ]
            if asked:
                found.append(max(asked, key=lambda confounder: abs(confounder.auc - 0.5)))
    return sorted(found, key=lambda confounder: (-abs(confounder.auc - 0.5), confounder.property))


def _ask(
    name: str, label: str, values: Doubles, positive: npt.NDArray[np.bool_], tests: int
) -> Confounder | None:
    if min(positive.sum(), (~positive).sum()) < _LEAST_IMAGES or np.ptp(values) == 0:
        return None
    ones, others = values[positive], values[~positive]
    auc, low, high = auc_interval(ones, others, _CONFIDENCE)
    _, least, most = auc_interval(ones, others, 1 - (1 - _CONFIDENCE) / tests)
    return Confounder(
        property=name,
        label=label,
        n=len(values),
        auc=auc,
        low=low,
        high=high,
        notable=bool(least > 0.5 + _WORTH or most < 0.5 - _WORTH),
        medians=(float(np.median(ones)), float(np.median(others))),
    )


def auc_interval(ones: Doubles, others: Doubles, confidence: float) -> tuple[float, float, float]:
    """Estimate the area under the ROC curve by DeLong's method.

    Parameters
    ----------
    ones, others : ndarray, shape (m,) and (n,)
        Values of the class and of the rest; ties count half.
    confidence : float

    Returns
    -------
    tuple of float
        The area and the ends of its interval, within 0 and 1.

    References
    ----------
    E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson (1988), Comparing the areas under two or
    more correlated receiver operating characteristic curves. Biometrics 44(3).

    Examples
    --------
    >>> auc_interval(np.array([3.0, 4.0]), np.array([1.0, 2.0]), 0.95)
    (1.0, 1.0, 1.0)
    """
    m, n = len(ones), len(others)
    together = rankdata(np.concatenate([ones, others]))
    above = (together[:m] - rankdata(ones)) / n
    below = 1 - (together[m:] - rankdata(others)) / m
    auc = float(above.mean())
    variance = (above.var(ddof=1) if m > 1 else 0) / m + (below.var(ddof=1) if n > 1 else 0) / n
    half = float(norm.ppf((1 + confidence) / 2)) * float(np.sqrt(variance))
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def name_properties(paths: Sequence[str]) -> dict[str, Doubles]:
    """Make numbers of file names: their patterns, and the first number in them.

    Parameters
    ----------
    paths : sequence of str

    Returns
    -------
    dict of str to ndarray, shape (n,)
        For each frequent pattern, such as ``AUG_#.jpg``, 1 where a name follows it and else 0.
    """
    names = [PurePosixPath(path).name for path in paths]
    patterns = [re.sub(r"\d+", "#", name) for name in names]
    frequent = [
        pattern
        for pattern, count in Counter(patterns).most_common(_PATTERNS)
        if _LEAST_IMAGES <= count < len(names)
    ]
    found = {
        f"file name like {pattern}": np.array([float(name == pattern) for name in patterns])
        for pattern in sorted(frequent)
    }
    if patterns and max(Counter(patterns).values()) > 0.9 * len(patterns):
        first = [re.search(r"\d+", name) for name in names]
        numbers = [float(match.group()) if match else np.nan for match in first]
        found["number in the file name"] = np.array(numbers)
    return found
