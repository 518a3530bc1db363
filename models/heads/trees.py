"""XGBoost, on columns that are binned once for all candidates; `models.heads.boosting` grows it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from xgboost import XGBClassifier
from xgboost.core import XGBoostError

from models.heads.base import (
    Candidates,
    Floats,
    Format,
    Head,
    HeadFileError,
    Labels,
    LabelSets,
    Settings,
    Solution,
    require_readable,
    worthwhile_threads,
)
from models.heads.boosting import BinnedParts, Boosting, ColumnParts, Parts, PartsOnDisk, runs_of
from models.heads.folds.blocks import Blocks
from models.heads.folds.fold import Fold

__all__ = ["XGBOOST"]

_TREES: Final = "n_estimators"
_SHARE: Final = "colsample_bytree"
_BINS: Final = "max_bin"
# Of settings that were chosen before the number of bins was one of them.
_OLD_BINS: Final = 64
_COLUMNS_OF_A_TREE: Final = 64
_COLUMNS: Final = (
    "base_weights",
    "default_left",
    "left_children",
    "loss_changes",
    "parents",
    "right_children",
    "split_conditions",
    "split_indices",
    "split_type",
    "sum_hessian",
)


class _XGBoost(Head):
    def objection(self, settings: Settings) -> str:
        """Object to more columns than there are."""
        share = settings[_SHARE]
        return f"got {_SHARE}={share:g}, expected a share up to 1" if share > 1 else ""

    def _solve(
        self, settings: Settings, data: Fold, y: Labels, *, seed: int, jobs: int
    ) -> Solution | None:
        booster = self._refit(settings, data, y, seed=seed, jobs=jobs).get_booster()
        return {"model": np.frombuffer(booster.save_raw("json"), np.uint8)}

    def build(self, solution: Solution, settings: Settings, data: Fold, *, seed: int) -> Any:
        """Load the trees."""
        estimator = self.make(settings, seed)
        estimator.load_model(bytearray(solution["model"].tobytes()))
        return estimator

    def fit(
        self, settings: Settings, X: npt.NDArray[Any], y: Labels, *, seed: int, jobs: int
    ) -> Any:
        """Fit on the raw columns, in parts."""
        jobs = min(jobs, worthwhile_threads(X))
        bins, share = _bins(settings), settings[_SHARE]
        parts = ColumnParts(X, share, bins=bins, seed=seed, jobs=jobs)
        return self._grow(settings, parts, y, seed, jobs)

    def search(
        self, fold: Fold, ys: LabelSets, candidates: Candidates, *, seed: int, jobs: int
    ) -> Floats:
        """Read fewer trees off the longest run with the same settings."""
        scores = np.empty((len(ys), len(candidates), len(fold.test)))
        for run in runs_of(candidates):
            settings = candidates[run[0]]
            parts = _column_parts(settings, fold, seed, jobs)
            for y, found in zip(ys, scores, strict=True):
                for place, margins in self._stages(run, candidates, parts, y, fold, seed, jobs):
                    found[place] = margins[fold.test]
        return scores

    def forget(self, folds: Sequence[Fold]) -> None:
        """Drop the bins: they take as much memory as the embeddings."""
        for fold in folds:
            fold.common.kept.clear()

    def _prepare(self, data: Fold, candidates: Candidates, *, seed: int, jobs: int) -> None:
        for run in runs_of(candidates):
            longest = candidates[run[0]]
            _column_parts(longest, data, seed, jobs).bin_for(longest[_TREES])

    def _refit(self, settings: Settings, data: Fold, y: Labels, *, seed: int, jobs: int) -> Any:
        return self._grow(settings, _column_parts(settings, data, seed, jobs), y, seed, jobs)

    def _search_blocks(
        self, blocks: Blocks, folds: Sequence[Fold], ys: LabelSets, candidates: Candidates
    ) -> Floats:
        found = np.empty((len(ys), len(candidates), len(blocks.rows)))
        for run in runs_of(candidates):
            parts = _on_disk(blocks, candidates[run[0]])
            of, binned = None, None
            # Those that share bins follow each other.
            for fold in folds:
                if binned is None or fold.common is not of:
                    of, binned = fold.common, None
                    binned = _binned(blocks, parts, of.rows, candidates[run[0]])
                for label, y in enumerate(ys):
                    for place, margins in self._stages(
                        run, candidates, binned, y, fold, blocks.seed, blocks.jobs
                    ):
                        found[label, place, fold.test] = margins[fold.test]
            del binned
        return found

    def _refit_blocks(self, blocks: Blocks, settings: Settings, y: Labels) -> Any:
        rows = np.arange(len(blocks.rows)) if blocks.common is None else blocks.common
        binned = _binned(blocks, _on_disk(blocks, settings), rows, settings)
        return self._grow(settings, binned, y, blocks.seed, blocks.jobs)

    def _stages(
        self,
        run: Sequence[int],
        candidates: Candidates,
        parts: Parts,
        y: Labels,
        fold: Fold,
        seed: int,
        jobs: int,
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Give the margins of all rows by each candidate of a run, the fewest trees first."""
        parameters = self.make(candidates[run[0]], seed).get_xgb_params()
        boosting = Boosting(parts, y, parameters, fold.train, jobs=jobs)
        for place in reversed(run):
            yield place, boosting.grow(candidates[place][_TREES])

    def _grow(self, settings: Settings, parts: Parts, y: Labels, seed: int, jobs: int) -> Any:
        estimator = self.make(settings, seed)
        boosting = Boosting(parts, y, estimator.get_xgb_params(), jobs=jobs)
        boosting.grow(settings[_TREES])
        estimator.load_model(boosting.joined().save_raw("json"))
        return estimator


