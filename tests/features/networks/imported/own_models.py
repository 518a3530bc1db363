"""Keras models that a test brings along, as a user would."""

from __future__ import annotations

from typing import Any

from features.networks.keras import import_keras

DESCRIPTION = {
    "name": "own",
    "input": {
        "size": 32, "layout": "NHWC", "range": [0, 1], "mean": 0.5, "deviation": [0.2, 0.25, 0.5]
    },
}  # fmt: skip
ACTIVATION = {"body": "relu"}


def plain() -> Any:
    """Give a model whose convolution has fixed weights."""
    keras = import_keras()
    given = keras.Input((32, 32, 3))
    start = keras.initializers.RandomUniform(-1, 1, seed=5)
    maps = keras.layers.Conv2D(
        5, 4, strides=4, activation=ACTIVATION["body"], kernel_initializer=start, name="body"
    )(given)
    pooled = keras.layers.GlobalMaxPooling2D(name="top")(maps)
    return keras.Model(given, pooled)


def described() -> Any:
    return plain(), {**DESCRIPTION, "output": {"names": ["body"]}}


def vector() -> Any:
    return plain(), DESCRIPTION


def wrong() -> Any:
    return {"no": "model"}


def misdescribed() -> Any:
    return plain(), {**DESCRIPTION, "input": {**DESCRIPTION["input"], "size": 48}}  # type: ignore[dict-item]
