"""Where the time of `fit_classifier.py` goes: processor seconds by stage, of all threads together.

`benchmarks.fitting.heads` calls `commands`, which runs this file in processes of their own, with
the code of a checkout in PYTHONPATH: that of this project, or of an earlier version of it. What a
version does not have is passed over.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]

STAGES: Final[dict[str, tuple[str, ...]]] = {
    "reading the feature file": (
        "features.cache.contents.read_features",
        "models.training.selection.select",
    ),
    "hashing": (
        "models.training.tuning._hash_of",
        "models.results_cache.content_hash",
        "features.networks.weights.file_sha256",
    ),
    "standardising": (
        "models.heads.folds.moments.Sums._sum",
        "models.heads.fold.Fold.standardised",
        "models.heads.folds.fold.Fold.standardised",
        "models.heads.fold.Fold.scaled",
        "models.heads.folds.fold.Fold.scaled",
        "models.heads.fold.Fold.scaler",
        "models.heads.folds.fold.Fold.scaler",
    ),
    "Gram matrices": (
        "models.heads.fold.Fold._multiply",
        "models.heads.folds.fold.Fold._multiply",
    ),
    "eigenproblems": (
        "models.heads.fold.Fold._rotate",
        "models.heads.folds.fold.Fold._rotate",
    ),
    "logistic regression": ("models.heads.logistic._LogisticRegression.search",),
    "SVM": ("models.heads.svm._Svm.search",),
    "XGBoost: binning": (
        "models.heads.boosting.ColumnParts.__init__",
        "models.heads.boosting.ColumnParts._bin",
        "models.heads.boosting.edges_of",
        "models.heads.trees._column_parts",
    ),
    "XGBoost: trees": ("models.heads.boosting.boost", "models.heads.trees._XGBoost.search"),
    "final fits": ("models.heads.base.Head.refit", "models.heads.base.Head.solve"),
    "scores of the other splits": ("models.heads.base.score",),
    "calibration and threshold": (
        "models.decisions.decision.fit_decision",
        "models.decisions.decision.cross_fitted",
    ),
    "figures, bootstrap and tests": (
        "models.evaluation.binary.evaluate",
        "models.training.comparison.paired_tests",
    ),
    "gallery and familiarity": ("models.bundle.gallery.write_gallery",),
    "small pictures": ("features.images.thumbnails.thumbnail",),
    "report: map of the images": ("models.report.embedding_map.embedding_map",),
    "report: the rest": ("models.report.publishing.render_report",),
    "bundle": ("models.bundle.saving.save_bundle",),
}
IMPORTS: Final = "imports"
OTHER: Final = "all else, with threads of libraries' own"
WHOLE: Final = "whole"
PROCESSOR: Final = "processor"
PEAK: Final = "peak"


class Clock:
    """Sums the time of stages, without that of the stages within them."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside = threading.local()

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Give the function with its time counted."""

        @functools.wraps(call)
        def run(*given: Any, **named: Any) -> Any:
            stack: list[float] = vars(self._inside).setdefault("stack", [])
            stack.append(0.0)
            start = time.thread_time()
            try:
                return call(*given, **named)
            finally:
                took = time.thread_time() - start
                self.seconds[stage] += took - stack.pop()
                if stack:
                    stack[-1] += took

        return run


def watch(clock: Clock) -> None:
    """Count the time of every stage that this version has."""
    for stage, places in STAGES.items():
        for place in places:
            found = _find(place)
            if found is None:
                continue
            owner, name = found
            call = getattr(owner, name)
            timed = clock.timed(stage, call)
            setattr(owner, name, timed)
            # Others may have imported it by name.
            for module in list(sys.modules.values()):
                if vars(module).get(name) is call:
                    setattr(module, name, timed)


def _find(place: str) -> tuple[Any, str] | None:
    parts = place.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:-1]:
            owner = getattr(owner, name, None)
        return (owner, parts[-1]) if hasattr(owner, parts[-1]) else None
    return None


def commands(files: Mapping[str, Path], before: Path | None, work: Path) -> str:
    """Measure whole commands without options, and their stages; give the tables.

    Parameters
    ----------
    files : mapping of str to Path
        Feature files by recipe.
    before : Path, optional
        A checkout of an earlier version, to be measured beside this one.
    work : Path
        A folder for caches and bundles.
    """
    checkouts = {"now": ROOT} if before is None else {"before": before, "now": ROOT}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for recipe, path in files.items():
        for name, checkout in checkouts.items():
            found[recipe, name] = _three(path, checkout, work / f"{recipe}-{name}")
    columns = list(found.values())
    head = [f"{recipe}, {name}" for recipe, name in found]
    titles = ("all heads, for the first time", "the same again", "SVM with known settings")
    whole = [
        [
            title,
            *(_whole(runs[place]) for runs in columns),
        ]
        for place, title in enumerate(titles)
    ]
    stages = [
        [stage, *(f"{runs[0].get(stage, 0):.2f}" for runs in columns)]
        for stage in (IMPORTS, *STAGES, OTHER)
    ]
    return "\n".join(
        [
            *_table(
                ["whole command, with report and bundle: s (processor s), peak memory", *head],
                whole,
            ),
            "",
            *_table(["processor seconds of all heads, for the first time", *head], stages),
        ]
    )


def _three(path: Path, checkout: Path, work: Path) -> list[dict[str, float]]:
    from features.cache.contents import read_features
    from features.storage.user_cache import user_cache

    known = f"C=3.0,gamma={0.25 / read_features(path, small=0).spec.head_dim!r}"
    one = ["--heads", "svm", "--settings", known, "--no-reuse"]
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / "cache" / "searches", ignore_errors=True)
    networks = user_cache("networks")
    if networks.exists():
        # The network was converted when the features were extracted.
        shutil.copytree(networks, work / "cache" / "networks", dirs_exist_ok=True)
    found = []
    for options in ([], [], one):
        told = work / "stages.json"
        words = [__file__, told, path, "--out", work / "bundle", "--overwrite", *options]
        given = {"PYTHONPATH": str(checkout), "LESION_CACHE": str(work / "cache")}
        subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=checkout,
            env=os.environ | given,
            check=True,
            capture_output=True,
        )
        found.append(json.loads(told.read_text(encoding="utf-8")))
    return found


def _whole(run: Mapping[str, float]) -> str:
    return f"{run[WHOLE]:.1f} s ({run[PROCESSOR]:.1f}), {run[PEAK] / 1e6:.0f} MB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruled = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in (head, ruled, *rows)]


def main() -> None:
    start = time.perf_counter()
    from fit_classifier import main as fit

    for needed in (
        "features.audit.groups",
        "models.bundle.known_settings",
        "models.inference.feedback",
        "models.report.publishing",
        "models.report.terminal",
        "models.training.comparison",
    ):
        importlib.import_module(needed)
    clock = Clock()
    clock.seconds[IMPORTS] = time.process_time()
    watch(clock)
    fit(sys.argv[2:], standalone_mode=False)
    found: dict[str, float] = dict(clock.seconds)
    found[WHOLE], found[PROCESSOR] = time.perf_counter() - start, time.process_time()
    found[OTHER] = found[PROCESSOR] - sum(clock.seconds.values())
    found[PEAK] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
