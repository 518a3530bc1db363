from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.cache import Failure, Features, Items, read_features, write_features
from features.errors import CacheError
from features.extractor import ExtractorSpec

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
    with pytest.raises(CacheError, match="can't be opened as an HDF5 file"):
        read_features(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(CacheError, match="not a feature file"):
        read_features(path)


@pytest.mark.parametrize(("version", "advice"), [(99, "update the program"), (0, "anew")])
def test_another_version_is_told(tmp_path: Path, version: int, advice: str) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example())
    with h5py.File(path, "a") as file:
        file.attrs["version"] = version
    with pytest.raises(CacheError, match=f"has format version {version}.*{advice}"):
        read_features(path)


@pytest.mark.parametrize("part", ["embeddings", "items/label", "failures"])
def test_a_missing_part_is_told(tmp_path: Path, part: str) -> None:
    path = tmp_path / "features.h5"
    write_features(path, example())
    with h5py.File(path, "a") as file:
        del file[part]
    with pytest.raises(CacheError, match="is damaged"):
        read_features(path)


def test_a_fingerprint_that_was_altered_is_told(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    write_features(path, replace(example(), spec=replace(SPEC, input_size=80)))
    with h5py.File(path, "a") as file:
        file.attrs["fingerprint"] = SPEC.fingerprint
    with pytest.raises(CacheError, match="fingerprint"):
        read_features(path)