def _bins(settings: Settings) -> int:
    return int(settings.get(_BINS, _OLD_BINS))


def _column_parts(settings: Settings, data: Fold, seed: int, jobs: int) -> ColumnParts:
    share, bins = settings[_SHARE], _bins(settings)
    return data.shared(
        (share, bins, seed),
        lambda: ColumnParts(data.X, share, data.common.rows, bins=bins, seed=seed, jobs=jobs),
        # XGBoost holds two bytes for a number.
        size=2 * data.X.size,
        by_all=True,
    )


def _on_disk(blocks: Blocks, settings: Settings) -> PartsOnDisk:
    path = blocks.aside / "parts.h5"
    return PartsOnDisk(blocks.rows, settings[_SHARE], path, seed=blocks.seed)


def _binned(
    blocks: Blocks, parts: PartsOnDisk, train: npt.NDArray[np.intp], settings: Settings
) -> BinnedParts:
    return BinnedParts(
        parts,
        train,
        bins=_bins(settings),
        memory=blocks.memory,
        folder=blocks.aside,
        seed=blocks.seed,
        jobs=blocks.jobs,
    )


def _make(settings: Settings, seed: int) -> Any:
    return XGBClassifier(
        objective="binary:logistic",
        tree_method="hist",
        max_bin=_bins(settings),
        n_estimators=settings[_TREES],
        learning_rate=settings["learning_rate"],
        max_depth=settings["max_depth"],
        colsample_bytree=settings[_SHARE],
        random_state=seed,
    )


def _candidates(d: int) -> list[Settings]:
    common = {
        "max_depth": 2,
        "learning_rate": 0.05,
        _SHARE: min(1.0, _COLUMNS_OF_A_TREE / d),
        _BINS: 16,
    }
    return [common | {_TREES: trees} for trees in (100, 200, 400, 800)]


def _dump(estimator: Any) -> bytes:
    with tempfile.TemporaryDirectory(prefix="lesion-classifier-") as folder:
        path = Path(folder) / "head.json"
        estimator.save_model(path)
        data = _as_json(json.loads(path.read_bytes()))
    _require_sound(data)
    return data


def _load(data: bytes) -> Any:
    estimator = XGBClassifier()
    _require_sound(data)
    with require_readable(XGBoostError):
        estimator.load_model(bytearray(data))
    return estimator


def _as_json(model: Any) -> bytes:
    return json.dumps(model, separators=(",", ":"), allow_nan=False).encode()


def _require_sound(data: bytes) -> None:
    """Refuse an XGBoost model that would make XGBoost read beyond its arrays, or run in circles.

    It trusts what it loads: a damaged model can bring the whole process down.
    """
    with require_readable():
        model = json.loads(data)
        # What is written anew byte for byte means the same to any parser.
        if _as_json(model) != data:
            raise HeadFileError("it is not as it was written")
        learner = model["learner"]
        shape, booster = learner["learner_model_param"], learner["gradient_booster"]
        trees, inputs = booster["model"]["trees"], int(shape["num_feature"])
        rounds = booster["model"]["iteration_indptr"]
        sound = (
            (booster["name"], learner["objective"]["name"]) == ("gbtree", "binary:logistic")
            and (int(shape["num_class"]), int(shape["num_target"])) == (0, 1)
            and int(booster["model"]["gbtree_model_param"]["num_trees"]) == len(trees)
            and booster["model"]["tree_info"] == [0] * len(trees)
            and rounds == list(range(len(trees) + 1))
            and all(_is_sound(tree, inputs) for tree in trees)
        )
    if not sound:
        raise HeadFileError("its trees make no sense")


def _is_sound(tree: dict[str, Any], inputs: int) -> bool:
    known = tree["tree_param"]
    n = int(known["num_nodes"])
    columns = [tree[name] for name in _COLUMNS]
    if n < 1 or any(len(column) != n for column in columns):
        return False
    numbers = all(type(value) in {int, float} for column in columns for value in column)
    left, right, features = tree["left_children"], tree["right_children"], tree["split_indices"]
    return (
        numbers
        and (int(known["num_deleted"]), int(known["num_feature"])) == (0, inputs)
        and int(known["size_leaf_vector"]) <= 1
        and not any(tree["split_type"])
        and not any(tree[name] for name in tree if name.startswith("categories"))
        and all(type(value) is int for column in (left, right, features) for value in column)
        # Children come after their parents, so every path ends.
        and all(
            (one, other) == (-1, -1) or node < min(one, other) <= max(one, other) < n
            for node, (one, other) in enumerate(zip(left, right, strict=True))
        )
        and all(0 <= feature < inputs for feature in features)
    )


XGBOOST: Final = _XGBoost(
    "xgboost",
    "XGBoost",
    _candidates,
    _make,
    format=Format(".json", lambda estimator: hasattr(estimator, "get_booster"), _dump, _load),
)
