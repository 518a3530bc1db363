"""What every entry of the registry promises: that it says of its network what Keras does."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from features.embedding.extractor import load_extractor
from features.images.decoding import load_pixels
from features.networks.keras import build_base, import_keras, preprocess
from features.networks.registry import DEFAULT_NETWORK, NETWORKS, RECIPES, Network, Preprocessing
from features.networks.untrained import DATA, set_untrained_weights, untrained_sha256
from scripts.untrained import measure_statistics
from tests.conftest import ROOT
from tests.pictures import image_bytes

every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))


@every_network
def test_embeddings_are_those_of_keras_with_its_own_preprocessing(network: Network) -> None:
    size = network.smallest_input
    base = build_base(network.origin, size)
    set_untrained_weights(base, network.origin)
    pixels = np.stack([load_pixels(image_bytes(seed), size) for seed in range(3)])
    module = getattr(import_keras().applications, network.name)
    maps = np.asarray(base(module.preprocess_input(pixels.astype("float32")), training=False))
    extractor = load_extractor(network.name, "untrained", input_size=size, precision="fp32")
    embeddings = extractor.embed(pixels)
    assert embeddings.shape == (3, extractor.spec.dim)
    assert embeddings.dtype == np.float32
    expected = maps.mean(axis=(1, 2))
    assert np.linalg.norm(embeddings - expected) < 1e-4 * np.linalg.norm(expected)


def test_every_step_of_preprocessing_is_taken_in_the_order_of_the_channels() -> None:
    how = Preprocessing("BGR", divisor=2.0, mean=(1.0, 2.0, 3.0), deviation=(1.0, 2.0, 4.0))
    pixels = np.array([[[10.0, 20.0, 30.0]]], np.float32)
    np.testing.assert_array_equal(preprocess(pixels, how), [[[14.0, 4.0, 0.5]]])
    np.testing.assert_array_equal(preprocess(pixels, Preprocessing()), pixels)


@every_network
def test_the_layers_have_the_channels_that_keras_gives_them(network: Network) -> None:
    base = build_base(network.origin, network.smallest_input)
    assert dict(network.layers) == {
        name: base.get_layer(name).output.shape[-1] for name in network.layers
    }


@every_network
def test_untrained_weights_are_the_same_everywhere(network: Network) -> None:
    base = build_base(network.origin, network.smallest_input)
    set_untrained_weights(base, network.origin)
    assert untrained_sha256(base) == network.origin.untrained_sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [each for each in NETWORKS.values() if each.origin.untrained_statistics],
    ids=lambda network: network.name,
)
def test_the_stored_statistics_are_those_of_drawn_lesions(network: Network) -> None:
    stored = np.load(DATA / str(network.origin.untrained_statistics))
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
    assert f"[{'|'.join(NETWORKS)}]" in told
    assert f"[{'|'.join(RECIPES)}]" in told
    assert f"[default: {DEFAULT_NETWORK}]" in told
    assert told.splitlines()[-1] == "[]"
