from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.embedding.extractor import Extractor, converted_extractor, load_extractor
from features.embedding.specification import ExtractorSpec
from features.errors import CacheMismatch, ExtractorError, WeightsError
from features.images.decoding import load_pixels
from features.networks.keras import build_base
from features.networks.registry import NETWORKS, Recipe
from features.networks.untrained import set_untrained_weights
from tests.pictures import image_bytes


@pytest.fixture(scope="module")
def untrained() -> Extractor:
    return load_extractor("inception_v3", "untrained", input_size=75, precision="fp32")


SMALL_AND_LARGE = pytest.mark.parametrize(
    ("network", "size"), [("vgg16", 32), pytest.param("inception_v3", 75, marks=pytest.mark.slow)]
)


def pictures(count: int, size: int) -> np.ndarray:
    return np.stack([load_pixels(image_bytes(seed), size) for seed in range(count)])


def test_an_embedding_does_not_depend_on_its_neighbours(untrained: Extractor) -> None:
    pixels = pictures(8, 75)
    together = untrained.embed(pixels)
    np.testing.assert_array_equal(untrained.embed(pixels[::-1])[::-1], together)
    np.testing.assert_allclose(untrained.embed(pixels[:1]), together[:1], rtol=1e-4, atol=1e-5)
    assert untrained.embed(pixels[:0]).shape == (0, 2048)


class Averages:
    """Gives the mean of each image's upper left corner, and notes how many came at once."""

    name, batch, lanes = "averages", 32, 1

    def __init__(self, size: int, noted: list[tuple[int, int]]) -> None:
        self.size, self.noted = size, noted

    def run(self, pixels: np.ndarray) -> np.ndarray:
        self.noted.append((self.size, len(pixels)))
        return pixels[:, :8, :8].mean(axis=(1, 2), dtype=np.float32)

    def run_with_maps(self, pixels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        return self.run(pixels), [pixels.astype(np.float32)]


def test_views_of_a_size_go_through_together_and_come_out_in_order() -> None:
    views = ("identity", "rotate-90", "flip-h@40", "rotate-180")
    spec = ExtractorSpec("n", "untrained", "0" * 64, 32, 3, ("maps",), views=views)
    noted: list[tuple[int, int]] = []
    extractor = Extractor(spec, lambda size: Averages(size, noted))
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (5, s, s, 3), dtype=np.uint8) for s in (32, 40))
    found = extractor.embed(small, large)
    assert sorted(noted) == [(32, 15), (40, 5)]
    shown = [small, np.rot90(small, 1, (1, 2)), large[:, :, ::-1], np.rot90(small, 2, (1, 2))]
    expected = [each[:, :8, :8].mean(axis=(1, 2)) for each in shown]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-6)
    looks = extractor.look(small, large)
    assert len(looks) == 4
    for look, each in zip(looks, expected, strict=True):
        np.testing.assert_allclose(look.embeddings, each, rtol=1e-6)
    np.testing.assert_array_equal(looks[1].maps["maps"], small)
    np.testing.assert_array_equal(looks[2].maps["maps"], large)


@pytest.mark.parametrize("serving", [False, True])
def test_the_views_of_one_image_come_in_their_order(serving: bool) -> None:
    recipe = Recipe(("block4_pool", "block5_pool"), "mean", ("identity", "flip-h@48", "flip-v"), 32)
    extractor = load_extractor(
        "vgg16", "untrained", recipe=recipe, precision="fp32", serving=serving
    )
    scales = [pictures(3, frame.size) for frame in extractor.spec.frames]
    each = [load_extractor(
        "vgg16", "untrained", precision="fp32",
        recipe=replace(recipe, views=(view,), input_size=size),
    ).embed(scale) for view, size, scale in (
        ("identity", 32, scales[0]), ("flip-h", 48, scales[1]), ("flip-v", 32, scales[0]),
    )]  # fmt: skip
    expected = np.concatenate(each, axis=1)
    np.testing.assert_allclose(extractor.embed(*scales), expected, rtol=1e-3, atol=1e-4)
    alone = [scale[1:2] for scale in scales]
    np.testing.assert_allclose(extractor.embed(*alone), expected[1:2], rtol=1e-3, atol=1e-4)
    looks = extractor.look(*alone)
    np.testing.assert_allclose(
        np.concatenate([look.embeddings for look in looks], axis=1), expected[1:2], rtol=1e-3,
        atol=1e-4,
    )  # fmt: skip
    assert [look.maps["block5_pool"].shape[1] for look in looks] == [1, 1, 1]
    assert [look.maps["block4_pool"].shape[1] for look in looks] == [2, 3, 2]


