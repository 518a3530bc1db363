"""What has to be said of a network that is no part of this program: a small TOML file."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from features.errors import ExtractorError
from features.networks.registry import POOLINGS, Preprocessing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Description",
    "described_by",
    "from_text",
    "from_values",
    "read_description",
    "template",
]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_MOST_BYTES: Final = 64 * 1024
_ABOUT: Final = ("name", "licence", "trained_on")
_INPUT: Final = (
    "name", "layout", "channels", "range", "mean", "deviation", "size", "fit", "crop", "resize",
)  # fmt: skip
_OUTPUT: Final = ("names", "tokens", "prefix", "pooling")


@dataclass(frozen=True)
class Description:
    """How pixels become the input of a network, and what is read off its outputs.

    Parameters
    ----------
    size : int
        Side of the square input in pixels.
    range_ : tuple of float
        What pixels of 0 and 255 become before mean and deviation are taken.
    mean, deviation : tuple of three float
        In the order of `channels`.
    channels : {"RGB", "BGR"}
    layout : {"NCHW", "NHWC"}
    crop : float, optional
        The middle square of this part of the image's shorter side is what the network sees; by
        default the whole image is squashed to a square.
    resize : {"bilinear", "bicubic"}
        How pixels are interpolated.
    input_name : str, optional
        By default the only one there is.
    outputs : tuple of str
        By default the only one there is.
    tokens : {"class", "patches", "both"}, optional
        What is read off outputs that are a row of tokens.
    prefix : int
        How many tokens come before those of the patches, the first of them that of the class.
    pooling : {"mean", "mean+std"}
        Of maps and patches over their positions.
    external : tuple of str
        Files beside an ONNX file that belong to it, each with its hash.
    shapes : tuple of str
        Of the outputs of a model of the user's own, so that it need not be built to be known.
    name, licence, trained_on : str
        For people; change no number.
    """

    size: int
    range_: tuple[float, float]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: str = "RGB"
    layout: str = "NCHW"
    crop: float | None = None
    resize: str = "bilinear"
    input_name: str | None = None
    outputs: tuple[str, ...] = ()
    tokens: str | None = None
    prefix: int = 1
    pooling: str = "mean"
    external: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    name: str = ""
    licence: str = ""
    trained_on: str = ""

    @property
    def preprocessing(self) -> Preprocessing:
        """The same as three numbers and an order."""
        low, high = self.range_
        mean = tuple(value - low for value in self.mean)
        return Preprocessing(
            "BGR" if self.channels == "BGR" else "RGB",
            255.0 / (high - low),
            _one_or_three(mean),
            _one_or_three(self.deviation),
        )

    @property
    def view(self) -> str:
        """The view of an image that the network is given."""
        part = "" if self.crop is None else f"centre{self.crop:g}:"
        return f"{part}identity{self._interpolation}"

    @property
    def closer_view(self) -> str:
        """The view of the lesion, for the network."""
        return f"lesion:identity{self._interpolation}"

    @property
    def _interpolation(self) -> str:
        return "" if self.resize == "bilinear" else f"~{self.resize}"

    def preparation(self) -> tuple[str, ...]:
        """List all that changes a number and is in no other part of a specification."""
        values = {
            "input": self.input_name,
            "layout": self.layout,
            "channels": self.channels,
            "range": list(self.range_),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "outputs": list(self.outputs),
            "tokens": self.tokens,
            "prefix": self.prefix if self.tokens else None,
            "external": list(self.external) or None,
            "shapes": list(self.shapes) or None,
        }
        return tuple(
            f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None
        )


def described_by(preparation: Sequence[str], size: int) -> Description:
    """Read what `Description.preparation` listed.

    Raises
    ------
    ValueError
        If it can't be read.
    """
    values = tomllib.loads("\n".join(preparation))
    return Description(
        size=size,
        range_=_pair(values["range"]),
        mean=tuple(map(float, values["mean"])),
        deviation=tuple(map(float, values["deviation"])),
        channels=values["channels"],
        layout=values["layout"],
        input_name=values.get("input"),
        outputs=tuple(values["outputs"]),
        tokens=values.get("tokens"),
        prefix=values.get("prefix", 1),
        external=tuple(values.get("external", ())),
        shapes=tuple(values.get("shapes", ())),
    )


def read_description(path: Path, found: str) -> Description:
    """Read and check a description file.

    Parameters
    ----------
    path : Path
        A TOML file, see ``docs/networks.md``.
    found : str
        What was found in the network, for messages.

    Raises
    ------
    ExtractorError
        With what is wrong in it, and `found`.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ExtractorError(
                f"{path} is larger than a description can be ({_MOST_BYTES} bytes)"
            )
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExtractorError(
            f"there is no description {path}, and how a network wants its pixels can't be guessed: "
            f"{found}; write that file, or give one with --describe FILE "
            "(`python -m features networks check FILE.onnx` prints one to fill in)"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ExtractorError(
            f"the description {path} can't be read ({error}): it is TOML"
        ) from error
    try:
        return from_values(values)
    except ExtractorError as error:
        raise ExtractorError(f"the description {path}: {error}; {found}") from error


def from_values(values: Mapping[str, Any]) -> Description:
    """Make a description of what its file says.

    Raises
    ------
    ExtractorError
        With what is wrong in it.
    """
    _only(values, (*_ABOUT, "input", "output"), "")
    given, out = _table(values, "input"), _table(values, "output")
    _only(given, _INPUT, "input.")
    _only(out, _OUTPUT, "output.")
    for key in _ABOUT:
        if not isinstance(values.get(key, ""), str):
            raise ExtractorError(f"got {key} = {values[key]!r}, expected a text")
    name = values.get("name", "")
    if not _NAME.fullmatch(name):
        raise ExtractorError(
            f"got name = {name!r}, expected up to 96 letters, digits, dots, dashes and underscores"
        )
    crop = _crop(given)
    tokens = _choice(out, "output.tokens", ("class", "patches", "both"), None)
    return Description(
        size=_whole(given, "input.size", 16, 2048),
        range_=_range(given),
        mean=_three(given, "input.mean", 0.0),
        deviation=_three(given, "input.deviation", 1.0),
        channels=str(_choice(given, "input.channels", ("RGB", "BGR"), "RGB")),
        layout=str(_choice(given, "input.layout", ("NCHW", "NHWC"), "NCHW")),
        crop=crop,
        resize=str(_choice(given, "input.resize", ("bilinear", "bicubic"), "bilinear")),
        input_name=_text(given, "input.name"),
        outputs=_names(out),
        tokens=tokens,
        prefix=_whole(out, "output.prefix", 0, 64, 1),
        pooling=str(_choice(out, "output.pooling", POOLINGS, "mean")),
        name=name,
        licence=values.get("licence", ""),
        trained_on=values.get("trained_on", ""),
    )


def from_text(text: str) -> Description:
    """Read a description that this program wrote."""
    return from_values(tomllib.loads(text))


def template(
    name: str, size: int | None, input_name: str, layout: str, outputs: Sequence[str]
) -> str:
    """Write a description to be filled in; what can't be seen in a network is left open."""
    return (
        f"name = {json.dumps(name)}\n"
        'licence = ""       # such as "Apache-2.0"\n'
        'trained_on = ""    # such as "ImageNet-1k"\n\n'
        "[input]\n"
        f"name = {json.dumps(input_name)}\n"
        f'layout = "{layout}"\nsize = {size or "?"}\n'
        'channels = "RGB"   # or "BGR"\n'
        "range = ?          # what pixels of 0 and 255 become: [0, 1], [0, 255] or [-1, 1]\n"
        "mean = ?           # subtracted after that: a number, or three\n"
        "deviation = ?      # divided by after that\n"
        'fit = "squash"     # or "crop", with crop = 0.875: the middle of the shorter side\n'
        'resize = "bilinear"  # or "bicubic"\n\n'
        "[output]\n"
        f"names = {json.dumps(list(outputs))}\n"
    )


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, Mapping):
        raise ExtractorError(f"got {key} = {found!r}, expected a table [{key}]")
    return found


