"""What an ONNX file must not hold: looked for in a process of its own, before it is used.

Such a file comes from anywhere. Nothing in it is run before it is known to be a plain graph of
standard operators over numbers that lie in it, or beside it in its own folder.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

__all__ = ["Refused", "checked_model"]

_STANDARD: Final = ("", "ai.onnx")
# An embedding is the same every time, and takes the same time for every image.
_RANDOM: Final = (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip
_LOOPS: Final = ("Loop", "Scan")
_MOST_NODES: Final = 200_000
_MOST_DEPTH: Final = 8
_MOST_BYTES: Final = 2**33


class Refused(Exception):
    """A network that is not read any further; its text is the reason, without the file's name."""


def checked_model(content: bytes, folder: Path) -> tuple[Any, dict[str, str]]:
    """Parse an ONNX file and look for what must not be in it.

    Parameters
    ----------
    content : bytes
        Of the file.
    folder : Path
        Where it lies; numbers may be in files there or below.

    Returns
    -------
    onnx.ModelProto, dict of str to str
        And the hash of each file that its numbers are in.

    Raises
    ------
    Refused
        With the reason.
    """
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RuntimeError) as error:
        raise Refused(
            "it is no ONNX file, or is cut off or damaged: copy or export it again"
        ) from error
    if not model.HasField("graph") or not model.graph.node or not model.graph.output:
        raise Refused("it holds no network: it is no ONNX file, or is damaged")
    _require_standard(model)
    files = _require_numbers(model, folder)
    try:
        # Only what is not numbers: those were looked at, and may lie elsewhere.
        onnx.checker.check_model(_without_numbers(model))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise Refused(f"its graph is not valid ONNX ({reason}): export it again") from error
    return model, files


def _require_standard(model: Any) -> None:
    foreign = {entry.domain for entry in model.opset_import} - set(_STANDARD)
    foreign |= {node.domain for node in _nodes(model.graph)} - set(_STANDARD)
    if model.functions:
        foreign |= {each.domain or each.name for each in model.functions}
    if foreign:
        told = ", ".join(sorted(repr(name)[:60] for name in foreign)[:5])
        raise Refused(
            f"it uses operators that are not ONNX's own ({told}): "
            "export it with standard operators only"
        )
    kinds = Counter(node.op_type for node in _nodes(model.graph))
    if sum(kinds.values()) > _MOST_NODES:
        raise Refused(f"it has {sum(kinds.values()):,} operators, at most {_MOST_NODES:,} are read")
    for what, kind in (("draws random numbers", _RANDOM), ("has loops", _LOOPS)):
        if found := sorted(set(kinds) & set(kind)):
            raise Refused(f"it {what} ({', '.join(found)}): export the network for inference")


def _require_numbers(model: Any, folder: Path) -> dict[str, str]:
    files: dict[str, str] = {}
    total = 0
    for tensor in _tensors(model.graph):
        count = math.prod(tensor.dims)
        if any(size < 0 for size in tensor.dims) or count * _width(tensor) > _MOST_BYTES:
            raise Refused(
                f"{tensor.name!r} claims to be of shape {list(tensor.dims)[:6]}, "
                "which is more than can be read"
            )
        nbytes = math.ceil(count * _width(tensor))
        if tensor.data_location == tensor.EXTERNAL:
            held = _external(tensor, folder, files)
        elif tensor.HasField("raw_data"):
            held = len(tensor.raw_data)
        else:
            # Typed lists hold one entry a number, or a pair for complex ones; text is no number.
            held = nbytes if _listed(tensor) >= count else -1
        total += nbytes
        if held != nbytes:
            raise Refused(
                f"{tensor.name!r} of shape {list(tensor.dims)[:6]} holds other than the "
                f"{nbytes:,} bytes that it should: the file is damaged"
            )
        if total > _MOST_BYTES:
            raise Refused(f"it holds more than the {_MOST_BYTES:,} bytes of numbers that are read")
    return files


def _width(tensor: Any) -> float:
    """Bytes of a number."""
    import onnx

    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        raise Refused(f"{tensor.name!r} holds no numbers")
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
    except (KeyError, ValueError, TypeError) as error:
        raise Refused(f"{tensor.name!r} holds numbers of an unknown kind") from error
    if name.endswith("INT4") or name.startswith("FLOAT4"):
        return 0.5
    return 0.25 if name.endswith("INT2") else float(kind.itemsize)


def _listed(tensor: Any) -> int:
    lists = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    return max(len(getattr(tensor, name)) for name in lists)


def _external(tensor: Any, folder: Path, files: dict[str, str]) -> int:
    about = {entry.key: entry.value for entry in tensor.external_data}
    location = about.get("location", "")
    parts = PurePosixPath(location.replace("\\", "/"))
    target = folder / parts
    if (
        not location
        or parts.is_absolute()
        or ".." in parts.parts
        or ":" in location
        or not target.resolve().is_relative_to(folder.resolve())
    ):
        raise Refused(
            f"its numbers are in {location!r}, outside its own folder, where none are read"
        )
    if not target.is_file():
        raise Refused(
            f"its numbers are in {location!r}, which is not beside it: copy that file, too"
        )
    try:
        offset, length = int(about.get("offset", 0)), int(about.get("length", -1))
    except ValueError as error:
        raise Refused(f"where in {location!r} its numbers are can't be read") from error
    size = target.stat().st_size
    if length < 0:
        length = size - offset
    if offset < 0 or offset + length > size:
        raise Refused(f"{location!r} is shorter than it should be: copy it again")
    if location not in files:
        if size > _MOST_BYTES:
            raise Refused(f"{location!r} has more than the {_MOST_BYTES:,} bytes that are read")
        with target.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        files[location] = digest.hexdigest()
    return length


def _nodes(graph: Any, depth: int = 0) -> Iterator[Any]:
    if depth > _MOST_DEPTH:
        raise Refused("its graphs are nested too deeply")
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                yield from _nodes(inner, depth + 1)


def _tensors(graph: Any, depth: int = 0) -> Iterator[Any]:
    if depth > _MOST_DEPTH:
        raise Refused("its graphs are nested too deeply")
    yield from graph.initializer
    if graph.sparse_initializer:
        raise Refused("it holds sparse numbers, which are not read: export it without")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.sparse_tensors or attribute.HasField("sparse_tensor"):
                raise Refused("it holds sparse numbers, which are not read: export it without")
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                yield from _tensors(inner, depth + 1)


def _without_numbers(model: Any) -> Any:
    """Copy a model with its larger numbers as further inputs, for the checker to see the rest."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {each.name for each in copy.graph.input}
    kept = []
    for tensor in copy.graph.initializer:
        if tensor.data_location != tensor.EXTERNAL and math.prod(tensor.dims) <= 64:
            kept.append(tensor)
        elif tensor.name not in known:
            copy.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    kept = [onnx.TensorProto.FromString(each.SerializeToString()) for each in kept]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy
