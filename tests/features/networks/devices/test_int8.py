"""A network in 8-bit integers is one of its own, and gives nearly what the exact one gives."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.datasets.drawn import sample_lesion
from features.datasets.drawn_lesion import draw_lesion
from features.embedding.extractor import Extractor, load_extractor
from features.embedding.specification import ExtractorSpec
from features.errors import CacheMismatch, ExtractorError
from features.networks.converted import converted_network
from features.networks.devices.int8 import quantise
from features.networks.libraries import import_openvino
from features.networks.registry import NETWORKS, Recipe
from features.networks.weights import Source, resolve_weights

# More than ten, whose names no sorting of texts puts in order.
LAYERS = tuple(f"mixed{number}" for number in range(11))
SIDE = 75


def inception(precision: str) -> Extractor:
    recipe = Recipe(LAYERS, "mean+std", ("identity",), SIDE)
    return load_extractor(
        "inception_v3", "untrained", recipe=recipe, engine="openvino", precision=precision
    )


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths


@pytest.fixture(scope="module")
def quantised() -> Extractor:
    pytest.importorskip("nncf")
    return inception("int8")


@pytest.mark.slow
def test_it_is_kept_and_named_by_what_it_is(quantised: Extractor) -> None:
    assert quantised.spec.precision.startswith("int8:")
    assert inception("int8").spec == quantised.spec


@pytest.mark.slow
def test_embeddings_and_every_layer_are_near_the_exact_ones(quantised: Extractor) -> None:
    rng = np.random.default_rng(99)
    drawn = np.stack([draw_lesion(sample_lesion(rng, "melanoma"), SIDE) for _ in range(10)])
    exact = inception("fp32")
    assert cosine(quantised.embed(drawn), exact.embed(drawn)).min() > 0.97
    maps, theirs = quantised.look(drawn[:1])[0].maps, exact.look(drawn[:1])[0].maps
    assert list(maps) == list(LAYERS)
    for layer, each in maps.items():
        alike = {
            other: np.corrcoef(each.ravel(), values.ravel())[0, 1]
            for other, values in theirs.items()
            if values.shape == each.shape
        }
        assert max(alike, key=alike.__getitem__) == layer


@pytest.mark.slow
def test_what_sums_the_layers_up_stays_in_float32(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    network = NETWORKS["vgg16"]
    layers = ("block1_pool", "block2_pool")
    weights = resolve_weights(network, "untrained")
    exact = converted_network(Source(network, weights, layers, "mean+std", 32), "fp32")
    quantise(exact.path, tmp_path / "network.xml", 32)
    model = import_openvino().Core().read_model(tmp_path / "network.xml")
    rounded = [each for each in model.get_ops() if each.get_type_name() == "FakeQuantize"]
    followers = {
        target.get_node().get_type_name()
        for each in rounded
        for target in each.output(0).get_target_inputs()
    }
    assert "Convolution" in followers
    assert not followers & {"ReduceMean", "Multiply", "Power"}


@pytest.mark.slow
def test_convolutions_can_stay_in_float32(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    network = NETWORKS["vgg16"]
    weights = resolve_weights(network, "untrained")
    source = Source(network, weights, ("block1_pool", "block2_pool"), "mean+std", 32)
    plain = converted_network(source, "fp32")
    quantise(plain.path, tmp_path / "network.xml", 32, exact=(1, 2))
    model = import_openvino().Core().read_model(tmp_path / "network.xml")
    rounded = [
        each.input(0).get_source_output().get_node().get_type_name() == "FakeQuantize"
        for each in model.get_ordered_ops()
        if each.get_type_name() == "Convolution"
    ]
    assert rounded == [True, False, False, True]


def test_networks_that_were_quantised_differently_are_not_mixed() -> None:
    spec = ExtractorSpec("vgg16", "untrained", "0" * 64, 32, 512, ("block5_pool",))
    before, now = (replace(spec, precision=f"int8:{name * 12}") for name in "ab")
    with pytest.raises(CacheMismatch, match=r"precision int8:a+ against int8:b+.*quantised anew"):
        before.require(now, mine="features.h5", others="this run")
    with pytest.raises(CacheMismatch, match="use the same network, weights and options"):
        before.require(spec, mine="features.h5", others="this run")


def test_where_what_quantises_is_missing_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ExtractorError, match="int8 needs NNCF, which is not installed: run `pip"):
        quantise(tmp_path / "none.xml", tmp_path / "network.xml", 32)
