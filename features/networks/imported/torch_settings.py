"""What timm and Hugging Face say of a network's pixels, as a description file says it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["Unsaid", "as_toml", "from_processor", "from_timm", "trained_on"]

_FILTERS: Final = {2: "bilinear", 3: "bicubic"}
_SQUASHED_FROM: Final = 384
# In timm's tags, such as augreg_in21k_ft_in1k; what else is in them is how, not on what.
_IMAGES: Final = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-21k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "openai": "OpenAI's pairs of image and text",
    "laion400m": "LAION-400M",
    "laion2b": "LAION-2B",
    "datacomp1b": "DataComp-1B",
    "metaclip": "MetaCLIP's pairs of image and text",
    "webli": "WebLI",
    "jft": "JFT",
    "ig1b": "a billion images of Instagram",
    "yfcc15m": "YFCC15M",
    "yfcc100m": "YFCC100M",
}


class Unsaid(Exception):
    """A preparation that a description file can't say; its text is what is wanted."""


def from_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the table ``[input]`` for what timm says of a network.

    Parameters
    ----------
    config : mapping
        Of ``timm.data.resolve_model_data_config``.

    Raises
    ------
    Unsaid
        If it wants pixels that a description can't ask for.

    Examples
    --------
    >>> said = from_timm({
    ...     "input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.95,
    ...     "crop_mode": "center", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
    ... })
    >>> said["size"], said["fit"], said["crop"], said["resize"]
    (224, 'crop', 0.9532, 'bicubic')
    """
    colours, height, width = config["input_size"]
    if colours != 3 or height != width:
        raise Unsaid(f"an input of {colours} x {height} x {width}, which is no square in colour")
    interpolation, part, mode = config["interpolation"], config["crop_pct"], config["crop_mode"]
    if interpolation not in _FILTERS.values():
        raise Unsaid(f"{interpolation} interpolation")
    if mode == "squash" and part == 1:
        fit: dict[str, Any] = {"fit": "squash"}
    elif mode == "center" and 0.1 <= part <= 1:
        # As timm rounds: to so many pixels, of which the middle ones are taken.
        fit = _cropped(height, math.floor(height / part))
    else:
        raise Unsaid(f"the crop mode {mode} with a part of {part}")
    return {
        "size": height,
        "range": [0, 1],
        "mean": _numbers(config["mean"]),
        "deviation": _numbers(config["std"]),
        **fit,
        "resize": interpolation,
    }


def from_processor(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the table ``[input]`` for what Hugging Face says of a network.

    Parameters
    ----------
    config : mapping
        An image processor's configuration, such as ``preprocessor_config.json``, with all that is
        usual for its kind.

    Raises
    ------
    Unsaid
        If it wants pixels that a description can't ask for.

    Examples
    --------
    >>> said = from_processor({
    ...     "size": {"height": 224, "width": 224}, "resample": 2, "rescale_factor": 1 / 255,
    ...     "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    ... })
    >>> said["size"], said["range"], said["fit"]
    (224, [0.0, 1.0], 'squash')
    """
    if not config.get("do_resize", True):
        raise Unsaid("images that are not resized")
    size, shorter = _sides(config)
    filter_ = config.get("resample", 2)
    if filter_ not in _FILTERS:
        raise Unsaid(f"the resampling filter {filter_}")
    normalized = config.get("do_normalize", True)
    return {
        "size": size,
        "range": _range(config),
        "mean": _numbers(config["image_mean"]) if normalized else 0,
        "deviation": _numbers(config["image_std"]) if normalized else 1,
        **({"fit": "squash"} if shorter is None else _cropped(size, shorter)),
        "resize": _FILTERS[filter_],
    }


def trained_on(tag: str | None) -> str:
    """Read from a timm tag what its weights were trained on; empty if it doesn't say so.

    Examples
    --------
    >>> trained_on("sw_in12k_ft_in1k")
    'ImageNet-12k, ImageNet-1k'
    >>> trained_on("seer")
    ''
    """
    words = re.findall(r"[a-z0-9]+", tag or "")
    return ", ".join(dict.fromkeys(_IMAGES[word] for word in words if word in _IMAGES))


def as_toml(about: Mapping[str, str], input_: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    """Write a description file."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in about.items()]
    for name, table in (("input", input_), ("output", output)):
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(each)}" for key, each in table.items())]
    return "\n".join(lines) + "\n"


def _sides(config: Mapping[str, Any]) -> tuple[int, int | None]:
    """Tell the input's side; and what the shorter side becomes before, None if squashed."""
    size = _plain(config.get("size"))
    shorter = size.get("shortest_edge")
    height, width = size.get("height"), size.get("width")
    if set(size) - {"shortest_edge", "height", "width"} or (shorter is None) == (height is None):
        raise Unsaid(f"the size {dict(size)}")
    if height != width:
        raise Unsaid(f"an input of {height} x {width} pixels, which is no square")
    if shorter is None:
        return _squashed(config, height), None
    if (part := config.get("crop_pct")) is not None:
        # As ConvNeXt's processor has it: large inputs are squashed.
        return (shorter, None) if shorter >= _SQUASHED_FROM else (shorter, int(shorter / part))
    crop = config.get("crop_size") if config.get("do_center_crop") else None
    if crop is None:
        raise Unsaid(f"a shorter side of {shorter} pixels without a crop, which is no square")
    side = _square(crop)
    if side > shorter:
        raise Unsaid(f"a crop of {side} of {shorter} pixels")
    return side, shorter


def _squashed(config: Mapping[str, Any], side: Any) -> int:
    if config.get("do_center_crop") and (crop := config.get("crop_size")) is not None:
        cut = _square(crop)
        if cut != side:
            raise Unsaid(f"{cut} pixels from the middle of a squashed image of {side}")
    return int(side)


def _square(crop: object) -> int:
    cut = _plain(crop)
    side = cut.get("height", cut.get("shortest_edge"))
    if not isinstance(side, int) or cut.get("width", side) != side:
        raise Unsaid(f"the crop {dict(cut)}")
    return side


def _plain(size: object) -> Mapping[str, Any]:
    if isinstance(size, int):
        return {"height": size, "width": size}
    if not isinstance(size, Mapping):
        raise Unsaid(f"the size {size!r}")
    return {key: value for key, value in size.items() if value is not None}


def _cropped(side: int, shorter: int) -> dict[str, Any]:
    return {"fit": "crop", "crop": min(1.0, round(side / shorter, 4))}


def _range(config: Mapping[str, Any]) -> list[float]:
    if not config.get("do_rescale", True):
        return [0.0, 255.0]
    low = -1.0 if config.get("rescale_offset") else 0.0
    return [low, round(low + 255 * config.get("rescale_factor", 1 / 255), 9)]


def _numbers(values: float | Sequence[float]) -> list[float]:
    listed = list(values) if isinstance(values, Sequence) else [values] * 3
    return [float(value) for value in listed]