def _only(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise ExtractorError(f"got {where}{key}, expected {', '.join(known)}")


def _text(values: Mapping[str, Any], key: str) -> str | None:
    found = values.get(key.rpartition(".")[2])
    if found is not None and not isinstance(found, str):
        raise ExtractorError(f"got {key} = {found!r}, expected a text")
    return found


def _choice(
    values: Mapping[str, Any], key: str, choices: Sequence[str], default: str | None
) -> str | None:
    found = values.get(key.rpartition(".")[2], default)
    if found is not default and found not in choices:
        raise ExtractorError(f"got {key} = {found!r}, expected {' or '.join(choices)}")
    return None if found is None else str(found)


def _whole(
    values: Mapping[str, Any], key: str, least: int, most: int, default: int | None = None
) -> int:
    found = values.get(key.rpartition(".")[2], default)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        got = "nothing" if found is None else repr(found)
        raise ExtractorError(f"got {got} for {key}, expected a whole number of {least} to {most}")
    return found


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _three(values: Mapping[str, Any], key: str, default: float) -> tuple[float, ...]:
    short = key.rpartition(".")[2]
    if short not in values:
        # What is forgotten here would give other numbers without a word.
        raise ExtractorError(
            f"{key} is missing, expected a number or three ({default:g} if there is none)"
        )
    found = values[short]
    listed = [found] * 3 if _number(found) else found
    if not isinstance(listed, list) or len(listed) != 3 or not all(map(_number, listed)):
        raise ExtractorError(f"got {key} = {found!r}, expected a number or three")
    if short == "deviation" and not all(value > 0 for value in listed):
        raise ExtractorError(f"got {key} = {found!r}, expected numbers above 0")
    return tuple(map(float, listed))


def _range(values: Mapping[str, Any]) -> tuple[float, float]:
    found = values.get("range")
    if (
        not isinstance(found, list)
        or len(found) != 2
        or not all(map(_number, found))
        or not found[0] < found[1]
    ):
        got = "nothing" if found is None else repr(found)
        raise ExtractorError(
            f"got {got} for input.range, expected what pixels of 0 and 255 become before mean and "
            "deviation are taken: [0, 1], [0, 255] or [-1, 1]"
        )
    return _pair(found)


def _pair(values: Sequence[float]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _crop(values: Mapping[str, Any]) -> float | None:
    fit = _choice(values, "input.fit", ("squash", "crop"), "squash")
    crop = values.get("crop")
    if fit == "squash":
        if crop is not None:
            raise ExtractorError(f'got input.crop = {crop!r}, which needs input.fit = "crop"')
        return None
    if crop is None or not _number(crop) or not 0.1 <= crop <= 1 or round(crop, 4) != crop:
        got = "nothing" if crop is None else repr(crop)
        raise ExtractorError(
            f"got {got} for input.crop, expected 0.1 to 1 with at most four decimals: the part of "
            "the shorter side that is seen (224 of 256 pixels are 0.875)"
        )
    return float(crop)


def _names(values: Mapping[str, Any]) -> tuple[str, ...]:
    found = values.get("names", [])
    if (
        not isinstance(found, list)
        or not all(isinstance(name, str) and name for name in found)
        or len(set(found)) < len(found)
    ):
        raise ExtractorError(f"got output.names = {found!r}, expected a list of different names")
    return tuple(found)


def _one_or_three(values: tuple[float, ...]) -> float | tuple[float, float, float]:
    first, second, third = values
    return first if first == second == third else (first, second, third)
