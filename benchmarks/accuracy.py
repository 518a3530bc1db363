"""The recipes side by side: how well heads do on the embeddings of each, and what these cost.

Embeds the images of the folder that LESION_TEST_DATA names by each recipe, as a user would, finds
copies by the audit, and compares heads by cross-validation with several seeds. The differences are
of scores of the same images.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from benchmarks.machine import describe
from features.audit.groups import find_groups, groups_path
from features.cache.contents import Features, read_features
from models.evaluation.roc import auc_interval, placements
from models.evaluation.values import Interval
from models.heads.ensemble import ENSEMBLE, MEMBERS
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.results import Comparison

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "accuracy.md"
RECIPES = ("fast", "accurate")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Heads on the embeddings of one recipe.

    Parameters
    ----------
    features : Features
    comparisons : list of Comparison
        One for each seed of the folds.
    seconds : float or None
        Of extraction per image; None where the feature file was there already.
    """

    features: Features
    comparisons: list[Comparison]
    seconds: float | None

    def repeats(self, head: str) -> tuple[npt.NDArray[Any], Floats]:
        """Give labels and the out-of-fold scores of every seed, (seeds, n), in one order."""
        found = [one.heads[head].evaluations["cross-validation"] for one in self.comparisons]
        return found[0].labels, np.stack([one.scores for one in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder to keep feature files in, to go on from")
    parser.add_argument("--repeats", type=int, default=5, help="seeds of the folds")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        text = report({recipe: measure(recipe, work, options) for recipe in RECIPES})
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marks = r"(<!-- recipes -->\n).*?(<!-- /recipes -->)"
        PAGE.write_text(re.sub(marks, lambda m: m[1] + text + "\n" + m[2], page, flags=re.DOTALL))


def measure(recipe: str, work: Path, options: argparse.Namespace) -> Measured:
    path = work / f"{recipe}.h5"
    seconds = None
    if not path.exists():
        start = time.perf_counter()
        run("extract_features.py", shared() / "data" / "isic2017_256", "--recipe", recipe,
            "--weights", next((shared() / "weights").glob("inception_v3*.h5")),
            "--precision", "fp32", "--out", path)  # fmt: skip
        seconds = time.perf_counter() - start
    features = read_features(path)
    # Copies are the same whatever the recipe; the pictures tell them better than embeddings do.
    first, own = groups_path(work / f"{RECIPES[0]}.h5"), groups_path(path)
    if not first.exists():
        run("-m", "features", "audit", path, "--groups", first)
    if own != first and not own.exists():
        shutil.copyfile(first, own)
    together = find_groups("auto", path, features.items)
    comparisons = [
        compare_heads(
            features,
            Options(heads=[*MEMBERS, ENSEMBLE], folds=options.folds, seed=seed, jobs=options.jobs),
            groups=together.group,
            progress=lambda message: print(f"{recipe}: {message}", file=sys.stderr),
        )
        for seed in range(options.repeats)
    ]
    images = len(features.embeddings)
    return Measured(features, comparisons, None if seconds is None else seconds / images)


def shared() -> Path:
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("name the folder of real images and weights in LESION_TEST_DATA")
    return Path(given).resolve()


def run(*words: object) -> None:
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)


def mean_placements(labels: npt.NDArray[Any], scores: Floats) -> tuple[Floats, Floats]:
    """Average DeLong's placements over repeats; their mean is the mean area."""
    ahead, behind = placements(labels, scores)
    return ahead.mean(axis=0), behind.mean(axis=0)


def interval(ahead: Floats, behind: Floats) -> Interval:
    """Give a mean of placements, or of their differences, with its 95 % interval."""
    value = float(ahead.mean())
    variance = ahead.var(ddof=1) / len(ahead) + behind.var(ddof=1) / len(behind)
    half = float(norm.ppf(0.975) * np.sqrt(variance))
    return Interval(value, value - half, value + half)


def report(found: dict[str, Measured]) -> str:
    heads = list(found[RECIPES[0]].comparisons[0].heads)
    rows = [
        row(recipe, measured, head, found[RECIPES[0]])
        for recipe, measured in found.items()
        for head in heads
    ]
    some = found[RECIPES[0]].comparisons
    counts = some[0].heads[heads[0]].evaluations
    told = [
        f"{counts[split].n} {name} images ({counts[split].positives} melanomas)"
        for split, name in (("cross-validation", "training"), ("valid", "validation"))
        if split in counts
    ]
    costs = [
        f"`{recipe}` takes {1000 * one.seconds:.0f} ms an image"
        for recipe, one in found.items()
        if one.seconds is not None
    ]
    recipes = [
        f"`{recipe}` is {', '.join(spec.layers)}, {spec.pooling}, of {', '.join(spec.views)} at "
        f"{spec.input_size} pixels, colours {spec.colour} ({spec.head_dim:,} numbers)."
        for recipe, spec in ((recipe, one.features.spec) for recipe, one in found.items())
    ]
    return "\n".join(
        [
            "| recipe | head | cross-validated AUC | beside `fast` | valid AUC |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            f"{', '.join(told)}; {some[0].folds} grouped folds with {len(some)} seeds. Areas are "
            "means over the seeds, intervals (95 %) DeLong's of placements averaged over the "
            "seeds; valid is judged once, with seed 0. Differences are to the same head.",
            "",
            *recipes,
            *([f"{' and '.join(costs)}, starting included."] if costs else []),
            f"{describe()}.",
        ]
    )


def row(recipe: str, measured: Measured, head: str, fast: Measured) -> str:
    labels, scores = measured.repeats(head)
    mine = mean_placements(labels, scores)
    beside = "-"
    if measured is not fast:
        others = mean_placements(*fast.repeats(head))
        change = interval(mine[0] - others[0], mine[1] - others[1])
        beside = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
    result = measured.comparisons[0].heads[head]
    judged = result.evaluations.get("valid")
    valid = "-" if judged is None else str(auc_interval(judged.labels, judged.scores))
    return f"| `{recipe}` | {result.title} | {interval(*mine)} | {beside} | {valid} |"


if __name__ == "__main__":
    main()
