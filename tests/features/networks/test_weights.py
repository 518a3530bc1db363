"""What is said of what a network was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from features.errors import StorageError
from features.networks.registry import NETWORKS, OnnxFile
from features.networks.weights import may_have_seen, resolve_weights
from tests.features.networks.test_registry import origin_of


@pytest.mark.parametrize(
    "told",
    [
        "ISIC 2019",
        "HAM10000",
        "ham 10k",
        "Derm1M",
        "BCN20000",
        "SIIM-ISIC",
        "MSKCC",
        "skin lesions",
    ],
)
def test_training_on_pictures_of_skin_is_warned_of(told: str) -> None:
    warning = may_have_seen(told)
    assert warning is not None
    assert told in warning


@pytest.mark.parametrize(
    "told", ["", "ImageNet-1k", "LVD-142M", "physics", "molecules", "JFT-300M"]
)
def test_other_training_is_not(told: str) -> None:
    assert may_have_seen(told) is None


def test_no_network_that_is_known_by_name_has_seen_skin() -> None:
    assert not any(may_have_seen(network.trained_on) for network in NETWORKS.values())
    assert all(network.licence for network in NETWORKS.values())


def test_of_a_file_of_the_users_own_nothing_is_known(tmp_path, monkeypatch) -> None:
    network = NETWORKS["vgg16"]
    (tmp_path / "models").mkdir()
    kept = tmp_path / "models" / origin_of(network).file
    kept.write_bytes(b"weights")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert resolve_weights(network, "imagenet").trained_on == "ImageNet-1k"
    assert resolve_weights(network, kept).trained_on == ""
    assert resolve_weights(network, "untrained").trained_on == ""


def test_weights_at_an_address_are_fetched_and_known_by_their_hash(
    put: Callable[[str, bytes], str],
) -> None:
    network = NETWORKS["vgg16"]
    place = put("weights/net.weights.h5", b"weights")
    found = resolve_weights(network, place)
    assert found.path is not None
    assert (found.path.name, found.path.read_bytes()) == ("net.weights.h5", b"weights")
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    pinned = f"{place}#sha256={found.sha256}"
    assert resolve_weights(network, pinned) == found
    with pytest.raises(StorageError, match="there is nothing at"):
        resolve_weights(network, place.replace("net", "none"))


def test_a_secret_in_the_address_of_weights_is_in_no_sentence(tmp_path: Path) -> None:
    network = replace(NETWORKS["vgg16"], origin=OnnxFile(tmp_path / "net.onnx", "x", "NCHW", {}, 0))
    with pytest.raises(StorageError, match="has a secret in it") as refused:
        resolve_weights(network, "https://me:wJalrXUtn@host/net.h5")
    assert "wJalrXUtn" not in str(refused.value)
