"""A function that gives a Keras model, as --network package.module:function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.embedding.extractor import (
    converted_extractor,
    converted_files,
    load_extractor,
    rebuild_extractor,
)
from features.errors import ExtractorError
from features.networks.imported.lookup import find_network
from features.networks.weights import file_sha256
from tests.features.networks.imported import own_models

HERE = own_models.__name__


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def scaled() -> np.ndarray:
    return (noise() / np.float32(255) - 0.5) / np.array([0.2, 0.25, 0.5], np.float32)


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_a_layer_of_an_own_model_is_read_as_the_model_gives_it(engine: str) -> None:
    network, weights = find_network(f"{HERE}:described")
    assert weights is not None
    extractor = load_extractor(network, weights, recipe="fast", engine=engine, precision="fp32")
    model = own_models.plain()
    maps = np.maximum(0, np.asarray(model.get_layer("body")(scaled())))
    np.testing.assert_allclose(
        extractor.embed(noise()), maps.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(extractor.look(noise())[0].maps["body"], maps, rtol=1e-4, atol=1e-5)
    assert extractor.spec.network == f"{HERE}:described"
    assert extractor.spec.weights_sha256 == file_sha256(weights)


def test_its_output_is_read_where_nothing_else_is_named() -> None:
    network, weights = find_network(f"{HERE}:vector")
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    expected = np.asarray(own_models.plain()(scaled()))
    np.testing.assert_allclose(extractor.embed(noise()), expected, rtol=1e-4, atol=1e-5)
    assert extractor.spec.spread == ()


def test_the_same_model_is_known_by_the_same_fingerprint_and_another_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prints = []
    for activation in ("relu", "relu", "tanh"):
        monkeypatch.setitem(own_models.ACTIVATION, "body", activation)
        network, weights = find_network(f"{HERE}:described")
        prints.append(load_extractor(network, weights or "", recipe="fast").spec.fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_a_bundle_takes_the_converted_network_and_runs_no_code(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, weights = find_network(f"{HERE}:described")
    assert weights is not None
    extractor = load_extractor(network, weights, recipe="fast", precision="fp32", engine=engine)
    with pytest.raises(ExtractorError, match="not in the cache folder as it was converted"):
        converted_files(extractor.spec, weights)
    before = extractor.embed(noise())

    def forbidden() -> None:
        raise AssertionError("the function was called")

    monkeypatch.setattr(own_models, "described", forbidden)
    files = converted_files(extractor.spec, weights)
    assert files is not None
    after = converted_extractor(extractor.spec, files[0]).embed(noise())
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    with pytest.raises(ExtractorError, match="only served as it was converted"):
        rebuild_extractor(extractor.spec, weights)


def test_a_function_that_now_gives_another_model_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, weights = find_network(f"{HERE}:described")
    monkeypatch.setitem(own_models.ACTIVATION, "body", "tanh")
    extractor = load_extractor(network, weights or "", recipe="fast", engine="keras")
    with pytest.raises(ExtractorError, match="gives another model than the one that was used"):
        extractor.prepare()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere:model", "there is no function nowhere:model .*No module named"),
        (f"{HERE}:nothing", "has no attribute 'nothing'"),
        (f"{HERE}:DESCRIPTION", "is no function"),
        (f"{HERE}:wrong", "gave dict, expected a Keras model"),
        (f"{HERE}:plain", r"says not how it wants its pixels.*takes .*32, 32, 3"),
        (f"{HERE}:misdescribed", r"described as taking \[48, 48, 3\] .*takes .*32, 32, 3"),
    ],
)
def test_what_is_no_described_model_is_refused_with_a_sentence(name: str, reason: str) -> None:
    with pytest.raises(ExtractorError, match=reason):
        find_network(name)


def test_a_description_may_lie_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\n[input]\nsize = 32\nlayout = "NHWC"\nrange = [0, 1]\nmean = 0.5\n'
        'deviation = [0.2, 0.25, 0.5]\n[output]\nnames = ["body"]\n'
    )
    told = find_network(f"{HERE}:plain", path)[0]
    assert told.preparation == find_network(f"{HERE}:described")[0].preparation
    path.write_text(path.read_text().replace("body", "soul"))
    with pytest.raises(ExtractorError, match="'soul'; found in the model"):
        find_network(f"{HERE}:plain", path)
