"""Networks in OpenVINO's format, converted once and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from features.errors import ExtractorError
from features.networks.imported.onnx_file import convert_onnx
from features.networks.keras import build_network, import_keras
from features.networks.libraries import import_openvino, root_logger_kept
from features.networks.registry import OnnxFile
from features.networks.weights import Source, file_sha256
from features.storage.user_cache import user_cache

__all__ = ["Converted", "converted_network", "find_converted"]

# Raise them when a conversion would come out differently from the same weights.
_CONVERSION: Final = 2
_QUANTISATION: Final = 3
NETWORK: Final = "network.xml"
PARAMETERS: Final = "network.bin"
_NOTE: Final = "about.json"


@dataclass(frozen=True)
class Converted:
    """A converted network.

    Parameters
    ----------
    path : Path
        Its graph, ``network.xml``; the numbers lie beside it in ``network.bin``.
    sha256 : str
        Of the numbers.
    """

    path: Path
    sha256: str


def converted_network(source: Source, precision: str) -> Converted:
    """Find a converted network, or convert it now.

    Parameters
    ----------
    source : Source
    precision : {"fp32", "bf16", "int8"}
        bf16 is a matter of how fp32 numbers are used; int8 is a network of its own.

    Returns
    -------
    Converted

    Raises
    ------
    WeightsError
        If the weights don't fit the network.
    ExtractorError
        If int8 is asked for and what quantises is not installed, an ONNX file is refused, or
        Keras computes with JAX, of whose operations OpenVINO knows none, or the network can't be
        written.
    """
    folder = _folder(source, precision)
    found = _read(folder)
    if found is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    except OSError:
        # Without a folder to keep it in, the network is converted in every run.
        work = Path(tempfile.mkdtemp(prefix="lesion-classifier-"))
        folder = work / "network"
    staged = work / "staged"
    staged.mkdir()
    try:
        _convert(source, precision, staged / NETWORK)
        note = {"sha256": file_sha256(staged / PARAMETERS)}
        (staged / _NOTE).write_text(json.dumps(note), encoding="utf-8")
        _publish(staged, folder)
    except (OSError, RuntimeError) as error:
        # OpenVINO says no more than this of a file that it can't write.
        if isinstance(error, RuntimeError) and "iostream error" not in str(error):
            raise
        raise ExtractorError(
            f"the converted network can't be written to {work.parent} ({error}): free some space "
            f"there, or name another folder by LESION_CACHE in the environment"
        ) from error
    finally:
        if folder.parent != work:
            shutil.rmtree(work)
    made = _read(folder)
    if made is None:
        raise FileNotFoundError(folder)
    return made


def _convert(source: Source, precision: str, file: Path) -> None:
    if precision == "int8":
        from features.networks.devices.int8 import EXACT, quantise

        before = converted_network(source, "fp32")
        # The last layer alone gains next to nothing by them.
        exact = EXACT.get(source.network.name, ()) if len(source.layers) > 1 else ()
        quantise(before.path, file, source.input_size, exact=exact)
    elif isinstance(origin := source.network.origin, OnnxFile):
        convert_onnx(source.network, origin, source.layers, source.pooling, file)
    else:
        import_openvino()
        if import_keras().config.backend() == "jax":
            raise ExtractorError(
                "Keras on JAX can't hand a network on to OpenVINO: run this command again "
                "with KERAS_BACKEND=tensorflow in the environment"
            )
        model = build_network(source, source.input_size)
        with root_logger_kept():
            model.export(str(file), format="openvino", verbose=False)


def find_converted(source: Source, precision: str) -> Converted | None:
    """Find a network that was converted before, as `converted_network` does, and make none."""
    return _read(_folder(source, precision))


def _folder(source: Source, precision: str) -> Path:
    what: dict[str, Any] = {
        "conversion": _CONVERSION,
        "network": source.network.name,
        "weights": source.weights.sha256,
        "layers": source.layers,
        "pooling": source.pooling,
        "size": source.input_size,
        "int8": _QUANTISATION if precision == "int8" else False,
    }
    if source.network.preparation:
        what["preparation"] = source.network.preparation
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    return user_cache("networks") / f"{source.network.name.replace(':', '-')}-{key}"


def _read(folder: Path) -> Converted | None:
    try:
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        return Converted(folder / NETWORK, str(note["sha256"]))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _publish(staged: Path, folder: Path) -> None:
    try:
        staged.replace(folder)
    except OSError:
        # Another process was first: what it made is the same.
        if _read(folder) is None:
            raise
