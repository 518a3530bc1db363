from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import extract_features

SMALL = ("--network", "mobilenet", "--weights", "untrained", "--recipe", "fast", "--size", "32")


def test_one_shard_of_a_cluster_s_is_no_choice(folder_of_images: Callable[..., Path]) -> None:
    images = folder_of_images("a/1.jpg")
    words = [str(images), "--cluster", "auto", "--shard", "1/2"]
    told = CliRunner().invoke(extract_features.main, words)
    assert told.exit_code == 2
    assert "got --shard and --cluster" in told.output


def test_without_ray_the_command_says_how_to_get_it_and_makes_nothing(
    folder_of_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    images, out = folder_of_images("a/1.jpg", "b/2.jpg"), tmp_path / "out"
    words = [str(images), "--out", str(out), "--cluster", "auto", *SMALL]
    told = CliRunner().invoke(extract_features.main, words)
    assert told.exit_code == 1
    assert "error: --cluster needs Ray Data, which is not installed" in told.output
    assert "pip install '.[cluster]'" in told.output
    assert not list(out.glob("*.h5"))
    # Listing images may take minutes: it begins only when there is a cluster to send them to.
    assert "the class" not in told.output


def test_a_feature_file_is_no_place_for_shards(
    folder_of_images: Callable[..., Path], tmp_path: Path
) -> None:
    images = folder_of_images("a/1.jpg", "b/2.jpg")
    words = [str(images), "--out", str(tmp_path / "features.h5"), "--cluster", "auto", *SMALL]
    told = CliRunner().invoke(extract_features.main, words)
    assert told.exit_code == 1
    assert "would be a file, and shards lie in a folder" in told.output
