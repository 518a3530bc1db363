from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from features.errors import ExtractorError
from features.networks.devices import keras_engine
from features.networks.devices.keras_engine import KerasEngine, batch_for
from features.networks.keras import build_network
from tests.features.networks.devices.embed_on import pictures, source

SMALL = source("vgg16")


def test_tf32_is_refused_where_it_is_not_to_be_had() -> None:
    with pytest.raises(ExtractorError, match=r"Keras \(\w+\) on the CPU has no TF32"):
        KerasEngine(SMALL, 32, "tf32")


def test_an_embedding_is_the_same_to_the_last_bit_however_many_are_given() -> None:
    pixels = pictures("vgg16")
    engine = KerasEngine(SMALL, 32)
    together = engine.run(pixels)
    np.testing.assert_array_equal(engine.run(pixels[33:34]), together[33:34])
    np.testing.assert_array_equal(engine.run(pixels[::-1])[::-1], together)
    assert engine.run(pixels[:0]).shape == (0, SMALL.dim)
    serving = KerasEngine(SMALL, 32, serving=True)
    np.testing.assert_allclose(serving.run(pixels[:1]), together[:1], rtol=1e-4, atol=1e-6)


def test_maps_come_with_the_embeddings_that_sum_them_up() -> None:
    pixels = pictures("vgg16")[:9]
    engine = KerasEngine(SMALL, 32)
    embeddings, maps = engine.run_with_maps(pixels)
    np.testing.assert_allclose(embeddings, engine.run(pixels), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(maps[0].mean(axis=(1, 2)), embeddings[:, :256], rtol=1e-4, atol=1e-6)
    nothing, none = engine.run_with_maps(pixels[:0])
    assert nothing.shape == (0, SMALL.dim)
    assert [each.shape[0] for each in none] == [0, 0]


def test_the_batch_follows_from_the_memory() -> None:
    model = build_network(SMALL, 32)
    # The largest maps are 32 x 32 of 64 channels; eight of them for an image, and two batches.
    image = 32 * 32 * 64 * 4 * 8 * 2
    assert [batch_for(model, image * count) for count in (0, 1, 31, 32, 100, 10**6)] == [
        1, 1, 16, 32, 64, 256,
    ]  # fmt: skip
    assert batch_for(model, None) == 64


def test_a_batch_that_the_memory_does_not_hold_is_halved_and_other_failures_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = keras_engine.begin
    tried: list[int] = []
    message = "RESOURCE_EXHAUSTED: out of memory"

    def small(model: object, *, compiled: bool) -> Callable[[np.ndarray], object]:
        start = begin(model, compiled=False)

        def limited(pixels: np.ndarray) -> object:
            tried.append(len(pixels))
            if len(pixels) > 16:
                raise RuntimeError(message)
            return start(pixels)

        return limited

    monkeypatch.setattr(keras_engine, "begin", small)
    monkeypatch.setattr(keras_engine, "accelerator", lambda: "a small GPU")
    engine = KerasEngine(SMALL, 32)
    assert tried == [64, 32, 16]
    assert engine.batch == 16
    assert engine.run(pictures("vgg16")).shape == (40, SMALL.dim)
    message = "no kernel image is available"
    with pytest.raises(RuntimeError, match="no kernel image"):
        KerasEngine(SMALL, 32)
