"""How well heads do on what is read off a frozen network, on each weights file that there is.

Embeds the images of the folder that LESION_TEST_DATA names, as a user would, and finds copies by
the audit. Then the recipes side by side, with the program's own heads; and, with `--trials`, other
ways to use the same passes of the network, or more of them, beside the default recipe.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.fitting.kernels import aligned, chosen, gaussian_process, propagated
from benchmarks.fitting.material import (
    DEFAULT,
    FRAMES,
    Columns,
    Key,
    Material,
    Trial,
    averaged,
    by_layer,
    keys,
    side_by_side,
)
from benchmarks.fitting.trials import (
    Judged,
    Study,
    delong_difference,
    judge,
    ridge,
    signed,
    stacked,
)
from benchmarks.machine import describe
from features.audit.groups import read_groups
from features.cache.contents import Features, Items, read_features
from features.embedding.specification import ExtractorSpec
from features.images.decoding import Frame, decode
from features.networks.libraries import import_openvino
from features.networks.registry import NETWORKS
from models.evaluation.roc import auc_interval
from models.heads.ensemble import ENSEMBLE, MEMBERS
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.results import Comparison
from models.training.selection import select

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "accuracy.md"
RECIPES = ("fast", "accurate")
LAYERS = tuple(NETWORKS["inception_v3"].layers)
MIRRORED = ("flip-h", "lesion:flip-h")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder to keep feature files in, to go on from")
    parser.add_argument("--repeats", type=int, default=5, help="seeds of the folds")
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--trials", action="store_true", help="also what else was tried: hours")
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        texts = {"recipes": recipes(work, options)}
        if options.trials:
            texts["trials"] = trials(work, options)
    show(texts, write=options.write)


def show(texts: Mapping[str, str], *, write: bool) -> None:
    """Print tables, and put them between their marks in docs/accuracy.md."""
    print("\n\n".join(texts.values()))
    if not write:
        return
    page = PAGE.read_text(encoding="utf-8")
    for name, text in texts.items():
        marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page = re.sub(marks, lambda m, text=text: m[1] + text + "\n" + m[2], page, flags=re.S)
    PAGE.write_text(page, encoding="utf-8")


def shared() -> Path:
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("name the folder of real images and weights in LESION_TEST_DATA")
    return Path(given).resolve()


def weights_files() -> dict[str, Path]:
    """Name the files by what tells them apart, Keras' own first: ``{"keras": …, "2015": …}``."""
    found = (shared() / "weights").glob("inception_v3_*_notop.weights.h5")
    return {path.name.split("_")[2]: path for path in sorted(found, reverse=True)}


def extracted(
    work: Path,
    name: str,
    weights: Path,
    *words: str,
    data: str = "isic2017_256",
    precision: str = "fp32",
) -> Path:
    """Give the feature file of that name; made now if it isn't there."""
    path = work / f"{name}.h5"
    if not path.exists():
        run("extract_features.py", shared() / "data" / data, "--weights", weights,
            "--precision", precision, "--out", path, *words)  # fmt: skip
    return path


def run(*words: object) -> None:
    subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True)


def groups_of(features: Features, path: Path, work: Path) -> npt.NDArray[np.str_]:
    """Give what belongs together; copies are the same whatever the weights and the recipe."""
    table = work / "groups.csv"
    if not table.exists():
        run("-m", "features", "audit", path, "--groups", table)
    return read_groups(table, features.items).group


# The recipes, by the program's own heads.


@dataclass(frozen=True)
class Measured:
    """Heads on the embeddings of one recipe; a comparison for each seed of the folds."""

    spec: ExtractorSpec
    comparisons: list[Comparison]

    def judged(self, head: str) -> tuple[npt.NDArray[Any], Judged]:
        """Give labels and the out-of-fold scores of every seed."""
        found = [one.heads[head].evaluations["cross-validation"] for one in self.comparisons]
        return found[0].labels, Judged(np.stack([one.scores for one in found]), np.empty((0, 0)))


