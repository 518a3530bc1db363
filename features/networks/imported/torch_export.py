"""The process in which a network of timm or Hugging Face becomes an ONNX file: torch is only here.

    python -m features.networks.imported.torch_export < request.json

`features.networks.imported.torch_networks` starts it. Each line of its answer is a mapping: which
step it is at (``step``), and at last what came out.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.networks.imported.torch_loading import (
    Loaded,
    Refused,
    from_hugging_face,
    from_timm,
)
from features.networks.imported.torch_settings import as_toml

# Of the largest number of the embedding; both compute in float32.
TOLERANCE: Final = 1e-3
_OPSET: Final = 17
_SAME: Final = 1e-4


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    sys.excepthook = _tell
    try:
        _say(answer(request))
    except Refused as error:
        _say({"refused": str(error)})


def _tell(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """Say what ended the process: whatever a library, a file or the network may come up with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0].split(". ")[0].rstrip(".:") if lines else ""
    _say({"failed": f"{kind.__name__}: {first[:200]}" if first else kind.__name__})


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load a network as asked, and export it, or only say what would come out."""
    _say({"step": "import"})
    import torch

    torch.manual_seed(0)
    load = from_timm if request["hub"] == "timm" else from_hugging_face
    loaded = load(torch, request, lambda step: _say({"step": step}))
    _say({"step": "export"})
    rng = np.random.RandomState(0)
    noise = rng.uniform(-2, 2, (1, 3, loaded.size, loaded.size)).astype(np.float32)
    wrapped = _wrapped(torch, loaded)
    with torch.no_grad():
        expected = [each.numpy() for each in wrapped(torch.from_numpy(noise))]
    names, output = _reading(expected, loaded.prefix)
    about = {
        "name": f"{request['hub']}-{loaded.name.replace('/', '-')}",
        "licence": loaded.licence,
        "trained_on": loaded.trained_on,
    }
    told = {
        "description": None
        if loaded.input is None
        else as_toml(about, {"name": "image", **loaded.input}, output),
        "unsaid": loaded.unsaid,
        "libraries": loaded.libraries | {"torch": str(torch.__version__)},
        "parameters": sum(each.numel() for each in loaded.model.parameters()),
        "size": loaded.size,
        "outputs": [(name, each.shape) for name, each in zip(names, expected, strict=True) if name],
    }
    if request["target"] is not None:
        content = _exported(torch, wrapped, noise, [name or "unused" for name in names])
        _say({"step": "check"})
        told["difference"] = _difference(content, noise, names, expected)
        Path(request["target"]).write_bytes(content)
    return told


def _say(what: Mapping[str, Any]) -> None:
    sys.stdout.write("\n" + json.dumps(what) + "\n")
    sys.stdout.flush()


def _wrapped(torch: Any, loaded: Loaded) -> Any:
    class Both(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = loaded.model

        def forward(self, image: Any) -> tuple[Any, Any]:
            return loaded.both(image)  # type: ignore[no-any-return]

    return Both().eval()


def _reading(found: list[Any], prefix: int) -> tuple[list[str], dict[str, Any]]:
    """Say what is read: the network's own features, and its last map.

    Where the features are the map's mean, or the token of the class, they are read off that.
    """
    own, last = found
    if last.ndim == 4:
        if _same(own, last.mean((2, 3))):
            return ["", "map"], {"names": ["map"]}
        return ["features", "map"], {"names": ["features", "map"]}
    patches = last.shape[1] - prefix if last.ndim == 3 else 0
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        return ["features", ""], {"names": ["features"]}
    if _same(own, last[:, prefix:].mean(1)):
        return ["", "tokens"], {"names": ["tokens"], "tokens": "patches", "prefix": prefix}
    if prefix and _same(own, last[:, 0]):
        return ["", "tokens"], {"names": ["tokens"], "tokens": "both", "prefix": prefix}
    return ["features", "tokens"], {
        "names": ["features", "tokens"],
        "tokens": "patches",
        "prefix": prefix,
    }


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and float(np.abs(a - b).max()) <= _SAME * float(np.abs(a).max())


def _exported(torch: Any, wrapped: Any, noise: Any, names: list[str]) -> bytes:
    import onnx

    file = io.BytesIO()
    torch.onnx.export(
        wrapped,
        (torch.from_numpy(noise),),
        file,
        input_names=["image"],
        output_names=names,
        opset_version=_OPSET,
        dynamo=False,
    )
    model = onnx.load_from_string(file.getvalue())
    # The same network is the same file, whichever version of torch wrote it.
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    kept = [each for each in model.graph.output if each.name != "unused"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return bytes(model.SerializeToString(deterministic=True))


def _difference(content: bytes, noise: Any, names: list[str], expected: list[Any]) -> float:
    from features.networks.libraries import import_openvino

    openvino = import_openvino()
    core = openvino.Core()
    found = core.compile_model(
        core.read_model(content, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )(noise)
    worst = 0.0
    for name, wanted in zip(names, expected, strict=True):
        if name:
            largest = float(np.abs(wanted).max())
            away = float(np.abs(found[name] - wanted).max())
            if not (math.isfinite(largest) and away <= TOLERANCE * largest):
                raise Refused(
                    f"as ONNX it gives other numbers than torch: {name} differs by {away:.2g}, "
                    f"expected at most {TOLERANCE:g} of the largest, {largest:.2g}"
                )
            worst = max(worst, away / largest if largest else 0.0)
    return worst


if __name__ == "__main__":
    main()
