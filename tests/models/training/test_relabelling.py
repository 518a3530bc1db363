"""Classes in pieces: put together, left out, or warned of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import Features, write_features
from features.errors import LesionError
from models.bundle.loading import load_bundle
from models.training.relabelling import read_relabelling
from models.training.selection import is_positive, select
from tests.conftest import Run
from tests.models.data.cached import cluster_features

PIECES = ["melanoma", "melanoma (in situ)", "melanoma (less than 0.76 mm)"]


@pytest.fixture(scope="module")
def pieces() -> Features:
    """Melanomas under three names, and a class that only sounds like one."""
    features = cluster_features(240)
    label = features.items.label.astype("U40")
    for name, start in zip(PIECES, range(3), strict=True):
        label[np.flatnonzero(features.items.label == "melanoma")[start::3]] = name
    label[np.flatnonzero(features.items.label != "melanoma")[::4]] = "clark nevus"
    return replace(features, items=replace(features.items, label=label))


def test_pieces_of_the_positive_class_are_warned_of(pieces: Features) -> None:
    found = select(pieces, positive="melanoma", folds=3)
    count = int(np.isin(pieces.items.label, PIECES[1:]).sum())
    assert found.notes[0].startswith(f"ATTENTION: {count} images of 'melanoma (in situ)'")
    whole, _ = read_relabelling(pieces, PIECES).apply(pieces)
    assert "ATTENTION" not in " ".join(select(whole, positive="melanoma", folds=3).notes)
    vague = np.where(is_positive(pieces.items, "melanoma"), "melanoma", "malignant")
    told = select(
        replace(pieces, items=replace(pieces.items, label=vague)), positive="melanoma", folds=3
    )
    assert told.notes[0].startswith("ATTENTION")
    negated = replace(
        pieces,
        items=replace(
            pieces.items,
            label=np.where(is_positive(pieces.items, "melanoma"), "melanoma", "NotMelanoma"),
        ),
    )
    assert "ATTENTION" not in " ".join(select(negated, positive="melanoma", folds=3).notes)


@pytest.mark.parametrize("way", ["positive", "merge", "table"])
def test_pieces_are_put_together(pieces: Features, tmp_path: Path, way: str) -> None:
    (tmp_path / "classes.csv").write_text(
        "class,taken for\n"
        + "".join(f"{name},melanoma\n" for name in PIECES[1:])
        + "clark nevus,\n"
    )
    found = {
        "positive": read_relabelling(pieces, PIECES),
        "merge": read_relabelling(pieces, ["melanoma"], [f"melanoma={','.join(PIECES[1:])}"]),
        "table": read_relabelling(pieces, ["melanoma"], [str(tmp_path / "classes.csv")]),
    }[way]
    whole, notes = found.apply(pieces)
    truth = cluster_features(240).items.label == "melanoma"
    assert ((whole.items.label == "melanoma") == truth).all()
    assert len(notes) == (3 if way == "table" else 2)
    assert ("clark nevus" in whole.items.label) == (way != "table")
    assert ((whole.items.label == "") == (pieces.items.label == "clark nevus")).all() == (
        way == "table"
    )


def test_what_can_not_be_is_refused(pieces: Features) -> None:
    for words, message in (
        ((["melanoma", "nothing"],), "no class is called 'nothing'"),
        ((["melanoma"], ["x=clark nevus"], ["clark nevus"]), "taken for 'nothing' and for 'x'"),
        ((["melanoma"], ["clark nevus"]), r"expected NEW=CLASS,CLASS or a table"),
        ((["melanoma"], [], ["melanoma"]), "'melanoma' is left out"),
    ):
        with pytest.raises(LesionError, match=message):
            read_relabelling(pieces, *words)


def test_a_bundle_remembers_what_was_put_together(
    pieces: Features, tmp_path: Path, run_here: Run
) -> None:
    cache, out = tmp_path / "features.h5", tmp_path / "bundle"
    write_features(cache, pieces)
    words = [word for name in PIECES for word in ("--positive", name)]
    done = run_here(
        *("fit_classifier.py", cache, "--out", out, *words, "--exclude", "clark nevus"),
        *("--heads", "logistic_regression", "--folds", 3, "--jobs", 1, "--no-reuse"),
    )
    assert done.returncode == 0, done.stderr
    assert load_bundle(out).relabelling.excluded == ("clark nevus",)
    assert "were taken for 'melanoma'" in done.stdout
    judged = run_here("-m", "models", "evaluate", out, cache, "--json")
    assert judged.returncode == 0, judged.stderr
    test = pieces.items.split == "test"
    values = json.loads(judged.stdout)
    kept = test & (pieces.items.label != "clark nevus")
    assert values["n"] == kept.sum()
    assert values["positives"] == np.isin(pieces.items.label[kept], PIECES).sum()
