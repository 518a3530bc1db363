from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.cache.contents import read_features, write_features
from features.cache.verification import verify
from features.datasets.folders import find_images
from features.errors import CacheError
from features.extraction import extract
from tests.features.cache.old_version import as_version_1
from tests.features.cache.test_contents import example
from tests.features.embedding.pooling_run import pooling_extractor
from tests.pictures import image_bytes


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "features.h5"
    write_features(path, example(200))
    return path


def read_or_refused(path: Path) -> bool:
    """Whether a file is refused; if not, it must hold the right content."""
    try:
        found = read_features(path)
    except CacheError as error:
        return "\n" not in str(error)
    np.testing.assert_array_equal(found.embeddings, example(200).embeddings)
    assert found.items.label.tolist() == example(200).items.label.tolist()
    return False


def test_a_file_as_it_was_written_is_whole(written: Path) -> None:
    found = verify(written)
    assert (found.version, found.checked, found.whole, found.altered) == (2, True, True, ())


def test_every_single_altered_byte_is_found_and_refused(tmp_path: Path) -> None:
    written = tmp_path / "features.h5"
    # Two blocks of rows, in as few bytes as they take.
    write_features(written, example(70))
    whole = written.read_bytes()
    rng = random.Random(1)  # noqa: S311
    assert len(whole) < 50_000
    with written.open("r+b") as file:
        for place, value in enumerate(whole):
            file.seek(place)
            file.write(bytes([value ^ (1 << rng.randrange(8))]))
            file.flush()
            assert not verify(written, locate=False).whole, place
            if place < 600 or place % 50 == 0:
                assert read_or_refused(written), place
            file.seek(place)
            file.write(bytes([value]))
    assert verify(written).whole


def test_a_file_that_was_cut_or_lengthened_is_found_and_refused(written: Path) -> None:
    whole = written.read_bytes()
    for length in (*range(0, len(whole), 997), 8, 511, 512, 513, len(whole) - 1):
        written.write_bytes(whole[:length])
        assert not verify(written, locate=False).whole, length
        assert read_or_refused(written), length
    written.write_bytes(whole + b"\0")
    assert not verify(written, locate=False).whole
    assert read_or_refused(written)


def test_what_is_altered_is_named(written: Path) -> None:
    whole = written.read_bytes()

    def altered(place: int) -> tuple[str, ...]:
        content = bytearray(whole)
        content[place] ^= 4
        written.write_bytes(content)
        return verify(written).altered

    for row, told in ((0, "0 to 63"), (130, "128 to 191"), (199, "192 to 199")):
        place = whole.index(example(200).embeddings[row].tobytes())
        assert altered(place) == (f"embeddings, rows {told}",)
    assert altered(whole.index("train/mélanome/7.jpg".encode())) == ("items",)
    assert altered(whole.index(b"its end is missing")) == ("failures",)
    assert altered(whole.index(b"/images")) == ("attributes",)
    assert altered(400) == ()
    assert altered(513) == ("the structure of the HDF5 file",)


def test_content_that_was_changed_with_hdf5_is_found(written: Path) -> None:
    with h5py.File(written, "a") as file:
        file["items"]["label"][3] = "nevus"
    assert verify(written).altered == ("items",)
    assert read_or_refused(written)


def test_a_file_without_checksums_is_said_to_have_none_until_it_is_written_anew(
    tmp_path: Path,
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(3):
        (images / f"{seed}.jpg").write_bytes(image_bytes(seed))
    out = tmp_path / "features.h5"
    extract(find_images(images), pooling_extractor(), out)
    before = read_features(out).embeddings
    as_version_1(out)
    found = verify(out)
    assert (found.version, found.checked, found.whole) == (1, False, False)
    assert extract(find_images(images), pooling_extractor(), out).embedded == 0
    (images / "3.jpg").write_bytes(image_bytes(3))
    assert extract(find_images(images), pooling_extractor(), out).embedded == 1
    assert verify(out).whole
    assert verify(out).version == 2
    np.testing.assert_array_equal(read_features(out).embeddings[:3], before)


def test_what_is_no_feature_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="does not exist"):
        verify(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(CacheError, match="not a feature file"):
        verify(tmp_path / "other.h5")