def recipes(work: Path, options: argparse.Namespace) -> str:
    lines = [
        "| weights | recipe | head | cross-validated AUC | beside `fast` | valid AUC |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for weights, file in weights_files().items():
        found = {recipe: measure(work, weights, file, recipe, options) for recipe in RECIPES}
        for recipe, measured in found.items():
            for head in measured.comparisons[0].heads:
                beside = found["fast"] if recipe != "fast" else None
                lines.append(f"| {weights} | `{recipe}` {row(measured, head, beside)}")
    first = measured.comparisons[0]
    counts = first.heads[first.chosen].evaluations
    told = [
        f"{counts[split].n} {name} images ({counts[split].positives} melanomas)"
        for split, name in (("cross-validation", "training"), ("valid", "validation"))
        if split in counts
    ]
    specs = [
        f"`{recipe}` is {', '.join(spec.layers)}, {spec.pooling}, of {', '.join(spec.views)} at "
        f"{spec.input_size} pixels, colours {spec.colour} ({spec.head_dim:,} numbers)."
        for recipe, spec in ((recipe, one.spec) for recipe, one in found.items())
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"{', '.join(told)}; {first.folds} grouped folds with {options.repeats} seeds. Areas "
            "are means over the seeds, intervals (95 %) DeLong's of placements averaged over the "
            "seeds; valid is judged once, with seed 0. Differences are to the same head.",
            "",
            *specs,
            f"{describe()}.",
        ]
    )


def measure(
    work: Path, weights: str, file: Path, recipe: str, options: argparse.Namespace
) -> Measured:
    path = extracted(work, f"{weights}-{recipe}", file, "--recipe", recipe)
    features = read_features(path)
    groups = groups_of(features, path, work)
    comparisons = [
        compare_heads(
            features,
            Options(heads=[*MEMBERS, ENSEMBLE], seed=seed, jobs=options.jobs),
            groups=groups,
            progress=lambda message: print(f"{weights} {recipe}: {message}", file=sys.stderr),
        )
        for seed in range(options.repeats)
    ]
    return Measured(features.spec, comparisons)


def row(measured: Measured, head: str, fast: Measured | None) -> str:
    y, mine = measured.judged(head)
    beside = "-"
    if fast is not None:
        beside = signed(delong_difference(y, mine, fast.judged(head)[1]))
    result = measured.comparisons[0].heads[head]
    judged = result.evaluations.get("valid")
    valid = "-" if judged is None else str(auc_interval(judged.labels, judged.scores))
    return f"| {result.title} | {delong_difference(y, mine)} | {beside} | {valid} |"


# What else was tried, by logistic regression on inner products.


def numbered(*numbers: int) -> tuple[str, ...]:
    return tuple(f"mixed{number}" for number in numbers)


def beside(given: Material, share: float) -> Judged:
    """Weigh the second network's inner products against the first's."""
    first, second = given.matrix(keys()), given.matrix(SECOND)
    return judge(given.study, np.asarray((1 - share) * first + share * second, np.float32))


def layers_chosen(given: Material) -> Judged:
    widths = [NETWORKS["inception_v3"].layers[each] * (each in DEFAULT) for each in LAYERS]
    matrices = [given.matrix(keys((layer,))) for layer in LAYERS]
    return chosen(given.study, matrices, given.groups, np.array(widths, float))


SECOND_NETWORK = "efficientnet_lite0"
SECOND: list[Key] = keys((SECOND_NETWORK,))
# A pass of EfficientNet-Lite0 takes about a tenth of one of InceptionV3.
SECOND_PASSES = 2.2

