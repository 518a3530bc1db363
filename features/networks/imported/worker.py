"""The process in which an ONNX file is read and converted: with little memory, and little time.

    python -m features.networks.imported.worker < request.json > answer.json

`features.networks.imported.onnx_file` starts it. What is wrong with a file is an answer; whatever
else ends this process is for the one who started it to explain.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from features.networks.imported.onnx_checks import Refused, checked_model

_SPACE: Final = 3 * 2**30
_SPACE_FACTOR: Final = 8
_CPU_SECONDS: Final = 600
_WRITTEN_FACTOR: Final = 4
_TRIALS: Final = 2


def limit(content: int) -> None:
    """Limit memory, time and files of this process to what so many bytes of a network can need."""
    try:
        import resource
    except ImportError:
        return
    space = _SPACE + _SPACE_FACTOR * content
    for what, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_FSIZE, _WRITTEN_FACTOR * content + 2**26),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(
            what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )


@dataclass(frozen=True)
class _Read:
    model: Any
    core: Any
    files: dict[str, str]


def read(path: Path, sha256: str) -> _Read:
    """Read a checked file with OpenVINO."""
    from features.networks.libraries import import_openvino

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Refused("it was changed while it was read: try again")
    _, files = checked_model(content, path.parent)
    # Numbers in files beside it take memory, too; what was not looked at yet gets none for them.
    limit(len(content) + sum((path.parent / name).stat().st_size for name in files))
    openvino = import_openvino()
    core = openvino.Core()
    try:
        # What was checked is what is read, unless numbers lie elsewhere.
        model = core.read_model(str(path)) if files else core.read_model(content, b"")
    except RuntimeError as error:
        raise Refused(f"OpenVINO can't read it ({_short(error)})") from error
    return _Read(model, core, files)


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join((told or lines or [type(error).__name__])[:2])[:200]


def _port(port: Any) -> dict[str, Any]:
    shape = (
        [size.get_length() if size.is_static else None for size in port.get_partial_shape()]
        if not port.get_partial_shape().rank.is_dynamic
        else None
    )
    return {"name": _name(port), "shape": shape, "type": port.get_element_type().get_type_name()}


def _name(port: Any) -> str:
    return str(min(port.get_names(), default=port.get_node().get_friendly_name()))


def inspect(request: dict[str, Any]) -> dict[str, Any]:
    """Say which inputs and outputs there are; of what shape, for a size."""
    found = read(Path(request["path"]), request["sha256"])
    inputs = [_port(port) for port in found.model.inputs]
    if (size := request["size"]) is not None:
        _set_size(found.model, request["input"], request["layout"], size)
    outputs = [_port(port) for port in found.model.outputs]
    return {"inputs": inputs, "outputs": outputs, "files": found.files}


def _set_size(model: Any, name: str, layout: str, size: int) -> None:
    shape = [1, 3, size, size] if layout == "NCHW" else [1, size, size, 3]
    try:
        model.reshape({name: shape})
    except RuntimeError as error:
        raise Refused(f"its input {name!r} can't be {shape} ({_short(error)})") from error


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Write the network from pixels to embeddings in OpenVINO's format, and try it out."""
    import numpy as np

    from features.networks.imported.wiring import wired
    from features.networks.libraries import import_openvino

    openvino = import_openvino()
    found = read(Path(request["path"]), request["sha256"])
    if sorted(found.files.items()) != sorted(map(tuple, request["files"])):
        raise Refused("the files beside it are others than they were: extract again")
    _set_size(found.model, request["input"], request["layout"], request["size"])
    try:
        whole = wired(found.model, request)
        openvino.save_model(whole, request["target"], compress_to_fp16=False)
        compiled = found.core.compile_model(
            openvino.Model([whole.output(0)], whole.get_parameters()),
            "CPU",
            {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"},
        )
        size = request["size"]
        noise = np.random.RandomState(0).randint(0, 256, (1, size, size, 3), np.uint8)
        tried = [compiled(noise)[0].copy() for _ in range(_TRIALS)]
    except RuntimeError as error:
        raise Refused(f"it can't be run ({_short(error)})") from error
    if not all(np.isfinite(each).all() for each in tried):
        raise Refused("it gives numbers that are infinite or none: its description may be wrong")
    if not np.array_equal(tried[0], tried[1]):
        raise Refused("it gives other numbers for the same image each time")
    return {"dim": int(tried[0].shape[1])}


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    limit(request["bytes"])
    try:
        answer = {"inspect": inspect, "convert": convert}[request["task"]](request)
    except Refused as error:
        answer = {"refused": str(error)}
    except MemoryError:
        answer = {"refused": "it needs more memory than its size allows"}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
