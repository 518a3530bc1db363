from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fitting.kernels import aligned, chosen, gaussian_process, propagated
from benchmarks.fitting.trials import Study, gram, judge

LEARNT = {
    "aligned": aligned,
    "chosen": lambda study, matrices: chosen(
        study, matrices, np.arange(len(study.y)), np.ones(len(matrices))
    ),
    "gaussian process": gaussian_process,
}


@pytest.fixture
def study():
    y = (np.arange(120) % 4 == 0).astype(int)
    return Study.of(y, np.arange(120), repeats=1)


@pytest.fixture
def matrices(study):
    """Give one that knows the label and two that don't."""
    rng = np.random.default_rng(0)
    telling, *others = rng.normal(size=(3, 120, 20))
    telling[:, :3] += study.y[:, None]
    return [gram(each) for each in (telling, *others)]


@pytest.mark.parametrize("name", LEARNT)
def test_learnt_weights_find_the_matrix_that_knows_the_label(name, study, matrices):
    even = judge(study, np.mean(matrices, axis=0)).areas.mean()
    assert LEARNT[name](study, matrices).areas.mean() > even + 0.01


def test_labels_spread_within_the_crowd_that_a_few_of_them_name():
    rng = np.random.default_rng(4)
    y = (np.arange(120) % 4 == 0).astype(int)
    crowds = rng.normal(size=(120, 10)) + 3 * y[:, None]
    # Two images of either class are labelled.
    held = np.ones((1, 1, 120), bool)
    held[0, 0, [0, 1, 2, 4]] = False
    found = propagated(Study(y, held), gram(crowds)).scores[0, held[0, 0]]
    assert ((found > np.sort(found)[-29]) == (y[held[0, 0]] == 1)).mean() > 0.95


@pytest.mark.parametrize("name", ["chosen", "gaussian process"])
def test_labels_that_are_held_out_change_no_score_of_theirs(name, study, matrices):
    held = study.held[0, 2]
    other = replace(study, y=np.where(held, 1 - study.y, study.y), held=study.held[:, 2:3])
    same = replace(study, held=study.held[:, 2:3])
    found, again = (LEARNT[name](each, matrices).scores[0, held] for each in (same, other))
    np.testing.assert_allclose(found, again, rtol=1e-5, atol=1e-6)