TRIALS = (
    Trial.of("the default: mixed3, 4, 5, 6, 8, 9", 2, keys()),
    *(Trial.of(f"{layer} alone", 2, keys((layer,))) for layer in LAYERS),
    Trial.of("mixed0 to mixed10", 2, keys(LAYERS)),
    Trial.of("mixed3 to mixed9", 2, keys(numbered(3, 4, 5, 6, 7, 8, 9))),
    Trial.of("mixed3 to mixed8", 2, keys(numbered(3, 4, 5, 6, 7, 8))),
    Trial.of("mixed3, 4, 5, 6, 8", 2, keys(numbered(3, 4, 5, 6, 8))),
    Trial.of("mixed4, 5, 6, 8, 9", 2, keys(numbered(4, 5, 6, 8, 9))),
    Trial.of("mixed5, 7, 8, 9", 2, keys(numbered(5, 7, 8, 9))),
    Trial.of("mixed7, 8, 9", 2, keys(numbered(7, 8, 9))),
    Trial.of("mixed10 beside the default", 2, keys((*DEFAULT, "mixed10"))),
    Trial.of("whole image alone", 1, keys(views=FRAMES[:1])),
    Trial.of("lesion alone", 1, keys(views=FRAMES[1:])),
    Trial.of("means alone", 2, keys(statistics=("mean",))),
    Trial.of("deviations alone", 2, keys(statistics=("std",))),
    Trial.of("each layer with the same weight", 2, keys(), even=True),
    Trial("kernels weighted by alignment", 2, lambda m: aligned(m.study, [*map(m.gram, keys())])),
    Trial("weights of all layers chosen in the fold", 2, layers_chosen),
    Trial(
        "Gaussian process, a weight per layer by evidence",
        2,
        lambda m: gaussian_process(m.study, [m.matrix(keys((layer,))) for layer in DEFAULT]),
    ),
    Trial(
        "a head per layer and frame, stacked",
        2,
        lambda m: stacked(
            m.study,
            [m.matrix(keys((layer,), (view,))) for view in FRAMES for layer in DEFAULT],
            m.groups,
        ),
    ),
    Trial("shrinkage discriminant analysis", 2, lambda m: ridge(m.study, m.matrix(keys()))),
    Trial("labels spread to neighbours", 2, lambda m: propagated(m.study, m.matrix(keys()))),
    Trial.of("mirrored, averaged", 4, keys(views=("mirrored", "lesion:mirrored"))),
    Trial.of("EfficientNet-Lite0 alone", SECOND_PASSES - 2, SECOND),
    Trial.of("EfficientNet-Lite0 beside", SECOND_PASSES, [*keys(), *SECOND]),
    Trial("the same, a quarter of the weight", SECOND_PASSES, lambda m: beside(m, 0.25)),
    Trial("EfficientNet-Lite0 averaged", SECOND_PASSES, lambda m: averaged(m, keys(), SECOND)),
)


def trials(work: Path, options: argparse.Namespace) -> str:
    return side_by_side(
        {
            weights: [(trial, trial.run(given)) for trial in TRIALS]
            for weights, given in materials(work, options)
        }
    )


def materials(work: Path, options: argparse.Namespace) -> Iterator[tuple[str, Material]]:
    """Embed by all layers and both networks; only training images are judged."""
    for weights, file in weights_files().items():
        columns: dict[Key, Columns] = {}
        for name, views in (("all", FRAMES), ("mirrored", MIRRORED)):
            path = extracted(work, f"{weights}-{name}", file, "--recipe", "accurate",
                             "--layers", ",".join(LAYERS), "--views", ",".join(views))  # fmt: skip
            features = read_features(path)
            groups = groups_of(features, path, work)
            train = select(features, positive="melanoma", folds=5, groups=groups).parts["train"]
            columns |= by_layer(features, train.items, views)
        for region in ("", "lesion:"):
            for layer, each in itertools.product(LAYERS, ("mean", "std")):
                pair = [columns[f"{region}{turn}", layer, each] for turn in ("identity", "flip-h")]
                columns[f"{region}mirrored", layer, each] = np.mean(pair, axis=0)
        columns |= second_network(features, train.items, work)
        study = Study.of(train.y, train.groups, options.repeats)
        yield weights, Material(study, columns, train.groups)


def second_network(features: Features, items: Items, work: Path) -> dict[Key, Columns]:
    """Embed the whole image and the lesion by EfficientNet-Lite0, colours corrected."""
    kept = work / "efficientnet_lite0.npy"
    names = [(view, SECOND_NETWORK, each) for view in FRAMES for each in ("mean", "std")]
    if not kept.exists():
        path = shared() / "weights" / f"{SECOND_NETWORK}.onnx"
        # CPUs that have bf16 would take it.
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        model = import_openvino().Core().compile_model(path, "CPU", exact)
        frames = [Frame(224, region, "shades-of-grey") for region in ("whole", "lesion")]
        rows = []
        for name in items.path.tolist():
            image = decode(Path(features.images, name).read_bytes(), *frames)
            pixels = (np.stack(image.frames).astype(np.float32) - 127) / 128
            maps = model(pixels.transpose(0, 3, 1, 2))["map"]
            rows.append([each for one in maps for each in (one.mean((1, 2)), one.std((1, 2)))])
        np.save(kept, np.array(rows, np.float32))
    return dict(zip(names, np.load(kept).transpose(1, 0, 2), strict=True))


if __name__ == "__main__":
    main()
