"""What every entry of the registry promises: that it says of its network what Keras does."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from features.embedding.extractor import load_extractor
from features.images.decoding import load_pixels
from features.networks.keras import build_base, import_keras, layer_output, preprocess
from features.networks.registry import (
    DEFAULT_NETWORK,
    NETWORKS,
    RECIPES,
    KerasApplication,
    Network,
    Preprocessing,
)
from features.networks.untrained import DATA, set_untrained_weights, untrained_sha256
from scripts.keras_networks import describe, functions
from scripts.untrained import measure_statistics
from tests.conftest import ROOT
from tests.pictures import image_bytes

every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
# One of each kind that Keras scales the pixels of in a way of its own; the others take long.
QUICK = ("inception_v3", "vgg16", "efficientnet_b0", "mobilenet_v3_small")
quick_networks = pytest.mark.parametrize("network", [NETWORKS[name] for name in QUICK], ids=QUICK)


def origin_of(network: Network) -> KerasApplication:
    assert isinstance(network.origin, KerasApplication)
    return network.origin


def some(networks: Iterable[Network]) -> pytest.MarkDecorator:
    """Take these networks, all but the quick ones only if slow tests are run."""
    return pytest.mark.parametrize(
        "network",
        [
            pytest.param(each, marks=() if each.name in QUICK else pytest.mark.slow, id=each.name)
            for each in networks
        ],
    )


def up_to(parameters: int) -> list[Network]:
    """Take the networks of a size; larger ones are built as the smaller of their kind are."""
    return [
        each
        for each in NETWORKS.values()
        if each.name in QUICK or (each.parameters or 0) <= parameters
    ]


def smallest_of_each_kind(networks: Iterable[Network]) -> list[Network]:
    """Take one of those that Keras builds by the same function, with more or fewer of a block."""
    kinds: dict[str, Network] = {}
    for each in sorted(networks, key=lambda network: network.parameters or 0):
        kinds.setdefault(origin_of(each).module, each)
    return list(kinds.values())


def side_of(network: Network) -> int:
    # Keras takes no other input for the ImageNet weights of these.
    return 224 if network.name == "nasnet_mobile" else network.smallest_input


def test_all_networks_of_keras_applications_are_known() -> None:
    assert {origin_of(network).function for network in NETWORKS.values()} == set(functions())


@every_network
def test_pixels_are_prepared_as_keras_prepares_them(network: Network) -> None:
    module = getattr(import_keras().applications, origin_of(network).module)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), np.uint8).astype(np.float32)
    theirs = np.asarray(module.preprocess_input(pixels.copy()))
    np.testing.assert_allclose(
        preprocess(pixels, network.preprocessing), theirs, rtol=1e-5, atol=1e-5
    )


@some(smallest_of_each_kind(up_to(15_000_000)))
def test_embeddings_are_those_of_keras_with_its_own_weights_and_preprocessing(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, size = origin_of(network), side_of(network)
    base = build_base(origin, size)
    set_untrained_weights(base, origin)
    for layer in base.layers:
        if hasattr(layer, "adapt_mean"):
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign([0.229, 0.224, 0.225])
    weights = tmp_path / "given.weights.h5"
    base.save_weights(weights)
    # Keras builds some networks otherwise where it fetches the weights itself.
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(weights))
    build = getattr(import_keras().applications, origin.function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        reference = build(weights="imagenet", include_top=False, input_shape=(size, size, 3))
    pixels = np.stack([load_pixels(image_bytes(seed), size) for seed in range(3)])
    module = getattr(import_keras().applications, origin.module)
    maps = np.asarray(reference(module.preprocess_input(pixels.astype("float32")), training=False))
    extractor = load_extractor(
        network.name, weights, recipe="fast", input_size=size, precision="fp32"
    )
    embeddings = extractor.embed(pixels)
    assert embeddings.shape == (3, extractor.spec.dim)
    assert embeddings.dtype == np.float32
    expected = maps.mean(axis=(1, 2))
    assert np.linalg.norm(embeddings - expected) < 1e-4 * np.linalg.norm(expected)
    assert np.ptp(embeddings, axis=0).max() > 0


@some(up_to(30_000_000))
def test_the_table_says_what_keras_says(network: Network) -> None:
    origin, told = origin_of(network), describe(origin_of(network).function)
    assert told["weights"] == origin.url
    assert (told["file"], told["md5"]) == (origin.file, origin.md5)
    assert told["module"] == origin.module
    assert told["input_size"] == network.input_size
    assert told["smallest_input"] == network.smallest_input
    assert told["parameters"] == network.parameters
    if network.name not in ("inception_v3", "vgg16"):
        assert told["layers"] == dict(network.layers)
        assert told["untrained_sha256"] == origin.untrained_sha256
        assert told.get("rescaled") == (list(origin.rescaled) if origin.rescaled else None)


def test_every_step_of_preprocessing_is_taken_in_the_order_of_the_channels() -> None:
    how = Preprocessing("BGR", divisor=2.0, mean=(1.0, 2.0, 3.0), deviation=(1.0, 2.0, 4.0))
    pixels = np.array([[[10.0, 20.0, 30.0]]], np.float32)
    np.testing.assert_array_equal(preprocess(pixels, how), [[[14.0, 4.0, 0.5]]])
    np.testing.assert_array_equal(preprocess(pixels, Preprocessing()), pixels)


@quick_networks
def test_the_layers_have_the_channels_that_keras_gives_them(network: Network) -> None:
    base = build_base(origin_of(network), side_of(network))
    assert dict(network.layers) == {
        name: layer_output(base, name).shape[-1] for name in network.layers
    }


@quick_networks
def test_untrained_weights_are_the_same_everywhere(network: Network) -> None:
    origin = origin_of(network)
    base = build_base(origin, side_of(network))
    set_untrained_weights(base, origin)
    assert untrained_sha256(base) == origin.untrained_sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [each for each in NETWORKS.values() if origin_of(each).untrained_statistics],
    ids=lambda network: network.name,
)
def test_the_stored_statistics_are_those_of_drawn_lesions(network: Network) -> None:
    stored = np.load(DATA / str(origin_of(network).untrained_statistics))
    for name, measured in measure_statistics(network).items():
        assert np.corrcoef(stored[name], measured)[0, 1] > 0.95, name


def test_the_command_line_offers_every_network_and_recipe_without_loading_any() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, extract_features\n"
            "try: extract_features.main(['--help'])\n"
            "except SystemExit: print(sorted({'numpy', 'keras', 'tensorflow'} & set(sys.modules)))",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "NAME|FILE.onnx|timm:NAME|hf:NAME|PACKAGE.MODULE:FUNCTION" in told
    assert f"[{'|'.join(RECIPES)}]" in told
    assert f"[default: {DEFAULT_NETWORK}]" in told
    assert told.splitlines()[-1] == "[]"
