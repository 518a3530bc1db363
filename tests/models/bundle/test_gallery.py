"""The training images in a bundle: similar cases, known images, and files that lie."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from features.cache.contents import Features, Items
from models.bundle import gallery as gallery_module
from models.bundle.gallery import (
    GALLERY,
    GalleryError,
    pictures_of,
    read_gallery,
    write_gallery,
)
from models.bundle.loading import load_bundle
from models.bundle.manifest import BundleRefused, seal
from models.bundle.saving import BundleOptions
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.cached import SMALL, cluster_features, with_images
from tests.pictures import image_bytes


def pictured(folder: Path, n: int = 12) -> Features:
    """Features of images that are there, but for the last, which has changed since."""
    features = with_images(folder, cluster_features(n))
    (folder / f"{n - 1}.jpg").write_bytes(image_bytes(99))
    return features


def written(tmp_path: Path, features: Features, train: Items | None = None, **more: bool) -> bytes:
    path = tmp_path / GALLERY
    write_gallery(path, features, features.items if train is None else train, **more)
    return path.read_bytes()


def test_the_nearest_are_named_with_their_pictures(tmp_path: Path) -> None:
    features = pictured(tmp_path / "images")
    gallery = read_gallery(written(tmp_path, features), SMALL)
    for at in (0, 5, 11):
        found = gallery.nearest(gallery.place(features.embeddings[at : at + 1]), 3)[0]
        assert found[0].sha256 == features.items.sha256[at]
        assert found[0].label == features.items.label[at]
        assert found[0].distance == pytest.approx(0, abs=2e-3)
        assert [one.distance for one in found] == sorted(one.distance for one in found)
        picture = found[0].thumbnail
        if at == 11:
            assert picture is None
        else:
            assert picture is not None
            assert Image.open(io.BytesIO(picture)).size == (96, 48)
    exact = features.embeddings / np.linalg.norm(features.embeddings, axis=1, keepdims=True)
    distances = 1 - exact[0] @ exact.T
    order = gallery.nearest(gallery.place(features.embeddings[:1]), 12)[0]
    np.testing.assert_allclose([one.distance for one in order], np.sort(distances), atol=5e-3)


def test_without_thumbnails(tmp_path: Path) -> None:
    features = pictured(tmp_path / "images")
    gallery = read_gallery(written(tmp_path, features, thumbnails=False), SMALL)
    assert gallery.thumbnails == (None,) * 12


def test_the_same_image_is_known(tmp_path: Path) -> None:
    features = pictured(tmp_path / "images")
    gallery = read_gallery(written(tmp_path, features), SMALL)
    assert gallery.label_of(str(features.items.sha256[3])) == features.items.label[3]
    assert gallery.label_of("0" * 64) is None


def test_too_few_images_call_nothing_unlike(tmp_path: Path) -> None:
    gallery = read_gallery(written(tmp_path, pictured(tmp_path / "images")), SMALL)
    assert gallery.limit is None
    assert not gallery.is_unlike(2.0)


def test_the_limit_is_kept(tmp_path: Path) -> None:
    features = cluster_features(200)
    gallery = read_gallery(written(tmp_path, features), SMALL)
    assert gallery.limit is not None
    assert gallery.alpha == 0.01
    assert not gallery.is_unlike(gallery.limit)
    assert gallery.is_unlike(gallery.limit + 0.5)


Edit = Callable[[h5py.File], object]


def changed(name: str, values: object) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values)

    return edit


def about(**other: object) -> Edit:
    values = {"labels": ["benign", "melanoma"], "limit": None, "alpha": 0.01} | other
    return changed("about", np.frombuffer(json.dumps(values).encode(), np.uint8))


def bomb(file: h5py.File) -> None:
    del file["places"]
    file.create_dataset("places", (10**7, 10**5), "float16", chunks=(1, 10**5), compression="gzip")


def hollow(file: h5py.File) -> None:
    """Claims terabytes that were never written."""
    del file["pictures"]
    file.create_dataset("pictures", (10**12,), "uint8")


def elsewhere(file: h5py.File) -> None:
    del file["pictures"]
    file["pictures"] = h5py.ExternalLink("/etc/passwd", "/")


def outside(file: h5py.File) -> None:
    del file["pictures"]
    file.create_dataset("pictures", (10,), "uint8", external=[("/etc/passwd", 0, 10)])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (bomb, "not stored plainly"),
        (hollow, "claims"),
        (elsewhere, "is a link"),
        (outside, "not stored plainly"),
        (lambda file: file.create_dataset("more", data=[1]), "got the tables"),
        (lambda file: file.pop("axes"), "got the tables"),
        (changed("axes", np.zeros((3, 3), np.float16)), "axes"),
        (changed("axes", np.full((SMALL, SMALL), np.nan, np.float16)), "axes"),
        (changed("axes", np.zeros((3, 3))), "not a table of float16"),
        (changed("label", np.full(12, 9, np.uint16)), "label"),
        (changed("sha256", np.zeros((11, 32), np.uint8)), "sha256"),
        (changed("picture_ends", np.arange(12)[::-1].copy()), "pictures"),
        (changed("picture_ends", np.full(12, -5)), "pictures"),
        (changed("pictures", np.zeros(2**20, np.uint8)), "claims|pictures"),
        (about(alpha=2), "alpha"),
        (about(limit="near"), "limit"),
        (about(labels="no list"), "labels"),
        (changed("about", np.zeros(5, np.uint8)), "can't be read"),
    ],
)
def test_a_file_that_lies_is_refused(edit: Edit, reason: str, tmp_path: Path) -> None:
    data = io.BytesIO(written(tmp_path, pictured(tmp_path / "images")))
    with h5py.File(data, "r+") as file:
        edit(file)
    with pytest.raises(GalleryError, match=reason):
        read_gallery(data.getvalue(), SMALL)


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(GalleryError, match="can't be read"):
        read_gallery(content, SMALL)


def test_pictures_that_are_no_jpegs_are_refused(tmp_path: Path) -> None:
    data = io.BytesIO(written(tmp_path, pictured(tmp_path / "images")))
    with h5py.File(data, "r+") as file:
        file["pictures"][:3] = np.frombuffer(b"<sv", np.uint8)
    with pytest.raises(GalleryError, match="not a JPEG"):
        read_gallery(data.getvalue(), SMALL)


def test_a_bundle_has_one_or_has_not(tmp_path: Path) -> None:
    features = cluster_features()
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=3, jobs=1))
    bundle = publish_bundle(tmp_path / "with", comparison, features)
    assert bundle.gallery is not None
    assert set(bundle.gallery.sha256) == set(comparison.images["train"].sha256)
    without = publish_bundle(
        tmp_path / "without", comparison, features, BundleOptions(gallery=False)
    )
    assert without.gallery is None
    assert not (tmp_path / "without" / GALLERY).exists()
    path = tmp_path / "with" / GALLERY
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleRefused, match=GALLERY):
        load_bundle(tmp_path / "with")
    # As somebody would who knows how to seal it again.
    path.write_bytes(b"no gallery")
    values = json.loads((tmp_path / "with" / "bundle.json").read_text())
    del values["sealed"]
    values["files"][GALLERY] = {
        "sha256": hashlib.sha256(b"no gallery").hexdigest(),
        "bytes": 10,
    }
    (tmp_path / "with" / "bundle.json").write_bytes(seal(values))
    with pytest.raises(BundleRefused, match="not a gallery"):
        load_bundle(tmp_path / "with")


def test_pictures_of_the_replaced_bundle_are_taken_where_the_images_still_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = with_images(tmp_path / "images", cluster_features(40))
    comparison = compare_heads(features, Options(heads=["logistic_regression"], folds=2, jobs=1))
    folder = tmp_path / "bundle"

    def published(**more: bool) -> tuple[bytes | None, ...]:
        options = BundleOptions(overwrite=True, reuse=True, **more)
        gallery = publish_bundle(folder, comparison, features, options).gallery
        assert gallery is not None
        return gallery.thumbnails

    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    first, made = published(), []
    real = gallery_module.thumbnail
    monkeypatch.setattr(
        gallery_module, "thumbnail", lambda data, *a, **b: made.append(data) or real(data, *a, **b)
    )
    (tmp_path / "images" / str(features.items.path[0])).unlink()
    assert published() == (None, *first[1:])
    assert not made
    # Nothing is taken from a bundle that is not as it was written.
    path = folder / GALLERY
    path.write_bytes(path.read_bytes().replace(first[1][-40:], bytes(40)))
    assert pictures_of(folder) == {}
    assert published() == (None, *first[1:])
    assert len(made) == len(first) - 1
    monkeypatch.setattr(gallery_module, "_PICTURES", "another way")
    assert pictures_of(folder) == {}
    assert published(thumbnails=False) == (None,) * len(first)
    assert pictures_of(tmp_path / "none") == {}
