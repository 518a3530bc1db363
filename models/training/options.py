"""What a comparison is asked for, and what all its heads are fitted to and evaluated on alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.datasets.splits import part_of
from features.presenting import SPLIT_TITLES
from models.decisions.calibration import METHODS
from models.decisions.thresholds import TargetSensitivity, ThresholdRule
from models.errors import TrainingError
from models.heads.base import Settings
from models.heads.folds.fold import Fold, share_sums, whole
from models.training.classes import class_codes, strata, told_apart
from models.training.folds import make_folds
from models.training.selection import ON_LEAK, Part
from models.training.tuning import Reuse

__all__ = ["Options", "Progress", "Study", "make_study"]

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How heads are compared.

    Parameters
    ----------
    positive : str
        Name of the positive class.
    heads : sequence of str, optional
        Keys of `models.heads.base.HEADS`, dotted paths of scikit-learn classifiers (see
        `models.training.own_heads.find_head`), and ``"ensemble"``, the average of those of
        `models.heads.ensemble.MEMBERS` that are named; all heads and the ensemble by default.
    head : str, optional
        The head to choose, instead of the one with the best cross-validated area under the ROC
        curve.
    folds : int
        Of the cross-validation.
    seed : int
        The same seed gives the same result.
    jobs : int
        Threads; -1 is one per core.
    rule : callable
        How the threshold is chosen.
    calibration : {"auto", "platt", "isotonic", "beta"}
        ``"auto"`` takes the one with the lowest cross-validated log loss.
    alpha : float
        Share of each class that may lie on the wrong side of the zone of uncertainty.
    on_leak : {"drop", "group", "ignore"}
        What becomes of training images that belong together with an image of another split.
    memory : int
        Bytes that may be taken; if heads need more, they are fitted block by block. As much as
        there is by default.
    settings : mapping of str to dict
        Of heads, by name, for which nothing is to be searched.
    reuse : bool
        Whether candidates that were tried before on the same embeddings, labels and folds are
        taken from the user's cache folder, and new ones kept there.

    Raises
    ------
    TrainingError
        If a value is none of those; says what is expected.
    """

    positive: str = "melanoma"
    heads: Sequence[str] | None = None
    head: str | None = None
    folds: int = 5
    seed: int = 0
    jobs: int = -1
    rule: ThresholdRule = field(default_factory=TargetSensitivity)
    calibration: str = "auto"
    alpha: float = 0.1
    on_leak: str = "drop"
    memory: int = 0
    settings: Mapping[str, Settings] = field(default_factory=dict)
    reuse: bool = False

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise TrainingError(f"got {self.folds} folds, but cross-validation needs at least 2")
        if self.calibration not in ("auto", *METHODS):
            raise TrainingError(
                f"no calibration is called {self.calibration!r}: there are auto, "
                f"{', '.join(METHODS)}"
            )
        if not 0 < self.alpha < 0.5:
            raise TrainingError(
                f"got alpha {self.alpha:g}, expected an error rate between 0 and 0.5"
            )
        if self.on_leak not in ON_LEAK:
            raise TrainingError(
                f"got {self.on_leak!r} for leaks, expected one of {', '.join(ON_LEAK)}"
            )


@dataclass(frozen=True)
class Study:
    """The images of a comparison, their folds and classes, and how all heads are compared.

    Parameters
    ----------
    options : Options
    parts : dict of str to Part
        ``"train"``, and ``"valid"`` and ``"test"`` where the data has them.
    folds : list of Fold
        Of the training images.
    everything : Fold
        All training images, to fit on in the end.
    labels : tuple of str
        The classes that are told from all others, the positive one first; that one alone with two
        classes.
    tell : callable
        Is told in a few words what is being done.
    reuse : Reuse or None
        What was found before.
    """

    options: Options
    parts: dict[str, Part]
    folds: list[Fold]
    everything: Fold
    labels: tuple[str, ...]
    tell: Progress
    reuse: Reuse | None

    @property
    def train(self) -> Part:
        """The training images."""
        return self.parts["train"]

    @property
    def tests(self) -> list[npt.NDArray[np.intp]]:
        """The training images of each fold."""
        return [fold.test for fold in self.folds]

    def part(self, split: str) -> Part:
        """Give the images of a split of the evaluations."""
        return self.parts[part_of(split)]


def make_study(parts: dict[str, Part], options: Options, tell: Progress) -> tuple[Study, list[str]]:
    """Fold the training images, and find the classes that can be told apart.

    Parameters
    ----------
    parts : dict of str to Part
    options : Options
    tell : callable

    Returns
    -------
    study : Study
    notes : list of str
        Of images and classes that are not in the figures of the classes.

    Raises
    ------
    TrainingError
        If too many images belong together for as many folds.
    """
    folds = _fold(parts["train"], options)
    labels, notes = told_apart(parts["train"], folds)
    if len(labels) > 1:
        for split, part in parts.items():
            unknown = int((class_codes(part.items, labels) < 0).sum())
            if split != "train" and unknown:
                notes.append(
                    f"{unknown} images of the {SPLIT_TITLES[split].lower()} are of other classes "
                    "and not in the figures of the classes."
                )
    reuse = Reuse(folds, parts["train"].y) if options.reuse else None
    everything = whole(parts["train"].X)
    # It is all rows, so what half of the folds learnt of some will do.
    everything.common = folds[-1].common
    share_sums(folds, everything)
    return Study(options, parts, folds, everything, labels, tell, reuse), notes


def _fold(train: Part, options: Options) -> list[Fold]:
    kinds, folds = strata(train, options.folds), options.folds
    parts = make_folds(
        train.X,
        train.y if kinds is None else kinds,
        train.groups,
        folds=folds,
        seed=options.seed,
    )
    for part in parts:
        if any(len(np.unique(train.y[rows])) < 2 for rows in (part.train, part.test)):
            raise TrainingError(
                f"the images can't be split into {folds} folds that each have both classes, "
                "because too many belong together: ask for fewer folds"
            )
    return parts
