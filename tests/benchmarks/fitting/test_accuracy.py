import itertools

import numpy as np
import pytest

from benchmarks.fitting.accuracy import LAYERS, SECOND_NETWORK, TRIALS
from benchmarks.fitting.material import FRAMES, Material, keys, table_column
from benchmarks.fitting.trials import Study, gram


@pytest.fixture
def material():
    """Give columns of which only those of mixed5 know the label."""
    rng = np.random.default_rng(1)
    y = (rng.random(90) < 0.3).astype(int)
    views = [*FRAMES, "mirrored", "lesion:mirrored"]
    names = [*itertools.product(views, LAYERS, ("mean", "std"))]
    names += itertools.product(FRAMES, [SECOND_NETWORK], ("mean", "std"))
    columns = {
        name: (rng.normal(size=(90, 6)) + 2 * y[:, None] * (name[1] == "mixed5")).astype("f4")
        for name in names
    }
    return Material(Study.of(y, np.arange(90), repeats=3), columns, np.arange(90))


def test_columns_side_by_side_are_a_sum_of_inner_products(material):
    chosen = keys(("mixed3", "mixed5"), FRAMES[:1], ("mean",))
    side_by_side = np.hstack([material.columns[key] for key in chosen])
    assert material.matrix(chosen) == pytest.approx(gram(side_by_side), abs=1e-5)


def test_every_trial_is_told_from_the_default(material):
    found = [(trial, trial.run(material)) for trial in TRIALS]
    areas = {trial.name: judged.areas.mean() for trial, judged in found}
    assert areas["mixed5 alone"] > 0.95
    assert areas["mixed10 alone"] < 0.75
    assert areas["EfficientNet-Lite0 alone"] < 0.75
    default, *cells = table_column(found)
    assert default == f"{areas[TRIALS[0].name]:.3f}"
    assert len(cells) == len(TRIALS) - 1
    assert cells[LAYERS.index("mixed10")].startswith("-0.")
    assert cells[LAYERS.index("mixed10")].endswith("*")
