from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.cache.contents import Features, Items, read_features, write_features
from features.cache.rows import Rows, as_singles, rows_of
from features.errors import CacheError
from tests.features.cache.test_contents import example

LARGE = {"small": 0, "held": 2**30}
IN_FILE = {"small": 0, "held": 0}


def half(tmp_path: Path, rows: int = 300) -> tuple[Path, Features]:
    path = tmp_path / "features.h5"
    write_features(path, example(rows), dtype=np.float16)
    return path, example(rows)


@pytest.mark.parametrize("where", [LARGE, IN_FILE])
def test_rows_are_what_the_array_is(tmp_path: Path, where: dict[str, int]) -> None:
    path, _ = half(tmp_path)
    small, large = read_features(path), read_features(path, **where)
    assert isinstance(small.embeddings, np.ndarray)
    assert isinstance(large.embeddings, Rows)
    assert large.embeddings.shape == small.embeddings.shape
    items = small.items.take(np.array([7, 3, 3, 250]))
    expected = small.embedded(items)
    np.testing.assert_array_equal(large.embedded(items), expected)
    for rows in (small.rows(items), large.rows(items)):
        assert rows.shape == expected.shape
        np.testing.assert_array_equal(np.concatenate(list(rows.blocks(3))), expected)
        np.testing.assert_array_equal(np.asarray(rows), expected)
        assert rows[0].dtype == np.float32


@given(rows=st.lists(st.integers(0, 499), max_size=40))
def test_rows_in_any_order_are_found(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "table.h5"
    table = np.arange(1000, dtype=np.float16).reshape(500, 2)
    with h5py.File(path, "a") as file:
        stored = file.require_dataset("x", table.shape, table.dtype, data=table, exact=True)
        wanted = np.array(rows, np.int64)
        np.testing.assert_array_equal(rows_of(stored, wanted), table[wanted])


def test_every_half_becomes_the_same_single() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    # Infinities are in a stretch with others, and in none of the second array.
    for halves in (np.tile(every, 3), every[np.isfinite(every)].reshape(2, -1), every[::7]):
        found = as_singles(halves)
        assert (found.dtype, found.shape) == (np.float32, halves.shape)
        np.testing.assert_array_equal(found, halves.astype(np.float32))
        assert (np.signbit(found) == np.signbit(halves))[~np.isnan(found)].all()
    singles = np.array([1.5, np.inf], np.float32)
    np.testing.assert_array_equal(as_singles(singles), singles)
    assert not np.shares_memory(as_singles(singles), singles)


def test_nothing_is_kept_as_float32(tmp_path: Path) -> None:
    path, _ = half(tmp_path)
    held = read_features(path, **LARGE).embeddings
    assert isinstance(held, Rows)
    assert held.stored_dtype == np.float16


def test_a_large_file_is_copied_as_it_is(tmp_path: Path) -> None:
    path, _ = half(tmp_path)
    copy = tmp_path / "copy.h5"
    write_features(copy, read_features(path, **IN_FILE), dtype=np.float16)
    np.testing.assert_array_equal(read_features(copy).embeddings, read_features(path).embeddings)


def test_a_file_that_is_replaced_meanwhile_is_not_mixed_up(tmp_path: Path) -> None:
    path, features = half(tmp_path)
    rows = read_features(path, **IN_FILE).rows(features.items)
    write_features(path, replace(features, embeddings=features.embeddings[:] + 1))
    with pytest.raises(CacheError, match="was replaced or altered while it was being read"):
        rows[:1]
    path.unlink()
    with pytest.raises(CacheError, match="start again"):
        list(rows.blocks())


def test_an_altered_file_is_refused_before_rows_are_given(tmp_path: Path) -> None:
    path, _ = half(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match="was altered after it was written"):
        read_features(path, **IN_FILE)


def test_views_are_averaged_in_blocks(tmp_path: Path) -> None:
    one = example(10)
    spec = replace(one.spec, views=("identity", "flip-h"))
    wide = replace(one, spec=spec, embeddings=np.hstack([one.embeddings[:], one.embeddings[:] + 2]))
    path = tmp_path / "features.h5"
    write_features(path, wide)
    rows = read_features(path, **IN_FILE).rows(wide.items)
    assert rows.shape == (10, 5)
    np.testing.assert_allclose(rows[:], one.embeddings[:] + 1, rtol=1e-6)


def test_no_rows_are_no_blocks() -> None:
    rows = Rows(np.zeros((4, 3), np.float16)).take(np.empty(0, int))
    assert rows.shape == (0, 3)
    assert list(rows.blocks()) == []
    assert rows[:].shape == (0, 3)
    assert len(Items.from_rows([])) == 0
