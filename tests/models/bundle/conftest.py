"""Bundles that tests get copies of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.report.publishing import publish_bundle
from tests.models.data.bundles import FEATURES, WEIGHTS, compared, trained


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundles lie that tests get copies of."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    if not (saved / "plain").exists():
        publish_bundle(saved / "plain", compared(), FEATURES)
    return Path(shutil.copytree(saved / "plain", tmp_path / "bundle"))


@pytest.fixture
def trained_folder(saved: Path, tmp_path: Path) -> Path:
    if not (saved / "trained").exists():
        weights = saved / "found.weights.h5"
        weights.write_bytes(WEIGHTS)
        publish_bundle(saved / "trained", *trained(weights))
    return Path(shutil.copytree(saved / "trained", tmp_path / "bundle"))
