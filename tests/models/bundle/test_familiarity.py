"""What is unlike the training images is known by its distance, at the stated rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bundle.familiarity import (
    FALSE_ALARMS,
    conformal_limit,
    kth_distance,
    learn_limit,
    learn_space,
)


def like_training(n: int, seed: int) -> npt.NDArray[np.float32]:
    """Rectified mixtures, as averaged activations are."""
    rng = np.random.default_rng(seed)
    parts = np.random.default_rng(0).exponential(size=(12, 64))
    return (rng.dirichlet(np.full(12, 0.5), n) @ parts + rng.exponential(0.1, (n, 64))).astype(
        np.float32
    )


def test_false_alarms_are_as_rare_as_stated() -> None:
    rates = []
    for seed in range(6):
        X = like_training(200, seed)
        limit = learn_limit(X, np.arange(200), seed=seed)
        assert limit is not None
        space = learn_space(X, seed=seed)
        new = kth_distance(space.place(like_training(2000, 1000 + seed)), space.place(X))
        rates.append(np.mean(new > limit))
    assert 0.001 < np.mean(rates) <= FALSE_ALARMS * 1.2


def test_copies_in_one_group_do_not_lower_the_limit() -> None:
    X = like_training(40, 1)
    copies, group = np.repeat(X, 20, axis=0), np.repeat(np.arange(40), 20)
    limit = learn_limit(copies, group)
    careless = learn_limit(copies, np.arange(800))
    assert limit is not None
    assert careless is not None
    assert careless == pytest.approx(0, abs=1e-5)
    assert limit > 0.01


def test_something_else_is_beyond_the_limit() -> None:
    X = like_training(300, 2)
    limit = learn_limit(X, np.arange(300))
    other = np.random.default_rng(5).exponential(size=(50, 64)).astype(np.float32) ** 3
    space = learn_space(X, dimensions=32)
    assert limit is not None
    assert (kth_distance(space.place(other), space.place(X)) > limit).all()


@pytest.mark.parametrize(("n", "known"), [(98, False), (99, True), (400, True)])
def test_too_few_images_give_no_limit(n: int, known: bool) -> None:
    assert (learn_limit(like_training(n, 3), np.arange(n)) is not None) == known


@given(st.lists(st.floats(0, 2), min_size=1, max_size=400), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_the_limit_leaves_no_larger_share_above(distances: list[float], alpha: float) -> None:
    limit = conformal_limit(distances, alpha)
    if limit is None:
        assert len(distances) < 1 / alpha - 1 + 1e-9
    else:
        assert np.sum(np.array(distances) >= limit) >= 1
        assert np.mean(np.array(distances) > limit) <= alpha


def test_what_lies_off_the_axes_is_distant_from_everything() -> None:
    X = np.zeros((20, 8), np.float32)
    X[:, :3] = np.random.default_rng(0).random((20, 3))
    space = learn_space(X, dimensions=3)
    off = np.zeros((1, 8), np.float32)
    off[0, 7] = 1
    assert kth_distance(space.place(off), space.place(X))[0] == pytest.approx(1, abs=1e-5)
    assert kth_distance(space.place(X[:1] * 5), space.place(X), 1)[0] == pytest.approx(0, abs=1e-5)
