"""Maps carry the names of their layers, however many layers a recipe reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from features.embedding.extractor import (
    Extractor,
    converted_extractor,
    load_extractor,
)
from features.networks.converted import converted_network
from features.networks.imported.lookup import find_network
from features.networks.registry import NETWORKS, Recipe
from features.networks.weights import Source, resolve_weights
from tests.features.networks.imported.onnx_files import CHANNELS, DESCRIPTION, SIDE, save, tiny

ENGINES = ("keras", "openvino")
LAYERS = tuple(f"mixed{number}" for number in range(11))
SIDE_OF_INPUT = 75


def inception(layers: Sequence[str], engine: str) -> Extractor:
    recipe = Recipe(tuple(layers), "mean", ("identity",), SIDE_OF_INPUT)
    return load_extractor(
        "inception_v3", "untrained", recipe=recipe, engine=engine, precision="fp32"
    )


def noise(side: int = SIDE_OF_INPUT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)


@pytest.mark.parametrize("count", [3, 11])
def test_openvino_names_layers_as_keras_does(count: int) -> None:
    expected, found = (inception(LAYERS[:count], engine).look(noise())[0] for engine in ENGINES)
    assert list(found.maps) == list(LAYERS[:count])
    for layer, maps in expected.maps.items():
        assert found.maps[layer].shape == maps.shape
        np.testing.assert_allclose(found.maps[layer], maps, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("serving", [False, True])
def test_so_does_a_network_that_was_bundled_before(serving: bool) -> None:
    extractor = inception(LAYERS, "keras")
    expected = extractor.look(noise())[0]
    network = NETWORKS["inception_v3"]
    weights = resolve_weights(network, "untrained")
    converted = converted_network(Source(network, weights, LAYERS, "mean", SIDE_OF_INPUT), "fp32")
    bundled = converted_extractor(extractor.spec, converted.path, serving=serving)
    found = bundled.look(noise())[0]
    for layer, maps in found.maps.items():
        np.testing.assert_allclose(maps, expected.maps[layer], rtol=1e-3, atol=1e-3)


def test_so_does_an_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    names = [f"times{number}" for number in range(1, 13)]
    factors = [
        numpy_helper.from_array(np.array(number, np.float32), f"factor{number}")
        for number in range(1, 13)
    ]
    nodes = [
        helper.make_node("Mul", ["map", f"factor{number}"], [f"times{number}"])
        for number in range(1, 13)
    ]
    model = tiny(nodes, [(name, ("n", CHANNELS, 8, 8)) for name in names], factors)
    described = f"{DESCRIPTION}\n[output]\nnames = {names}\n".replace("'", '"')
    network, weights = find_network(str(save(model, tmp_path / "a.onnx", described)))
    extractor = load_extractor(network, weights or "", recipe="fast", precision="fp32")
    maps = extractor.look(noise(SIDE))[0].maps
    assert list(maps) == names
    for number, name in enumerate(names, start=1):
        np.testing.assert_allclose(maps[name], number * maps["times1"], rtol=1e-4)
