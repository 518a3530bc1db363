from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.cache.checks.seal import seal_file
from features.cache.contents import Failure, Features, Items, read_features, write_features
from features.cache.safe_files import CACHE_VERSION
from features.embedding.specification import ExtractorSpec
from features.errors import CacheError
from tests.features.cache.old_version import as_version_1

SPEC = ExtractorSpec(
    network="inception_v3",
    weights="untrained",
    weights_sha256="0" * 64,
    input_size=75,
    dim=5,
    layers=("mixed10",),
)


def example(rows: int = 3) -> Features:
    return Features(
        spec=SPEC,
        embeddings=np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32),
        items=Items.from_rows(
            (row, f"{row:064x}", f"train/mélanome/{row}.jpg", "mélanome", "train", "", 640, 480)
            for row in range(rows)
        ),
        failures=(Failure("f" * 64, "train/x/bad.jpg", "truncated", "its end is missing"),),
        synthetic=True,
        images="/images",
    )


@pytest.mark.parametrize("rows", [0, 1, 200])
def test_what_is_written_is_read(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example(rows))
    found = read_features(path)
    expected = example(rows)
    np.testing.assert_array_equal(found.embeddings, expected.embeddings)
    assert found.spec == SPEC
    assert found.failures == expected.failures
    assert found.marks == ("untrained", "synthetic")
    for name in Items.__dataclass_fields__:
        column = getattr(found.items, name)
        assert column.dtype.kind == getattr(expected.items, name).dtype.kind
        np.testing.assert_array_equal(column, getattr(expected.items, name))
    assert "numpy" in found.software
    assert list(tmp_path.iterdir()) == [path]


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example(), dtype="float16")
    found = read_features(path).embeddings
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, example().embeddings, rtol=1e-3)


def test_items_that_share_a_row_share_the_embedding(tmp_path: Path) -> None:
    features = example()
    items = Items.from_rows([(2, "a", "x", "", "", "", 1, 1), (2, "a", "y", "", "", "", 1, 1)])
    np.testing.assert_array_equal(features.embedded(items)[0], features.embedded(items)[1])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="got 2 rows of embeddings, expected 3"):
        write_features(path, example(), blocks=[np.zeros((2, 5), np.float32)], rows=3)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_feature_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with pytest.raises(CacheError, match=r"does not exist.*extract_features\.py"):
        read_features(path)
    path.write_text("text")
    with pytest.raises(CacheError, match="is no feature file, or can't be opened as an HDF5 file"):
        read_features(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(CacheError, match="can't be opened as an HDF5 file"):
        read_features(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(CacheError, match="not a feature file"):
        read_features(path)


def test_a_newer_version_is_told_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example())
    seal_file(path, 99)
    with pytest.raises(CacheError, match=r"has format version 99.*update the program"):
        read_features(path)


def test_a_version_that_never_was_is_told(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example())
    as_version_1(path)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 0
    with pytest.raises(CacheError, match=r"has format version 0.*again"):
        read_features(path)


def test_version_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example(70))
    as_version_1(path)
    found = read_features(path)
    np.testing.assert_array_equal(found.embeddings, example(70).embeddings)
    assert found.items.path.tolist() == example(70).items.path.tolist()
    assert found.failures == example().failures


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    features = replace(example(200), created="2026-01-01T00:00:00+00:00")
    blocks = [features.embeddings[start : start + 37] for start in range(0, 200, 37)]
    write_features(tmp_path / "a.h5", features)
    write_features(tmp_path / "b.h5", features, blocks=blocks, rows=200)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("part", ["embeddings", "items/label", "failures"])
def test_a_missing_part_is_told(tmp_path: Path, part: str) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example())
    as_version_1(path)
    with h5py.File(path, "a") as file:
        del file[part]
    with pytest.raises(CacheError, match="is damaged"):
        read_features(path)


def test_a_fingerprint_that_was_altered_is_told(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write_features(path, replace(example(), spec=replace(SPEC, input_size=80)))
    as_version_1(path)
    with h5py.File(path, "a") as file:
        file.attrs["fingerprint"] = SPEC.fingerprint
    with pytest.raises(CacheError, match="fingerprint"):
        read_features(path)


def test_what_the_network_was_trained_on_is_kept_and_need_not_be_known(tmp_path: Path) -> None:
    features = replace(example(), trained_on="HAM10000, Derm1M")
    path = tmp_path / "features.h5"
    write_features(path, features)
    assert read_features(path).trained_on == "HAM10000, Derm1M"
    with h5py.File(path, "a") as file:
        del file.attrs["trained_on"]
    seal_file(path, CACHE_VERSION)
    assert read_features(path).trained_on == ""
