"""A bundle comes back as it was written, or is refused with the reason."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.embedding.joined import JoinedSpec
from models.bundle.loading import Bundle, load_bundle
from models.bundle.manifest import BundleRefused, seal
from models.heads import HEADS
from models.heads.base import score
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.bundles import FEATURES, compared
from tests.models.data.cached import SMALL, cluster_features, spec_of

pytestmark = pytest.mark.usefixtures("no_openvino")


FILES = (
    "bundle.json",
    "head.linear.safetensors",
    "network.weights.h5",
    "comparison.json",
    "gallery.h5",
    "report.html",
    "MODEL_CARD.md",
)


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit bundle.json and seal it again, as somebody would who knows how."""
    values = json.loads((folder / "bundle.json").read_text())
    del values["sealed"]
    edit(values)
    (folder / "bundle.json").write_bytes(seal(values))


def add_file(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    (folder / name).write_bytes(content)
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


@pytest.mark.parametrize("name", list(HEADS))
def test_a_bundle_comes_back(name: str, tmp_path: Path) -> None:
    comparison = compared(name)
    bundle = publish_bundle(tmp_path / "new" / "bundle", comparison, FEATURES)
    head, X = comparison.best, FEATURES.embeddings
    assert isinstance(bundle, Bundle)
    assert bundle.spec == JoinedSpec((FEATURES.spec,))
    assert bundle.fingerprint == FEATURES.fingerprint
    assert bundle.labels == ("benign", "melanoma")
    assert (bundle.head_name, bundle.head_title) == (name, HEADS[name].title)
    assert bundle.settings == head.settings
    assert bundle.decision == head.decision
    assert bundle.marks == ("untrained", "synthetic")
    assert bundle.counts == comparison.counts
    assert list(bundle.metrics) == ["cross-validation", "valid", "test"]
    assert bundle.metrics["test"]["auc"]["value"] == head.evaluations["test"].auc.value  # type: ignore[union-attr]
    assert bundle.versions["features"] == {"python": "3.12"}
    assert bundle.network_paths == (None,)
    np.testing.assert_array_equal(bundle.score(X), score(head.estimator, X))
    expected = head.decision.calibration.apply(bundle.score(X))
    np.testing.assert_array_equal(bundle.probability(X), expected)
    assert not list((tmp_path / "new").glob(".*")), "something was left behind"


def test_the_same_comparison_gives_the_same_head_and_figures(tmp_path: Path) -> None:
    for name in ("one", "two"):
        publish_bundle(tmp_path / name, compared(), FEATURES)
    for name in ("head.linear.safetensors", "comparison.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_comparison_json_holds_the_figures_and_the_marks(folder: Path) -> None:
    figures = json.loads((folder / "comparison.json").read_text())
    assert figures["marks"] == ["untrained", "synthetic"]
    assert figures["heads"]["logistic_regression"]["evaluations"]["valid"]["auc"]["low"] < 1


@pytest.mark.parametrize("name", FILES)
def test_an_altered_byte_is_found(name: str, trained_folder: Path) -> None:
    assert load_bundle(trained_folder)
    path = trained_folder / name
    right = path.read_bytes()
    places = sorted({0, len(right) - 1, *range(3, len(right), max(1, len(right) // 200))})
    for place in places:
        path.write_bytes(right[:place] + bytes([right[place] ^ 1]) + right[place + 1 :])
        with pytest.raises(BundleRefused, match=r"altered or damaged|format version"):
            load_bundle(trained_folder)
    for wrong in (right + b"\n", right[:-1], b""):
        path.write_bytes(wrong)
        with pytest.raises(BundleRefused, match="altered or damaged"):
            load_bundle(trained_folder)
    path.write_bytes(right)
    assert load_bundle(trained_folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, trained_folder: Path) -> None:
    (trained_folder / name).unlink()
    with pytest.raises(BundleRefused, match=f"incomplete.*{re.escape(name)}"):
        load_bundle(trained_folder)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match=r"there is no bundle .*fit_classifier\.py"):
        load_bundle(tmp_path / "none")
    with pytest.raises(BundleRefused, match=r"has no bundle\.json"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("version", "advice"), [(4, "update the program"), (0, "train the classifier again")]
)
def test_other_format_versions_are_named(version: int, advice: str, folder: Path) -> None:
    change(folder, lambda values: values.update(version=version, unheard_of=True))
    with pytest.raises(BundleRefused, match=f"format version {version}.*{advice}"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/b", "..", "", "a\\b", "a\x00b"])
def test_a_file_outside_of_the_folder_is_never_opened(name: str, folder: Path) -> None:
    (folder.parent / "outside").write_bytes(b"secret")
    known = {"sha256": hashlib.sha256(b"secret").hexdigest(), "bytes": 6}
    change(folder, lambda values: values["files"].update({name: known}))
    with pytest.raises(BundleRefused, match="outside of the folder"):
        load_bundle(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "report.html").rename(outside)
    (folder / "report.html").symlink_to(outside)
    with pytest.raises(BundleRefused, match=r"report\.html is a link to somewhere else"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values.pop("threshold"),
        lambda values: values.update(extra=1),
        lambda values: values.update(threshold="0.5"),
        lambda values: values.update(threshold=True),
        lambda values: values.update(threshold=1.5),
        lambda values: values.update(labels=["melanoma"]),
        lambda values: values.update(labels=["melanoma", "benign"]),
        lambda values: values.update(labels=["benign", 3], positive="benign"),
        lambda values: values.update(marks=["synthetic"]),
        lambda values: values.update(marks=["untrained", "splendid"]),
        lambda values: values.update(marks=[["untrained"]]),
        lambda values: values.update(notes=[1]),
        lambda values: values.update(calibration={"method": "platt", "slope": "x"}),
        lambda values: values.update(fingerprint="0" * 64),
        lambda values: values.update(networks=[]),
        lambda values: values.update(networks=2 * values["networks"]),
        lambda values: values.update(networks=["network"]),
        lambda values: values["networks"][0].update(extra=1),
        lambda values: values["networks"][0].update(trained_on=None),
        lambda values: values["networks"][0].update(extractor={}),
        lambda values: values["networks"][0]["extractor"].update(input_size=299),
        lambda values: values.update(head_file="report.html"),
        lambda values: values.update(head_file="../head.linear.safetensors"),
        lambda values: values.update(head_file="head.json"),
        lambda values: values["networks"][0].update(network_file="network.h5"),
        lambda values: values["files"].pop("report.html"),
        lambda values: values["files"].update({"report.html": "a"}),
        lambda values: values["files"]["report.html"].update(sha256="../x"),
        lambda values: values.update(files=[]),
        lambda values: values.update(format="another"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    edit: Callable[[dict[str, Any]], object], folder: Path
) -> None:
    change(folder, edit)
    with pytest.raises(BundleRefused, match=r"altered or damaged: "):
        load_bundle(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_bundle_json_that_is_no_such_thing_is_refused(text: bytes, folder: Path) -> None:
    (folder / "bundle.json").write_bytes(text)
    with pytest.raises(BundleRefused, match="altered or damaged"):
        load_bundle(folder)


def test_a_head_for_other_embeddings_is_refused(folder: Path) -> None:
    other = cluster_features(spec=spec_of(SMALL + 1))
    comparison = compare_heads(other, Options(heads=["logistic_regression"], folds=3, jobs=1))
    publish_bundle(folder.parent / "other", comparison, other)
    content = (folder.parent / "other" / "head.linear.safetensors").read_bytes()
    known = add_file(folder, "head.linear.safetensors", content)
    change(folder, lambda values: values["files"].update({"head.linear.safetensors": known}))
    with pytest.raises(BundleRefused, match=f"{SMALL + 1} numbers .* expected {SMALL} and 2"):
        load_bundle(folder)


def test_a_head_that_is_none_is_refused(folder: Path) -> None:
    known = add_file(folder, "head.linear.safetensors", b"PK\x05\x06" + bytes(18))
    change(folder, lambda values: values["files"].update({"head.linear.safetensors": known}))
    with pytest.raises(BundleRefused, match=r"head\.linear\.safetensors is not a head"):
        load_bundle(folder)


def test_another_network_is_refused(trained_folder: Path) -> None:
    known = add_file(trained_folder, "network.weights.h5", b"other weights")
    change(trained_folder, lambda values: values["files"].update({"network.weights.h5": known}))
    with pytest.raises(BundleRefused, match="is not the network that its fingerprint names"):
        load_bundle(trained_folder)


def test_a_copied_bundle_is_as_good(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert load_bundle(tmp_path / "copy").fingerprint == load_bundle(folder).fingerprint


@pytest.mark.parametrize(
    "zone",
    [
        {"lower": 0.9, "upper": 0.1, "alpha": 0.1},
        {"lower": 0.0, "upper": 1.5, "alpha": 0.1},
        {"lower": 0.0, "upper": 1.0, "alpha": 0},
        {"lower": 0.0, "upper": 1.0},
        {"lower": "x", "upper": 1.0, "alpha": 0.1},
        {"lower": 0.9999, "upper": 1.0, "alpha": 0.1},
        [],
    ],
)
def test_a_zone_without_sense_is_refused(zone: Any, folder: Path) -> None:
    change(folder, lambda values: values.update(zone=zone))
    with pytest.raises(BundleRefused, match=r"altered or damaged: .*zone"):
        load_bundle(folder)


def test_the_zone_comes_back_and_holds_the_threshold(folder: Path) -> None:
    decision = load_bundle(folder).decision
    assert decision.zone is not None
    assert decision.zone.holds(decision.threshold)
    assert decision.zone.alpha == 0.1


@pytest.mark.parametrize("version", [1, 2])
def test_older_bundles_of_one_network_are_read(version: int, folder: Path) -> None:
    before = load_bundle(folder)

    def older(values: dict[str, Any]) -> None:
        values["version"] = version
        (network,) = values.pop("networks")
        values |= {name: network[name] for name in ("extractor", "network_file")}
        if version == 1:
            del values["zone"]

    change(folder, older)
    bundle = load_bundle(folder)
    assert (bundle.spec, bundle.network_paths) == (before.spec, before.network_paths)
    assert bundle.decision.zone == (before.decision.zone if version == 2 else None)
    assert bundle.networks[0].trained_on == ""


def test_a_version_without_its_fields_is_refused(folder: Path) -> None:
    change(folder, lambda values: values.update(version=1))
    with pytest.raises(BundleRefused, match=r"missing or unknown fields: .*networks, zone"):
        load_bundle(folder)
