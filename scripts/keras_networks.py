"""Write what Keras says of its networks: ``features/networks/data/keras_applications.json``.

    python scripts/keras_networks.py

Everything is taken from Keras itself, by asking it to build each network: its input sizes, which
weights file with which hash it would fetch, how it scales pixels, and its graph. Layers on offer
are those through which everything passes, the last at each resolution. Run it again for a later
Keras.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import json
import math
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from features.networks.keras import LAST, import_keras
from features.networks.registry import KerasApplication
from features.networks.untrained import DATA, set_untrained_weights, untrained_sha256

to_snake_case = importlib.import_module("keras.src.utils.naming").to_snake_case
TABLE = DATA / "keras_applications.json"
# What the modes of `keras.applications.imagenet_utils.preprocess_input` mean.
MODES: dict[str | None, dict[str, Any]] = {
    None: {},
    "tf": {"divisor": 127.5, "mean": 1.0},
    "caffe": {"channels": "BGR", "mean": [103.939, 116.779, 123.68]},
    "torch": {"divisor": 255.0, "mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]},
}


class Fetched(Exception):
    """Raised instead of a download."""


def functions() -> dict[str, Any]:
    """List the functions of Keras Applications that build a network, by name."""
    applications = import_keras().applications
    return {
        name: function
        for name, function in inspect.getmembers(applications, inspect.isfunction)
        if name[0].isupper()
    }


def name_of(function: str) -> str:
    """Name a network as this project does: EfficientNetV2B0 is efficientnet_v2_b0."""
    name = function.replace("NetV2", "Net_V2_").replace("NetV3", "Net_V3_")
    name = name.replace("NetLarge", "Net_Large").replace("NetMobile", "Net_Mobile")
    name = re.sub(r"(?<=[a-z0-9])V([23])", r"_V\1", name).replace("NetB", "Net_B")
    name = re.sub(r"(ConvNeXt)", r"\1_", name).replace("NetResNet", "Net_ResNet")
    name = name.replace("InceptionResNet", "Inception_ResNet").strip("_")
    return re.sub(r"_+", "_", name).lower()


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Keep what Keras' helpers are given, and stop it before it fetches anything."""
    utils = importlib.import_module("keras.src.applications.imagenet_utils")
    files = importlib.import_module("keras.src.utils.file_utils")
    seen: dict[str, Any] = {}
    before = utils.obtain_input_shape

    def shape(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(before).bind(*args, **kwargs).arguments
        seen.update(default=given["default_size"], least=given["min_size"])
        return before(*args, **kwargs)

    def fetch(fname: str, origin: str, **kwargs: Any) -> Any:
        digest = kwargs.get("file_hash") or kwargs.get("md5_hash")
        seen.update(origin=origin, file=fname, md5=digest)
        raise Fetched

    def scale(x: Any, *_args: Any, mode: str = "caffe", **_kwargs: Any) -> Any:
        seen["mode"] = mode
        return x

    with (
        mock.patch.object(utils, "obtain_input_shape", shape),
        mock.patch.object(utils, "preprocess_input", scale),
        mock.patch.object(files, "get_file", fetch),
    ):
        yield seen


def layers_of(base: Any) -> dict[str, int]:
    """Name the last layer at each resolution through which everything passes, and its channels."""
    at = {operation.name: place for place, operation in enumerate(base.operations)}
    spans = [
        (at[parent.operation.name], at[operation.name])
        for operation in base.operations
        for parent in operation._inbound_nodes[0].parent_nodes
    ]
    passed = {name for name, here in at.items() if not any(a < here < b for a, b in spans)}
    last: dict[int, Any] = {}
    for layer in sorted(base.layers, key=lambda layer: at[layer.name]):
        halved = round(math.log2(base.input_shape[1] / layer.output.shape[1]))
        # Padding is no feature; beyond a quarter of the input's side there is little but edges.
        if layer.name in passed and halved > 1 and type(layer).__name__ != "ZeroPadding2D":
            if layer is base.outputs[0]._keras_history.operation:
                last[halved] = (LAST if _numbered(layer) else layer.name, layer)
            elif not _numbered(layer):
                last[halved] = (layer.name, layer)
    return {name: layer.output.shape[-1] for name, layer in last.values()}


def _numbered(layer: Any) -> bool:
    """Whether Keras made a layer's name up, by how many of its kind there were before."""
    return re.fullmatch(rf"{to_snake_case(type(layer).__name__)}(_\d+)?", layer.name) is not None


def describe(function: str) -> dict[str, Any]:
    """Describe one network."""
    build = functions()[function]
    module = inspect.getmodule(inspect.unwrap(build))
    assert module is not None
    with watched() as seen:
        with contextlib.suppress(Fetched), warnings.catch_warnings():
            # MobileNets warn that they take their default where no input is named: it is wanted.
            warnings.filterwarnings("ignore", ".*input_shape. is undefined", UserWarning)
            build(weights="imagenet", include_top=False, input_shape=None)
        module.preprocess_input(np.ones((1, 2, 2, 3)))
    if "default" not in seen:
        # MobileNetV3 looks at its input itself; its weights' name tells what they were trained on.
        named = re.search(r"_(224)_", seen["file"])
        if named is None:
            raise ValueError(f"{function} says not which input it takes")
        seen.update(default=int(named[1]), least=32)
    size = seen["default"]
    base = build(weights=None, include_top=False, input_shape=(size, size, 3))
    origin = KerasApplication(function, seen["origin"], seen["md5"], "", None)
    set_untrained_weights(base, origin)
    found = {
        "function": function,
        "module": module.__name__.rpartition(".")[2],
        "weights": seen["origin"],
        "file": seen["file"],
        "md5": seen["md5"],
        "untrained_sha256": untrained_sha256(base),
        "input_size": size,
        "smallest_input": seen["least"],
        "preprocessing": MODES[seen.get("mode")],
        "parameters": base.count_params(),
        "layers": layers_of(base),
    }
    if hasattr(module, "IMAGENET_STDDEV_RGB") and module.__name__.endswith("efficientnet"):
        found["rescaled"] = [value**-0.5 for value in module.IMAGENET_STDDEV_RGB]
    return found


def main() -> None:
    """Write the table, one network after the other."""
    wanted = sys.argv[1:] or list(functions())
    table = json.loads(TABLE.read_text()) if sys.argv[1:] and TABLE.exists() else {}
    for function in wanted:
        table[name_of(function)] = describe(function)
        print(name_of(function), json.dumps(table[name_of(function)]), flush=True)
        import_keras().backend.clear_session()
        gc.collect()
    lines = (f" {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
