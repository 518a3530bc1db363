"""From what a user calls a network to the network: a name, an ONNX file, a function."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from features.errors import ExtractorError, WeightsError
from features.networks.imported.description import (
    Description,
    described_by,
    from_text,
    read_description,
)
from features.networks.imported.onnx_file import Found, Port, inspect_onnx
from features.networks.imported.own_model import call_function, found_in, keep_weights, output_of
from features.networks.imported.torch_networks import exported_network, from_hub, preview_network
from features.networks.registry import (
    NETWORKS,
    Network,
    OnnxFile,
    OwnModel,
    Reading,
    Recipe,
)
from features.presenting import shown

__all__ = ["bundled_network", "find_network", "known_name", "previewed_network"]

_FUNCTION: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OUTPUTS_SHOWN: Final = 8


def known_name(name: str) -> str | None:
    """Give the name of a network that is known by it, however it is written.

    Examples
    --------
    >>> known_name("EfficientNetV2B0")
    'efficientnet_v2_b0'
    """
    plain = {_plain(each): each for each in NETWORKS}
    return plain.get(_plain(name))


def find_network(
    name: str, description: Path | None = None, weights: str = "imagenet"
) -> tuple[Network, Path | None]:
    """Find the network that a user asked for.

    Parameters
    ----------
    name : str
        One of `features.networks.registry.NETWORKS`, also as Keras writes it; the path of an ONNX
        file; ``timm:NAME`` or ``hf:NAME``; or ``package.module:function``.
    description : Path, optional
        Of a network that is not known by its name; by default the file beside an ONNX file that
        has its name and ends in ``.toml``, or what timm or Hugging Face say of theirs.
    weights : str, optional
        As the user gave them. Those of timm's and Hugging Face's networks are in the file that
        they are exported to; the others' are for `features.networks.weights.resolve_weights`.

    Returns
    -------
    Network
    Path or None
        Its weights file, if it brings one.

    Raises
    ------
    ExtractorError
        If there is no such network, or what is said of it doesn't fit it.
    WeightsError
        If weights are given for a network that brings its own, or can't be had.
    """
    known = known_name(name)
    if known is not None:
        if description is not None:
            raise ExtractorError(
                f"{known} is known here and needs no description: leave --describe out"
            )
        return NETWORKS[known], None
    if from_hub(name):
        return _from_hub(name, description, weights)
    if name.lower().endswith(".onnx"):
        found = _from_onnx(Path(name), description)
    elif _FUNCTION.fullmatch(name):
        found = _from_function(name, description)
    else:
        raise ExtractorError(
            f"got network {name!r}, expected a name (`python -m features networks` lists them), "
            "FILE.onnx, timm:NAME, hf:NAME or package.module:function"
        )
    if weights not in ("imagenet", name):
        raise WeightsError(
            f"got weights {weights} for {name}, which holds its own: leave --weights out"
        )
    return found


def previewed_network(name: str, description: Path | None, weights: str) -> tuple[Network, str]:
    """Say what a network of timm or Hugging Face would be, as far as is known without its weights.

    Returns
    -------
    Network
        Its file is not there.
    str
        What a person should know besides.

    Raises
    ------
    ExtractorError, WeightsError
        As of `find_network`.
    """
    told = preview_network(name, weights)
    image = Port("image", (1, 3, told["size"], told["size"]), "f32")
    ports = (Port(each, tuple(shape), "f32") for each, shape in told["outputs"])
    found = Found((image,), tuple(ports), ())
    if description is not None:
        said = read_description(description, str(found))
    elif told["description"] is None:
        raise _unprepared(name, told["unsaid"], found)
    else:
        said = from_text(told["description"])
    network, _ = _described(Path(name), said, f"the description of {name}", found)
    libraries = ", ".join(f"{each} {version}" for each, version in told["libraries"].items())
    return network, f"{found}; {told['parameters']:,} numbers; exported by {libraries}"


def bundled_network(
    name: str, preparation: Sequence[str], size: int, layers: Sequence[str], weights: Path
) -> Network:
    """Find the network of an extractor's specification again, to convert it.

    Parameters
    ----------
    name : str
    preparation : sequence of str
        As of `features.networks.registry.Network`.
    size : int
        Side of its input in pixels.
    layers : sequence of str
    weights : Path
        The ONNX file, or the kept weights of a model of the user's own.

    Raises
    ------
    ExtractorError
        If it can't be read.
    """
    told = described_by(preparation, size)
    if _FUNCTION.fullmatch(name):
        return _own_network(name, told)
    network, _ = _onnx_network(weights, replace(told, name=name))
    if missing := set(layers) - set(network.layers):
        raise ExtractorError(f"{weights} has no output {', '.join(sorted(missing))}")
    return network


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()) if re.fullmatch(r"[\w-]+", name) else name


def _from_onnx(path: Path, description: Path | None) -> tuple[Network, Path]:
    found = inspect_onnx(path)
    told = read_description(description or path.with_suffix(".toml"), str(found))
    return _onnx_network(path, told, found)


def _from_hub(name: str, description: Path | None, weights: str) -> tuple[Network, Path]:
    made = exported_network(name, weights)
    if description is None and made.description is None:
        raise _unprepared(name, made.unsaid, inspect_onnx(made.path))
    network, path = _from_onnx(made.path, description or made.description)
    if made.untrained and isinstance(network.origin, OnnxFile):
        network = replace(network, origin=replace(network.origin, untrained=True))
    return network, path


def _unprepared(name: str, unsaid: str, found: Found) -> ExtractorError:
    return ExtractorError(
        f"{name} wants {unsaid}, which this program can't prepare: say with --describe FILE what "
        f"it is to be given instead; {found}"
    )


def _onnx_network(
    path: Path, told: Description, found: Found | None = None
) -> tuple[Network, Path]:
    found = found or inspect_onnx(path)
    where = f"the description of {path}"
    if told.name in NETWORKS:
        raise ExtractorError(f"{where} calls it {told.name}, which another network is called")
    told = replace(told, input_name=_input(told, found, where))
    given = next(port for port in found.inputs if port.name == told.input_name)
    axes = (1, 2, 3) if told.layout == "NCHW" else (3, 1, 2)
    shape = [given.shape[at] for at in axes] if given.shape and len(given.shape) == 4 else []
    wanted = (3, told.size, told.size)
    if not shape or any(a not in (None, b) for a, b in zip(shape, wanted, strict=True)):
        raise ExtractorError(
            f"{where} says layout {told.layout}, size {told.size} and three colours, "
            f"which the input {given} can't take: {found}"
        )
    return _described(path, told, where, inspect_onnx(path, told.size, given.name, told.layout))


def _described(path: Path, told: Description, where: str, sized: Found) -> tuple[Network, Path]:
    told = replace(told, input_name=_input(told, sized, where))
    ports = {port.name: port.shape for port in sized.outputs}
    told = replace(
        told,
        outputs=_outputs(told, ports, where, str(sized)),
        external=tuple(f"{name}:{sha256}" for name, sha256 in sized.files),
    )
    readings, channels = _read_off(told, ports, where, str(sized))
    input_, read = str(told.input_name), MappingProxyType(readings)
    origin = OnnxFile(path, input_, told.layout, read, told.prefix, sized.files)
    return _network(told.name, origin, told, readings, channels), path


def _from_function(name: str, description: Path | None) -> tuple[Network, Path]:
    model, told = call_function(name)
    if description is not None:
        told = read_description(description, found_in(model))
    if told is None:
        raise ExtractorError(
            f"{name} gave a model and says not how it wants its pixels: give --describe FILE, or "
            f"let the function return the model and a mapping (docs/networks.md); {found_in(model)}"
        )
    if len(model.inputs) != 1:
        raise ExtractorError(f"{name} takes more than an image: {found_in(model)}")
    side, wanted = list(model.inputs[0].shape[1:]), [told.size, told.size]
    wanted = [3, *wanted] if told.layout == "NCHW" else [*wanted, 3]
    if len(side) != 3 or any(a not in (None, b) for a, b in zip(side, wanted, strict=True)):
        raise ExtractorError(
            f"{name} is described as taking {wanted} ({told.layout}), which its model can't: "
            f"{found_in(model)}"
        )
    names = told.outputs or tuple(
        getattr(each._keras_history.operation, "name", each.name) for each in model.outputs
    )
    shapes = _shapes(model, names, wanted)
    where = f"the description of {name}"
    told = replace(told, outputs=_outputs(told, shapes, where, found_in(model)))
    _read_off(told, shapes, where, found_in(model))
    path = keep_weights(model, name)
    listed = tuple(
        f"{what}:{'x'.join('?' if n is None else str(n) for n in shapes[what] or ())}"
        for what in told.outputs
    )
    return _own_network(name, replace(told, shapes=listed)), path


def _shapes(
    model: Any, names: Sequence[str], wanted: Sequence[int]
) -> dict[str, tuple[int | None, ...] | None]:
    found: dict[str, tuple[int | None, ...] | None] = {}
    for name in names:
        output = output_of(model, name)
        shape = tuple(output.shape)
        if None in shape[1:]:
            # Of a model that takes any size, for this one.
            part = type(model)(model.inputs[0], output)
            shape = tuple(part.compute_output_shape((1, *wanted)))
        found[name] = shape
    return found


def _own_network(name: str, told: Description) -> Network:
    shapes: dict[str, tuple[int | None, ...] | None] = {}
    for entry in told.shapes:
        output, _, text = entry.rpartition(":")
        shapes[output] = tuple(None if n == "?" else int(n) for n in text.split("x"))
    readings, channels = _read_off(told, shapes, name, "")
    origin = OwnModel(name, told.layout, MappingProxyType(readings), told.prefix)
    return _network(name, origin, told, readings, channels)


def _network(
    name: str,
    origin: OnnxFile | OwnModel,
    told: Description,
    readings: Mapping[str, Reading],
    channels: Mapping[str, int],
) -> Network:
    views = (told.view,)
    closer = (told.view, told.closer_view)
    spread = [name for name, each in readings.items() if each.what in {"map", "patches"}]
    pooling = "mean+std" if len(spread) == len(readings) else "mean"
    several = Recipe(tuple(readings), pooling, closer, colour="shades-of-grey")
    return Network(
        name=name,
        origin=origin,
        input_size=told.size,
        smallest_input=told.size,
        largest_input=told.size,
        preprocessing=told.preprocessing,
        layers=MappingProxyType(dict(channels)),
        recipes=MappingProxyType(
            {"fast": Recipe(tuple(readings), told.pooling, views), "accurate": several}
        ),
        preparation=(*told.preparation(), f"spread = {json.dumps(spread)}"),
        licence=told.licence,
        trained_on=told.trained_on,
    )


def _input(told: Description, found: Found, where: str) -> str:
    names = [port.name for port in found.inputs]
    if told.input_name is not None and told.input_name not in names:
        raise ExtractorError(f"{where} names the input {told.input_name!r}: {found}")
    if len(names) != 1:
        raise ExtractorError(
            f"{where} is of a network that takes {len(names)} inputs, expected the image alone: "
            f"export only the part that sees images; {found}"
        )
    return names[0]


def _outputs(
    told: Description,
    shapes: Mapping[str, tuple[int | None, ...] | None],
    where: str,
    found: str,
) -> tuple[str, ...]:
    names = told.outputs or tuple(shapes)
    if len(names) > 1 and not told.outputs:
        raise ExtractorError(
            f"{where} must say with output.names which of {len(names)} outputs are read "
            f"({shown(', '.join(names[:_OUTPUTS_SHOWN]))}); {found}"
        )
    for name in names:
        if name not in shapes:
            raise ExtractorError(f"{where} names the output {name!r}; {found}")
    return names


def _read_off(
    told: Description,
    shapes: Mapping[str, tuple[int | None, ...] | None],
    where: str,
    found: str,
) -> tuple[dict[str, Reading], dict[str, int]]:
    readings: dict[str, Reading] = {}
    channels: dict[str, int] = {}
    for name in told.outputs:
        shape = shapes[name] or ()
        sizes = [size for size in shape[1:] if size]
        if len(sizes) != len(shape) - 1 or len(shape) not in (2, 3, 4):
            raise ExtractorError(
                f"the output {name!r} is no vector, row of tokens or map of known size; {found}"
            )
        if len(shape) == 3:
            for what in _tokens(told, name, sizes[0], where, found):
                layer = f"{name}.{what}"
                readings[layer] = Reading(name, what)
                channels[layer] = sizes[1]
        else:
            readings[name] = Reading(name, "vector" if len(shape) == 2 else "map")
            channels[name] = sizes[-1] if told.layout == "NHWC" or len(shape) == 2 else sizes[0]
    if told.tokens and not any(len(shapes[name] or ()) == 3 for name in told.outputs):
        raise ExtractorError(f"{where} says output.tokens, and no output is a row of them; {found}")
    pooled = [layer for layer, each in readings.items() if each.what in {"vector", "class"}]
    if pooled and told.pooling == "mean+std":
        raise ExtractorError(
            f"{where} says pooling mean+std, and {shown(', '.join(pooled))} is not spread over the "
            'image: take output.pooling = "mean"'
        )
    return readings, channels


def _tokens(told: Description, name: str, count: int, where: str, found: str) -> list[Any]:
    if told.tokens is None:
        raise ExtractorError(
            f"{where} must say with output.tokens what is read of the {count} tokens of {name!r}: "
            f'"class", "patches" or "both"; {found}'
        )
    wanted: list[Any] = ["class", "patches"] if told.tokens == "both" else [told.tokens]
    if "class" in wanted and not told.prefix:
        raise ExtractorError(f"{where} says output.prefix = 0: there is no token of the class then")
    side = math.isqrt(max(0, count - told.prefix))
    if "patches" in wanted and (not side or side * side != count - told.prefix):
        raise ExtractorError(
            f"{where} says output.prefix = {told.prefix}: the other {count - told.prefix} tokens "
            f"of {name!r} are no square of patches (count class token and registers); {found}"
        )
    return wanted
