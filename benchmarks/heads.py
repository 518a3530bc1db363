"""Tuning heads side by side: scikit-learn's GridSearchCV, and this project.

Both try the same candidates on the same folds of the same embeddings, given as a feature file or
extracted from the folder that LESION_TEST_DATA names. This project's time includes what the other
side doesn't do: calibration, threshold, intervals, paired tests.
"""

from __future__ import annotations

import argparse
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
from typing import Any

import joblib
import numpy as np
import sklearn
import xgboost
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from xgboost import XGBClassifier

from features.cache import read_features
from models.comparison import compare_heads
from models.heads import HEADS, Head, Settings, fit
from models.results import HeadResult
from models.selection import Part, select
from models.tuning import Fold, make_folds

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
QUICK_FOLDS, QUICK_IMAGES = 2, 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, help="feature file, instead of extracting one")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--heads", default=",".join(HEADS), help="which heads, separated by commas")
    parser.add_argument(
        "--quick", action="store_true", help="two folds, few images and every third candidate"
    )
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md, too")
    options = parser.parse_args()
    names = options.heads.split(",")
    if options.quick:
        options.folds = QUICK_FOLDS
        for name in names:
            HEADS[name] = thinned(HEADS[name])
    with tempfile.TemporaryDirectory() as folder:
        text = measure(options.features or extracted(Path(folder)), names, options)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marks = r"(<!-- heads -->\n).*?(<!-- /heads -->)"
        PAGE.write_text(re.sub(marks, lambda m: m[1] + text + "\n" + m[2], page, flags=re.DOTALL))


def thinned(head: Head) -> Head:
    """Leave every third candidate."""
    return replace(head, candidates=lambda d: head.candidates(d)[::3])


def extracted(folder: Path) -> Path:
    """Extract real embeddings, as a user would."""
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("give --features FILE, or the folder of real images in LESION_TEST_DATA")
    shared, out = Path(given).resolve(), folder / "features.h5"
    weights = next((shared / "weights").glob("inception_v3*.h5"))
    images = shared / "data" / "isic2017_256"
    words = ["extract_features.py", images, "--weights", weights, "--out", out]
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)
    return out


def measure(path: Path, names: Sequence[str], options: argparse.Namespace) -> str:
    features = read_features(path)
    if options.quick:
        labelled = np.flatnonzero(features.items.split == "train")
        kept = np.zeros(len(features.items), bool)
        kept[np.random.default_rng(0).permutation(labelled)[:QUICK_IMAGES]] = True
        features = replace(features, items=features.items.take(kept))
    train = select(features, positive="melanoma", folds=options.folds).parts["train"]
    folds = make_folds(train.X, train.y, train.groups, folds=options.folds, seed=0)

    start = time.perf_counter()
    mine = compare_heads(features, heads=names, folds=options.folds, jobs=options.jobs)
    whole = time.perf_counter() - start

    rows, total = [], 0.0
    for name in names:
        head, found = HEADS[name], mine.heads[name]
        candidates = head.candidates(train.X.shape[1])
        seconds, auc = searched(head.make, candidates, train, folds, options.jobs)
        rows.append(row(head.title, len(candidates), seconds, auc, found, folds))
        if name == "xgboost":
            seconds, auc = searched(plain_xgboost, candidates, train, folds, options.jobs)
            title = f"{head.title}, all columns and 256 bins on the left"
            rows.append(row(title, len(candidates), seconds, auc, found, folds))
        total += seconds
    chosen = mine.best
    start = time.perf_counter()
    fit(
        HEADS[chosen.name],
        chosen.settings,
        train.X,
        train.y,
        seed=0,
        jobs=joblib.effective_n_jobs(options.jobs),
    )
    again = time.perf_counter() - start
    return "\n".join(
        [
            "| head | candidates | GridSearchCV, s | this project, s | ratio "
            "| AUC there | AUC here |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            f"| all, with calibration, intervals and tests here | | {total:.1f} | {whole:.1f} "
            f"| {total / whole:.1f} | | |",
            "",
            f"{len(train.y)} by {train.X.shape[1]} embeddings, {train.y.sum()} positives, "
            f"{options.folds} folds; AUC is the mean of the folds'. One fit of the chosen head "
            f"({chosen.title}) with known settings: {again:.2f} s. "
            f"{joblib.cpu_count()} cores, Python {platform.python_version()}, scikit-learn "
            f"{sklearn.__version__}, XGBoost {xgboost.__version__}.",
        ]
    )


def searched(
    make: Any, candidates: list[Settings], train: Part, folds: list[Fold], jobs: int
) -> tuple[float, float]:
    """Search as most people do; give seconds and the best mean of the folds' areas."""
    model = make(candidates[0], 0)
    prefix = "" if isinstance(model, XGBClassifier) else "classify__"
    grid = [
        {f"{prefix}{name}": [value] for name, value in settings.items()} for settings in candidates
    ]
    if make is plain_xgboost:
        grid = [{k: v for k, v in part.items() if k != "colsample_bytree"} for part in grid]
    search = GridSearchCV(
        model, grid, scoring="roc_auc", cv=[(fold.train, fold.test) for fold in folds], n_jobs=jobs
    )
    start = time.perf_counter()
    search.fit(train.X.astype(np.float64), train.y)
    return time.perf_counter() - start, float(search.best_score_)


def plain_xgboost(settings: Settings, seed: int) -> XGBClassifier:
    """XGBoost as it comes: every column, 256 bins."""
    return XGBClassifier(learning_rate=settings["learning_rate"], random_state=seed)


def row(
    title: str, candidates: int, seconds: float, auc: float, found: HeadResult, folds: list[Fold]
) -> str:
    judged = found.evaluations["cross-validation"]
    mine = np.mean([roc_auc_score(judged.labels[f.test], judged.scores[f.test]) for f in folds])
    return (
        f"| {title} | {candidates} | {seconds:.1f} | {found.seconds:.1f} "
        f"| {seconds / found.seconds:.1f} | {auc:.4f} | {mine:.4f} |"
    )


if __name__ == "__main__":
    main()
