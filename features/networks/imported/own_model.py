"""Keras models of the user's own: a function that gives one, and what is read off it.

Imports no Keras itself: the function does, or whoever calls this.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import ExtractorError
from features.networks.imported.description import Description, from_values
from features.networks.registry import OwnModel
from features.storage.user_cache import user_cache

_STRUCTURE: Final = "structure"

__all__ = ["call_function", "keep_weights", "load_model", "read_maps"]


def call_function(name: str) -> tuple[Any, Description | None]:
    """Import and call what gives a model.

    Parameters
    ----------
    name : str
        ``package.module:function``; the working directory is looked in, too.

    Returns
    -------
    keras.Model, Description or None
        A function may give a description beside its model, as a mapping of what its file would say.

    Raises
    ------
    ExtractorError
        If there is no such function, or it gives no model.
    """
    module_name, _, function_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExtractorError(
            f"there is no function {name} ({error}): give --network package.module:function, from "
            "the folder that the package lies in"
        ) from error
    if not callable(function):
        raise ExtractorError(f"{name} is no function: give one that returns a Keras model")
    given = function()
    model, told = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if not all(hasattr(model, part) for part in ("get_weights", "get_config", "inputs", "outputs")):
        raise ExtractorError(
            f"{name} gave {type(model).__name__}, expected a Keras model with known inputs and "
            "outputs, or that and a mapping that describes it"
        )
    if told is None:
        return model, None
    if not isinstance(told, Mapping):
        raise ExtractorError(
            f"{name} gave {type(told).__name__} beside its model, expected a mapping"
        )
    try:
        return model, from_values(told)
    except ExtractorError as error:
        raise ExtractorError(
            f"the description that {name} gave: {error}; {found_in(model)}"
        ) from error


def found_in(model: Any) -> str:
    """Say what a model takes and gives."""
    takes = ", ".join(f"{each.name} {_shape(each.shape)}" for each in model.inputs)
    gives = ", ".join(f"{each.name} {_shape(each.shape)}" for each in model.outputs)
    return f"found in the model: takes {takes}; gives {gives}"


def keep_weights(model: Any, name: str) -> Path:
    """Write a model's weights and structure into the user's cache folder.

    The file's hash is what the model is known by.

    Returns
    -------
    Path
    """
    from safetensors.numpy import save

    tensors = {
        f"{place:05d}": np.ascontiguousarray(value)
        for place, value in enumerate(model.get_weights())
    }
    content = save(tensors, {_STRUCTURE: _structure(model)})
    folder = user_cache("networks")
    path = folder / f"own-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(content)
            Path(file.name).replace(path)
    except OSError as error:
        raise ExtractorError(
            f"the weights of {name} can't be kept in {folder} ({error.strerror or error}): "
            "set LESION_CACHE to a folder with room"
        ) from error
    return path


def load_model(origin: OwnModel, path: Path | None, sha256: str) -> Any:
    """Build the model again, and give it the weights that were kept.

    Raises
    ------
    ExtractorError
        If the function now gives another model.
    """
    from safetensors import SafetensorError, safe_open

    model, _ = call_function(origin.function)
    if path is None:
        raise ExtractorError(f"the weights of {origin.function} are not at hand")
    try:
        with safe_open(path, framework="numpy") as file:
            structure = file.metadata()[_STRUCTURE]
            values = [file.get_tensor(name) for name in sorted(file.keys())]
    except (OSError, SafetensorError) as error:
        raise ExtractorError(
            f"the weights of {origin.function} in {path} can't be read ({error})"
        ) from error
    if structure != _structure(model):
        raise ExtractorError(
            f"{origin.function} gives another model than the one that was used ({sha256[:8]}…): "
            "extract again"
        )
    model.set_weights(values)
    return model


def read_maps(
    keras: Any, model: Any, origin: OwnModel, layers: Sequence[str], scaled: Any
) -> list[Any]:
    """Apply a model, and give what is read off it as maps (n, height, width, channels)."""
    model.trainable = False
    readings = [origin.readings[layer] for layer in layers]
    outputs = {reading.output: output_of(model, reading.output) for reading in readings}
    if origin.layout == "NCHW":
        scaled = keras.ops.transpose(scaled, (0, 3, 1, 2))
    found = keras.Model(model.inputs[0], outputs)(scaled, training=False)
    return [
        _as_map(keras, found[reading.output], reading.what, origin.prefix, origin.layout)
        for reading in readings
    ]


def output_of(model: Any, name: str) -> Any:
    """Give an output of a model, or of one of its layers, by name.

    Raises
    ------
    ExtractorError
        If there is none.
    """
    for each in model.outputs:
        if name in {each.name, getattr(each._keras_history.operation, "name", None)}:
            return each
    try:
        return model.get_layer(name).output
    except ValueError as error:
        raise ExtractorError(f"got the output {name!r}; {found_in(model)}, or any layer") from error


def _as_map(keras: Any, values: Any, what: str, prefix: int, layout: str) -> Any:
    shape = values.shape
    if what == "map":
        return keras.ops.transpose(values, (0, 2, 3, 1)) if layout == "NCHW" else values
    if what == "vector":
        return keras.ops.reshape(values, (-1, 1, 1, shape[1]))
    if what == "class":
        return keras.ops.reshape(values[:, :1], (-1, 1, 1, shape[2]))
    side = math.isqrt(shape[1] - prefix)
    return keras.ops.reshape(values[:, prefix:], (-1, side, side, shape[2]))


def _structure(model: Any) -> str:
    """Hash what a model is made of, whatever its parts happen to be called in this process."""
    config = json.dumps(model.get_config(), sort_keys=True, default=str)
    for place, part in enumerate(_parts(model)):
        config = config.replace(json.dumps(part.name), f'"#{place}"')
    return hashlib.sha256(config.encode()).hexdigest()


def _parts(model: Any) -> list[Any]:
    found = [model]
    for part in getattr(model, "operations", None) or model.layers:
        found += _parts(part) if hasattr(part, "layers") else [part]
    return found


def _shape(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
