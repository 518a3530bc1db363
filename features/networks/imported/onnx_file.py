"""ONNX files: looked at and converted by a process of their own, see `worker`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import features
from features.errors import ExtractorError
from features.networks.registry import Network, OnnxFile
from features.networks.weights import file_sha256
from features.presenting import shown

__all__ = ["Found", "Port", "convert_onnx", "inspect_onnx"]

# Numbers beside the file come on top; see `onnx_checks`.
_MOST_BYTES: Final = 2**31 - 1
_SECONDS: Final = 900


@dataclass(frozen=True)
class Port:
    """An input or output: its name, its shape (None where it is open), the type of its numbers."""

    name: str
    shape: tuple[int | None, ...] | None
    type: str

    def __str__(self) -> str:
        if self.shape is None:
            return f"{shown(self.name)} (any shape, {self.type})"
        shape = " x ".join("any" if size is None else str(size) for size in self.shape)
        return f"{shown(self.name)} ({shape}, {self.type})"


@dataclass(frozen=True)
class Found:
    """What an ONNX file takes and gives, and the files beside it that belong to it."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    files: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        takes, gives = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"found in the file: takes {takes}; gives {gives}"


def inspect_onnx(
    path: Path, size: int | None = None, input_name: str = "", layout: str = "NCHW"
) -> Found:
    """Say what an ONNX file takes and gives, if nothing is wrong with it.

    Parameters
    ----------
    path : Path
    size : int, optional
        Side of the input in pixels for which the outputs' shapes are told.
    input_name, layout : str, optional
        The input that has that size, and the order of its axes.

    Returns
    -------
    Found

    Raises
    ------
    ExtractorError
        If the file is not to be read, with the reason.
    """
    request = {"task": "inspect", "size": size, "input": input_name, "layout": layout}
    answer = _ask(path, request)
    ports = {
        kind: tuple(
            Port(
                each["name"], None if each["shape"] is None else tuple(each["shape"]), each["type"]
            )
            for each in answer[kind]
        )
        for kind in ("inputs", "outputs")
    }
    return Found(ports["inputs"], ports["outputs"], tuple(sorted(answer["files"].items())))


def convert_onnx(
    network: Network, origin: OnnxFile, layers: Sequence[str], pooling: str, target: Path
) -> None:
    """Write a network from pixels to embeddings and maps in OpenVINO's format.

    Parameters
    ----------
    network : Network
    origin : OnnxFile
        Its origin.
    layers : sequence of str
        Keys of ``origin.readings``.
    pooling : {"mean", "mean+std"}
    target : Path
        Where to; what ends in ``.bin`` beside it holds the numbers.

    Raises
    ------
    ExtractorError
        If the file is not to be read, with the reason.
    """
    how = network.preprocessing
    readings = [origin.readings[layer] for layer in layers]
    _ask(
        origin.path,
        {
            "task": "convert",
            "target": str(target),
            "size": network.input_size,
            "input": origin.input_name,
            "layout": origin.layout,
            "channels": how.channels,
            "divisor": how.divisor,
            "mean": how.mean,
            "deviation": how.deviation,
            "layers": [(reading.output, reading.what) for reading in readings],
            "prefix": origin.prefix,
            "pooling": pooling,
            "files": list(origin.files),
        },
    )


def _ask(path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    for module, package in (("onnx", "onnx"), ("openvino", "openvino")):
        if importlib.util.find_spec(module) is None:
            raise ExtractorError(
                f"an ONNX file needs the package {package}, which is not installed here: "
                f"run `pip install {package}`"
            )
    if not path.is_file():
        raise ExtractorError(f"there is no network {path}: give the path of an ONNX file")
    size = path.stat().st_size
    if not 0 < size <= _MOST_BYTES:
        raise ExtractorError(
            f"the network {path} has {size:,} bytes, expected 1 to {_MOST_BYTES:,}: "
            "export it with its numbers in a file beside it"
        )
    whole = {
        **request,
        "path": str(path.resolve()),
        "sha256": file_sha256(path),
        "bytes": size,
    }
    place = str(Path(features.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "features.networks.imported.worker"],
            input=json.dumps(whole, default=_plain),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (place, inherited)))},
        )
    except subprocess.TimeoutExpired as error:
        raise ExtractorError(
            f"the network {path} is refused: reading it took more than {_SECONDS} seconds"
        ) from error
    answer = _answer(done.stdout)
    if answer is None:
        told = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = f"was stopped (signal {-done.returncode})" if done.returncode < 0 else "failed"
        reason = f": {told[-1][:160]}" if told and done.returncode >= 0 else ""
        raise ExtractorError(
            f"the network {path} is refused: the process that read it {why}{reason}; it is "
            "damaged, or needs more memory or time than its size allows"
        )
    if "refused" in answer:
        raise ExtractorError(f"the network {path} is refused: {answer['refused']}")
    return answer


def _answer(text: str) -> dict[str, Any] | None:
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _plain(value: object) -> object:
    if isinstance(value, np.floating):
        return float(value)
    raise TypeError(type(value).__name__)
