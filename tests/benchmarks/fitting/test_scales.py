import itertools

import numpy as np
import pytest

from benchmarks.fitting.material import FRAMES, Material, side_by_side
from benchmarks.fitting.scales import (
    BOTH,
    LARGER,
    LAYERS,
    SMALL_FILES,
    TRIALS,
    both_sizes,
    same,
)
from benchmarks.fitting.trials import Study
from features.cache.items import Items


def items(*paths):
    return Items.from_rows([(row, "", path, "", "", "", 0, 0) for row, path in enumerate(paths)])


def test_the_same_image_is_found_by_its_name_in_another_folder():
    listed = items("train/mel/ISIC_3.jpg", "train/other/ISIC_1.jpg", "valid/mel/ISIC_2.jpg")
    assert same(items("mel/ISIC_1.png", "mel/ISIC_3.png"), listed).tolist() == [1, 0]


def test_an_image_that_the_other_collection_lacks_is_named():
    with pytest.raises(KeyError, match="ISIC_9"):
        same(items("mel/ISIC_9.png"), items("mel/ISIC_1.png"))


def test_trials_tell_a_scale_that_knows_more():
    rng = np.random.default_rng(2)
    y = (rng.random(120) < 0.3).astype(int)
    columns = {}
    for name in itertools.product((*FRAMES, *LARGER, *SMALL_FILES), LAYERS, ("mean", "std")):
        knows = 1.0 if name[0] in LARGER else 0.2
        columns[name] = (rng.normal(size=(120, 2)) + knows * y[:, None]).astype("f4")
    averaged = both_sizes(columns)
    assert {view for view, _, _ in averaged} == set(BOTH)
    whole = [columns[view, "mixed4", "mean"] for view in (FRAMES[0], LARGER[0])]
    assert averaged[BOTH[0], "mixed4", "mean"] == pytest.approx(np.mean(whole, axis=0))
    material = Material(Study.of(y, np.arange(120), repeats=2), columns | averaged, np.arange(120))
    found = [(trial, trial.run(material)) for trial in TRIALS]
    areas = {trial.name: judged.areas.mean() for trial, judged in found}
    assert areas["both at 448 beside"] > areas[TRIALS[0].name] + 0.02
    assert areas["lesion at 448 instead"] > areas["lesion alone"] + 0.02
    table = side_by_side({"Keras": found, "2015": found}).splitlines()
    assert table[0] == "| trial | passes | Keras | 2015 |"
    assert len(table) == 2 + len(TRIALS)
    assert [line.split(" | ")[1] for line in table if "both at 448 beside |" in line] == ["6.6"]
