"""Bundles in the cloud: brought here whole, by their hashes, from a real S3 server and the web."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from features.errors import StorageError
from features.storage.addresses import as_place
from models.__main__ import main
from models.bundle.fetching import BundlePlace, fetch_bundle
from models.bundle.loading import load_bundle
from models.bundle.manifest import MANIFEST, BundleRefused
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.features.storage.clouds import Fault, Proxy
from tests.features.storage.servers import BUCKET
from tests.models.data.cached import cluster_features, spec_of

PLACE = f"s3://{BUCKET}/served/bundle"


def fit(folder: Path, seed: int = 0) -> Path:
    features = cluster_features(spec=spec_of(None))
    options = Options(heads=["logistic_regression"], folds=3, jobs=1, seed=seed)
    publish_bundle(folder, compare_heads(features, options), features)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("fetched") / "bundle")


def upload(put: Callable[[str, bytes], str], folder: Path) -> str:
    for file in folder.iterdir():
        put(f"served/bundle/{file.name}", file.read_bytes())
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def test_a_bundle_is_brought_once_and_is_what_was_meant(
    s3: Proxy, put: Callable[[str, bytes], str], bundle: Path, tmp_path: Path
) -> None:
    assert fetch_bundle(bundle) == bundle
    digest = upload(put, bundle)
    s3.faults.append(Fault("GET", MANIFEST, "cut"))
    folder = fetch_bundle(f"{PLACE}#sha256={digest}")
    assert folder.name == "bundle"
    assert load_bundle(folder).identity == load_bundle(bundle).identity
    s3.asked.clear()
    assert fetch_bundle(PLACE) == folder
    assert len(s3.asked) == 1
    with pytest.raises(BundleRefused, match=f"sha256 {digest}, expected {'0' * 64}"):
        fetch_bundle(f"{PLACE}#sha256={'0' * 64}")
    shown = CliRunner().invoke(main, ["show", PLACE])
    assert digest in shown.output
    # What is damaged here is brought anew.
    (folder / "report.html").unlink()
    assert load_bundle(fetch_bundle(PLACE)).identity == load_bundle(bundle).identity
    # Another one at the same address is another copy.
    other = fit(tmp_path / "other", seed=1)
    upload(put, other)
    assert load_bundle(fetch_bundle(PLACE)).identity == load_bundle(other).identity


def test_a_bundle_is_put_there_with_its_manifest_last(s3: Proxy, bundle: Path) -> None:
    place = BundlePlace(as_place(PLACE), overwrite=False)
    shutil.copytree(bundle, place.folder)
    s3.asked.clear()
    place.put()
    puts = [path for method, path in s3.asked if method == "PUT"]
    assert len(puts) == len(list(bundle.iterdir()))
    assert puts[-1].endswith(MANIFEST)
    assert load_bundle(fetch_bundle(PLACE)).identity == load_bundle(bundle).identity
    with pytest.raises(BundleRefused, match=r"there is a bundle at .*--overwrite"):
        BundlePlace(as_place(PLACE), overwrite=False)
    assert not BundlePlace(as_place(PLACE), overwrite=True).folder.exists()
    assert BundlePlace(bundle, overwrite=False).folder == bundle


def test_what_is_no_bundle_or_altered_is_refused_by_its_address(
    s3: Proxy, put: Callable[[str, bytes], str], bundle: Path
) -> None:
    with pytest.raises(BundleRefused, match=f"there is no bundle at {PLACE}"):
        fetch_bundle(PLACE)
    upload(put, bundle)
    put("served/bundle/report.html", b"another page")
    with pytest.raises(BundleRefused, match=f"the bundle {PLACE} was altered or damaged: report"):
        fetch_bundle(PLACE)
    with pytest.raises(StorageError, match="has a secret in it"):
        fetch_bundle(f"s3://key:word@{BUCKET}/bundle")


def test_the_web_serves_a_bundle_without_a_listing(
    web: tuple[str, Path], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "kept"))
    url, folder = web
    shutil.copytree(bundle, folder / "bundle")
    assert load_bundle(fetch_bundle(f"{url}/bundle")).identity == load_bundle(bundle).identity
    (folder / "bundle" / "report.html").unlink()
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "others"))
    with pytest.raises(BundleRefused, match=r"the bundle http://.* is incomplete: report.html"):
        fetch_bundle(f"{url}/bundle")
