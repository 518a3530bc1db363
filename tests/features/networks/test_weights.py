"""What is said of what a network was trained on."""

from __future__ import annotations

import pytest

from features.networks.registry import NETWORKS
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
