"""A bundle is written whole, with the weights that it needs, or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.ensemble import RandomForestClassifier

from models.bundle.loading import load_bundle
from models.bundle.manifest import BundleRefused
from models.bundle.saving import BundleOptions, find_weights
from models.bundle.staging import require_free
from models.heads.files import HeadFileError
from models.report.publishing import publish_bundle
from tests.models.data.bundles import FEATURES, WEIGHTS, compared, trained
from tests.models.data.cached import spec_of

pytestmark = pytest.mark.usefixtures("no_openvino")


@pytest.mark.parametrize("name", ["found.weights.h5", "found.h5"])
def test_the_weights_come_along_and_keep_what_keras_reads_from_their_name(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(WEIGHTS)
    bundle = publish_bundle(tmp_path / "bundle", *trained(tmp_path / name))
    (path,) = bundle.network_paths
    assert path is not None
    assert path.name == name.replace("found", "network")
    assert path.read_bytes() == WEIGHTS
    assert bundle.marks == ("synthetic",)


def test_weights_that_moved_are_asked_for(tmp_path: Path) -> None:
    comparison, features = trained(tmp_path / "gone.h5")
    with pytest.raises(BundleRefused, match=r"gone\.h5.*--weights PATH"):
        publish_bundle(tmp_path / "bundle", comparison, features)
    with pytest.raises(BundleRefused, match="give their file"):
        find_weights(replace(features, weights_path=""))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "here.h5").write_bytes(WEIGHTS)
    publish_bundle(
        tmp_path / "bundle", comparison, features, BundleOptions(weights=tmp_path / "here.h5")
    )


def test_random_weights_come_along_where_no_seed_gives_them_again(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(WEIGHTS)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    spec = spec_of(weights="untrained", weights_sha256=digest, preparation=('outputs = ["map"]',))
    assert find_weights(replace(FEATURES, spec=spec, weights_path=str(path))) == path
    assert find_weights(replace(FEATURES, spec=replace(spec, preparation=()))) is None


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.h5").write_bytes(b"other weights")
    with pytest.raises(BundleRefused, match=r"other\.h5 .* is not the weights file"):
        find_weights(trained()[1], tmp_path / "other.h5")


def test_a_folder_with_something_in_it_is_left_alone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="exists and is not empty"):
        publish_bundle(folder, compared(), FEATURES)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("years of work")
    with pytest.raises(BundleRefused, match="is not a bundle, so --overwrite"):
        publish_bundle(tmp_path / "thesis", compared(), FEATURES, BundleOptions(overwrite=True))
    (folder / "text").write_text("a note")
    with pytest.raises(BundleRefused, match="also holds text"):
        publish_bundle(folder, compared(), FEATURES, BundleOptions(overwrite=True))
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleRefused, match="is not a folder"):
        require_free(tmp_path / "file")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    assert publish_bundle(tmp_path / "bundle", compared(), FEATURES)


def test_a_bundle_is_replaced_when_asked(folder: Path) -> None:
    bundle = publish_bundle(folder, compared("xgboost"), FEATURES, BundleOptions(overwrite=True))
    assert bundle.head_name == "xgboost"
    assert {path.name for path in folder.iterdir()} == {
        "bundle.json", "head.json", "comparison.json", "gallery.h5", "report.html", "MODEL_CARD.md",
    }  # fmt: skip
    assert list(folder.parent.iterdir()) == [folder]


def test_a_bundle_behind_a_link_is_replaced_there(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(folder)
    publish_bundle(link, compared("xgboost"), FEATURES, BundleOptions(overwrite=True))
    assert link.is_symlink()
    assert load_bundle(folder).head_name == "xgboost"


def test_a_failure_leaves_the_old_bundle(folder: Path) -> None:
    other = replace(
        compared().best, estimator=RandomForestClassifier(2).fit([[0.0], [1.0]], [0, 1])
    )
    broken = replace(compared(), heads={"logistic_regression": other})
    with pytest.raises(HeadFileError, match="RandomForest"):
        publish_bundle(folder, broken, FEATURES, BundleOptions(overwrite=True))
    assert load_bundle(folder).head_name == "logistic_regression"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleRefused, match="can't be written"):
        publish_bundle(tmp_path / "file" / "bundle", compared(), FEATURES)