def test_pixels_of_another_shape_are_refused(untrained: Extractor) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 80, 80, 3\), expected uint8 and \(n, 75"):
        untrained.embed(np.zeros((1, 80, 80, 3), np.uint8))


def test_the_specification_survives_json(untrained: Extractor) -> None:
    spec = untrained.spec
    assert ExtractorSpec.from_dict(spec.as_dict()) == spec
    assert spec.untrained
    with pytest.raises(ValueError, match="missing or unknown fields: hue"):
        ExtractorSpec.from_dict({**spec.as_dict(), "hue": 1})
    for preparation in ("spread = []", [1], {"a": 1}):
        with pytest.raises(ValueError, match="a preparation that is no list of texts"):
            ExtractorSpec.from_dict({**spec.as_dict(), "preparation": preparation})


@pytest.mark.parametrize(
    "change",
    [
        {"network": "vgg16"},
        {"weights": "pretrained"},
        {"weights_sha256": "0" * 64},
        {"input_size": 299},
        {"layers": ("mixed9",)},
        {"pooling": "max"},
        {"views": ("identity", "flip")},
        {"precision": "int8"},
        {"precision": "tf32"},
        {"pixels": 2},
    ],
)
def test_whatever_changes_a_number_changes_the_fingerprint(
    untrained: Extractor, change: dict[str, object]
) -> None:
    other = replace(untrained.spec, **change)
    assert other.fingerprint != untrained.spec.fingerprint
    with pytest.raises(CacheMismatch) as caught:
        untrained.spec.require(other, mine="a.h5", others="this run")
    assert next(iter(change)).replace("_", " ") in str(caught.value)


def test_unknown_networks_and_small_inputs_are_refused() -> None:
    with pytest.raises(ExtractorError, match="got network 'resnet', expected one of inception_v3"):
        load_extractor("resnet", "untrained")
    with pytest.raises(ExtractorError, match="input of 60 pixels, inception_v3 needs at least 75"):
        load_extractor("inception_v3", "untrained", input_size=60)


@SMALL_AND_LARGE
def test_weights_are_loaded_from_files_of_ones_own_and_in_the_layout_of_imagenets(
    tmp_path: Path, network: str, size: int
) -> None:
    from keras.src.legacy.saving import legacy_h5_format

    base = build_base(NETWORKS[network].origin, size)
    set_untrained_weights(base, NETWORKS[network].origin)
    own, legacy = tmp_path / "own.weights.h5", tmp_path / "legacy.h5"
    base.save_weights(own)
    with h5py.File(legacy, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, base)
    # Other engines convert what Keras loaded.
    load = partial(load_extractor, network, input_size=size, engine="keras")
    expected = load("untrained").embed(pictures(2, size))
    for path in (own, legacy):
        extractor = load(path)
        assert extractor.spec.weights == "pretrained"
        assert extractor.weights_path == path
        np.testing.assert_array_equal(extractor.embed(pictures(2, size)), expected)


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    base = build_base(NETWORKS["vgg16"].origin, 32)
    vgg = tmp_path / "vgg.weights.h5"
    base.save_weights(vgg)
    with pytest.raises(WeightsError, match="don't fit inception_v3 without its top"):
        load_extractor("inception_v3", vgg, input_size=75).prepare()
    text = tmp_path / "text.weights.h5"
    text.write_text("no weights")
    with pytest.raises(WeightsError, match="is not a Keras weights file"):
        load_extractor("inception_v3", text, input_size=75).prepare()
    with pytest.raises(WeightsError, match="there is no weights file"):
        load_extractor("inception_v3", tmp_path / "none.h5")


def test_imagenet_weights_out_of_reach_fail_fast_and_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    # A proxy where nobody listens is a network that can't be reached, on any machine.
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    start = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        load_extractor("vgg16", "imagenet")
    assert time.monotonic() - start < 20
    message = str(caught.value)
    for part in (
        NETWORKS["vgg16"].origin.url,
        str(tmp_path / "models"),
        "--weights PATH",
        "untrained",
    ):
        assert part in message


def test_keras_own_copy_of_imagenet_weights_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    copy = tmp_path / "models" / NETWORKS["vgg16"].origin.file
    copy.parent.mkdir()
    copy.write_bytes(b"kept by Keras")
    assert load_extractor("vgg16", "imagenet").weights_path == copy


@pytest.mark.real_data
def test_trained_weights_tell_real_images_apart(real_data: Path, real_weights: Path) -> None:
    extractor = load_extractor("inception_v3", real_weights)
    folder = real_data / "data" / "isic2017_256" / "valid" / "melanoma"
    pixels = np.stack([load_pixels(path, 299) for path in sorted(folder.iterdir())[:4]])
    embeddings = extractor.embed(pixels)
    assert embeddings.min() >= 0
    assert 0.2 < embeddings.mean() < 0.6
    assert np.corrcoef(embeddings)[0, 1:].max() < 0.99


def test_what_was_made_of_other_pixels_is_neither_served_nor_added_to(tmp_path: Path) -> None:
    spec = load_extractor("mobilenet", "untrained", input_size=32).spec
    later = replace(spec, pixels=spec.pixels + 1)
    with pytest.raises(ExtractorError, match=r"pixels of version 2, and .* to version 1"):
        converted_extractor(later, tmp_path / "network.xml")
    with pytest.raises(CacheMismatch, match=r"pixels 2 against 1\): .*are decoded otherwise"):
        later.require(spec, mine="features.h5", others="this run")
