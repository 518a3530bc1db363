"""Whole commands with nothing but defaults, `fast` beside them; and GridSearchCV's time.

Commands and their stages are measured on embeddings of the default recipe and of `fast`, given as
feature files or extracted from the folder that LESION_TEST_DATA names; with `--before`, an earlier
version of the project beside this one.

GridSearchCV and this project work on the same folds of the embeddings of `fast`, unless `--naive`
says otherwise: on the default ones it takes more than ten times as long. Naive logistic regression
and SVM try this project's candidates; naive XGBoost is what a user would write, with its default
trees and as many candidates, and once more with this project's settings, which is not counted. This
project's time includes what the other side doesn't do: calibration, threshold, intervals, paired
tests. A head's own row is of a comparison of that head alone; the sum is of all heads in one, where
they are worked on side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import numpy.typing as npt
import sklearn
import xgboost
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from xgboost import XGBClassifier

from benchmarks.fitting.stages import commands
from features.audit.groups import find_groups
from features.cache.contents import read_features
from models.heads import HEADS
from models.heads.folds.fold import Fold
from models.training.comparison import compare_heads
from models.training.folds import make_folds
from models.training.options import Options
from models.training.results import Comparison, HeadResult
from models.training.selection import Part, select

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
QUICK_FOLDS, QUICK_IMAGES = 2, 400

SAME_TREES = "xgboost-as-here"

Groups = npt.NDArray[np.str_]


class Side(NamedTuple):
    """What a search took, and found."""

    seconds: float
    auc: float
    candidates: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, help="of the default recipe, not to be extracted")
    parser.add_argument("--fast", type=Path, help="feature file of the recipe fast, likewise")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version, to compare")
    parser.add_argument(
        "--naive", choices=["accurate", "fast", "none"], default="fast",
        help="on which embeddings GridSearchCV is run, too",
    )  # fmt: skip
    parser.add_argument("--groups", default="auto", help="as for fit_classifier.py")
    parser.add_argument(
        "--work", type=Path, help="folder to keep features and naive results in, to go on from"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--heads", default=",".join(HEADS), help="which heads, separated by commas")
    parser.add_argument(
        "--quick", action="store_true", help="two folds, few images and every third candidate"
    )
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, too")
    options = parser.parse_args()
    if options.quick:
        options.folds = QUICK_FOLDS
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        files = {
            "default": options.features or extracted(work, "accurate"),
            "fast": options.fast or extracted(work, "fast"),
        }
        texts = {}
        if not options.quick:
            texts["commands"] = commands(files, options.before, work)
        if options.naive != "none":
            chosen = files["fast" if options.naive == "fast" else "default"]
            texts["heads"] = measure(chosen, work, options)
    for part, text in texts.items():
        print(text)
        if options.write:
            page = PAGE.read_text(encoding="utf-8")
            marks = rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)"
            PAGE.write_text(
                re.sub(marks, lambda m, text=text: m[1] + text + "\n" + m[2], page, flags=re.DOTALL)
            )


def extracted(work: Path, recipe: str) -> Path:
    """Extract real embeddings, as a user would."""
    out = work / f"{recipe}.h5"
    if out.exists():
        return out
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("give --features FILE, or the folder of real images in LESION_TEST_DATA")
    shared = Path(given).resolve()
    weights = shared / "weights" / "inception_v3_keras_notop.weights.h5"
    images = shared / "data" / "isic2017_256"
    words = ["extract_features.py", images, "--weights", weights, "--recipe", recipe, "--out", out]
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)
    return out


def measure(path: Path, work: Path, options: argparse.Namespace) -> str:
    names = options.heads.split(",")
    features = read_features(path)
    together = find_groups(options.groups, path, features.items).group
    if options.quick:
        labelled = np.flatnonzero(features.items.split == "train")
        kept = np.zeros(len(features.items), bool)
        kept[np.random.default_rng(0).permutation(labelled)[:QUICK_IMAGES]] = True
        features, together = replace(features, items=features.items.take(kept)), together[kept]
    train = select(features, positive="melanoma", folds=options.folds, groups=together).parts[
        "train"
    ]
    folds = make_folds(train.X, train.y, train.groups, folds=options.folds, seed=0)

    def compared(**more: Any) -> tuple[Comparison, float]:
        start = time.perf_counter()
        found = compare_heads(
            features, Options(folds=options.folds, jobs=options.jobs, **more), groups=together
        )
        return found, time.perf_counter() - start

    mine, whole = compared(heads=names)
    alone = {name: compared(heads=[name])[1] for name in names}
    chosen = mine.best
    _, again = compared(heads=[chosen.name], settings={chosen.name: chosen.settings})
    with tempfile.TemporaryDirectory() as cache:
        seconds = reused(compared, names, cache)
    naive = {name: naively(name, train, folds, work, options) for name in names}
    rows = [
        row(HEADS[name].title, naive[name], mine.heads[name], alone[name], folds) for name in names
    ]
    if "xgboost" in names:
        same = naively(SAME_TREES, train, folds, work, options)
        title = "XGBoost, this project's settings there, too"
        rows.append(row(title, same, mine.heads["xgboost"], alone["xgboost"], folds))
    total = sum(side.seconds for side in naive.values())
    return "\n".join(
        [
            "| head | candidates there / here | GridSearchCV, s | this project, s | ratio "
            "| AUC there | AUC here |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            f"| all, with calibration, intervals and tests here | | {total:.1f} | {whole:.1f} "
            f"| {total / whole:.1f} | | |",
            "",
            "| this project | s |",
            "| --- | ---: |",
            f"| one head ({chosen.title}) with known settings: cross-validation, calibration, "
            f"intervals and final fit | {again:.2f} |",
            *(f"| {what} | {took:.2f} |" for what, took in seconds.items()),
            "",
            f"{len(train.y)} by {train.X.shape[1]} embeddings, {train.y.sum()} positives, "
            f"{options.folds} folds; AUC is the mean of the folds'. "
            f"{joblib.cpu_count()} cores, Python {platform.python_version()}, scikit-learn "
            f"{sklearn.__version__}, XGBoost {xgboost.__version__}.",
        ]
    )


def reused(compared: Any, names: Sequence[str], cache: str) -> dict[str, float]:
    """Time comparisons that find earlier ones in the cache folder."""
    before = os.environ.get("LESION_CACHE")
    os.environ["LESION_CACHE"] = cache
    try:
        seconds = {}
        if len(names) > 1:
            compared(heads=names[:-1], reuse=True)
            title = f"{HEADS[names[-1]].title} added to a comparison without it"
            seconds[title] = compared(heads=names, reuse=True)[1]
        else:
            compared(heads=names, reuse=True)
        seconds["the same comparison again"] = compared(heads=names, reuse=True)[1]
    finally:
        if before is None:
            del os.environ["LESION_CACHE"]
        else:
            os.environ["LESION_CACHE"] = before
    return seconds


def naively(
    name: str, train: Part, folds: list[Fold], work: Path, options: argparse.Namespace
) -> Side:
    """Search as most people do, unless that was done before on the same data and machine."""
    model, grid = naive_search(name, train.X.shape[1], quick=options.quick)
    X = np.asarray(train.X[:], np.float64)
    tests = b"".join(fold.test.astype(np.int64).tobytes() for fold in folds)
    about = {
        "head": name,
        "grid": repr(grid),
        "data": hashlib.sha256(X.tobytes() + train.y.tobytes() + tests).hexdigest(),
        "machine": f"{platform.node()}, {joblib.cpu_count()} cores, {options.jobs} jobs",
        "versions": [np.__version__, sklearn.__version__, xgboost.__version__],
    }
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    kept = work / f"naive-{name}-{key}.json"
    if kept.exists():
        return Side(**json.loads(kept.read_text())["found"])
    search = GridSearchCV(
        model,
        grid,
        scoring="roc_auc",
        cv=[(fold.train, fold.test) for fold in folds],
        n_jobs=options.jobs,
    )
    start = time.perf_counter()
    search.fit(X, train.y)
    found = Side(
        time.perf_counter() - start, float(search.best_score_), len(search.cv_results_["params"])
    )
    kept.write_text(json.dumps({"found": found._asdict(), "of": about}, indent=1))
    return found


def naive_search(name: str, d: int, *, quick: bool) -> tuple[Any, list[dict[str, list[Any]]]]:
    """Give the estimator and the grid that a user would write."""
    thin = slice(None, None, 3 if quick else 1)
    if name == "xgboost":
        rates = [{"learning_rate": [rate]} for rate in (0.05, 0.1, 0.2, 0.3)]
        return XGBClassifier(random_state=0), rates[thin]
    step, name = ("", "xgboost") if name == SAME_TREES else ("classify__", name)
    candidates = HEADS[name].candidates(d)[thin]
    grid = [{f"{step}{k}": [value] for k, value in one.items()} for one in candidates]
    return HEADS[name].make(candidates[0], 0), grid


def row(title: str, naive: Side, found: HeadResult, seconds: float, folds: list[Fold]) -> str:
    judged = found.evaluations["cross-validation"]
    mine = np.mean([roc_auc_score(judged.labels[f.test], judged.scores[f.test]) for f in folds])
    return (
        f"| {title} | {naive.candidates} / {len(found.candidates)} | {naive.seconds:.1f} "
        f"| {seconds:.1f} | {naive.seconds / seconds:.1f} | {naive.auc:.4f} "
        f"| {mine:.4f} |"
    )


if __name__ == "__main__":
    main()
