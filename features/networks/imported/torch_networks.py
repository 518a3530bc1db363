"""Networks of timm and Hugging Face: exported to ONNX once, by a process of their own.

What comes out is kept in the user's cache folder with a description, and used as any ONNX file is:
torch is in no process but `torch_export`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import features
from features.errors import ExtractorError, WeightsError
from features.networks.weights import file_sha256
from features.presenting import shown
from features.storage.user_cache import user_cache

__all__ = ["Exported", "exported_network", "from_hub", "preview_network"]

# Raise it when an export would come out differently from the same weights.
_EXPORT: Final = 1
_SECONDS: Final = 3600
_PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "timm": ("timm", "torch", "onnx"),
    "hf": ("transformers", "torch", "torchvision", "onnx"),
}
_WHERE: Final = {"timm": "timm's weights on Hugging Face", "hf": "Hugging Face"}
_NAME: Final = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_SUFFIXES: Final = (".safetensors", ".pth", ".pt", ".bin")
_LONGEST: Final = 90
_KEPT: Final = ("config.json", "preprocessor_config.json")
_ONNX: Final = "network.onnx"
_DESCRIPTION: Final = "network.toml"
_NOTE: Final = "about.json"


@dataclass(frozen=True)
class Exported:
    """A network as it was exported.

    Parameters
    ----------
    path : Path
        The ONNX file.
    description : Path or None
        None where its own preparation can't be said in one.
    unsaid : str
        Which preparation, then.
    untrained : bool
    """

    path: Path
    description: Path | None
    unsaid: str
    untrained: bool


def from_hub(name: str) -> bool:
    """Whether a network is called as one of timm or Hugging Face.

    Examples
    --------
    >>> from_hub("timm:resnet18"), from_hub("mine:network")
    (True, False)
    """
    hub, colon, _ = name.partition(":")
    return bool(colon) and hub in _PACKAGES


def exported_network(name: str, weights: str = "imagenet") -> Exported:
    """Find a network as it was exported before, or export it now.

    Parameters
    ----------
    name : str
        ``timm:NAME`` or ``hf:NAME``.
    weights : {"imagenet", "untrained"} or path, optional
        ``"imagenet"`` are those that are published under its name, fetched once by the library's
        own means. A path is a file for timm, and a folder for Hugging Face.

    Returns
    -------
    Exported

    Raises
    ------
    ExtractorError
        If there is no such network, or it can't be exported here.
    WeightsError
        If its weights can't be had.
    """
    hub, called = _split(name)
    source = _source(name, hub, weights)
    what = json.dumps([_EXPORT, name, source], sort_keys=True).encode()
    key = hashlib.sha256(what).hexdigest()[:16]
    folder = user_cache("networks") / f"exported-{hub}-{called.replace('/', '-')}-{key}"
    found = _read(folder, weights == "untrained")
    if found is not None:
        return found
    if sys.stderr.isatty():
        sys.stderr.write(f"exporting {name} to ONNX, once …\n")
    try:
        return _export(name, weights, source, folder)
    except OSError as error:
        raise ExtractorError(
            f"the exported network {name} can't be kept in {folder.parent} "
            f"({error.strerror or error}): set LESION_CACHE to a folder with room"
        ) from error


def _export(name: str, weights: str, source: str, folder: Path) -> Exported:
    hub, called = _split(name)
    untrained = weights == "untrained"
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        told = _ask(name, hub, called, weights, staged / _ONNX, published=weights == "imagenet")
        if told["description"] is not None:
            (staged / _DESCRIPTION).write_text(told["description"], encoding="utf-8")
        note = {"network": name, "weights": source} | {
            key: told[key] for key in ("unsaid", "difference", "libraries")
        }
        (staged / _NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")
        _publish(staged, folder, untrained)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    made = _read(folder, untrained)
    if made is None:
        raise FileNotFoundError(folder)
    return made


def preview_network(name: str, weights: str = "imagenet") -> dict[str, Any]:
    """Say what would come out, without fetching weights where the library knows the rest.

    Returns
    -------
    dict
        ``description`` (text of its file, or None and ``unsaid``), ``outputs`` (name and shape),
        ``size``, ``parameters``, ``libraries``.

    Raises
    ------
    ExtractorError
        If there is no such network.
    WeightsError
        If its weights can't be had, where they are looked at.
    """
    hub, called = _split(name)
    _source(name, hub, weights)
    # timm knows all but the numbers of its networks, and random ones have the same shapes.
    given = "untrained" if weights == "imagenet" and hub == "timm" else weights
    return _ask(name, hub, called, given, None, published=weights == "imagenet")


def _split(name: str) -> tuple[str, str]:
    hub, _, called = name.partition(":")
    if not _NAME.fullmatch(called) or len(called) > _LONGEST:
        example = "timm:resnet18.a1_in1k" if hub == "timm" else "hf:facebook/dinov2-small"
        raise ExtractorError(f"got network {shown(name)!r}, expected a name such as {example}")
    return hub, called


def _source(name: str, hub: str, weights: str) -> str:
    """Say where the weights come from: by their content, where they are at hand."""
    if weights in ("imagenet", "untrained"):
        return weights
    path = Path(weights)
    if hub == "hf":
        if not (path / "config.json").is_file():
            raise WeightsError(
                f"got weights {weights} for {name}, expected a folder with config.json, as "
                "`hf download` and save_pretrained write it"
            )
        kept = sorted(
            each for each in path.iterdir() if each.suffix in _SUFFIXES or each.name in _KEPT
        )
    else:
        if not path.is_file() or path.suffix not in _SUFFIXES:
            raise WeightsError(
                f"got weights {weights} for {name}, expected a file that ends in "
                f"{', '.join(_SUFFIXES)}"
            )
        beside = path.with_name("config.json")
        kept = [path, *([beside] if beside.is_file() else [])]
    digests = [f"{each.name}:{file_sha256(each)}" for each in kept if each.is_file()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _read(folder: Path, untrained: bool) -> Exported | None:
    try:
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    description = folder / _DESCRIPTION
    return Exported(
        folder / _ONNX, description if description.is_file() else None, note["unsaid"], untrained
    )


def _publish(staged: Path, folder: Path, untrained: bool) -> None:
    try:
        staged.replace(folder)
    except OSError:
        # Another process was first: what it made is the same.
        if _read(folder, untrained) is None:
            raise


def _ask(
    name: str, hub: str, called: str, weights: str, target: Path | None, *, published: bool
) -> dict[str, Any]:
    if lacking := [each for each in _PACKAGES[hub] if importlib.util.find_spec(each) is None]:
        raise ExtractorError(
            f"{name} is exported to ONNX once, for which {', '.join(lacking)} "
            f"{'is' if len(lacking) == 1 else 'are'} missing here: run "
            f"`pip install 'lesion-classifier[{hub}]'`, or export it where that is installed and "
            "give --network FILE.onnx (docs/networks.md)"
        )
    request = {
        "hub": hub,
        "name": called,
        "weights": weights,
        "published": published,
        "target": None if target is None else str(target),
    }
    place = str(Path(features.__file__).parent.parent)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "features.networks.imported.torch_export"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
            env={
                "HF_HUB_ETAG_TIMEOUT": "5",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH")))),
            },
        )
    except subprocess.TimeoutExpired as error:
        raise ExtractorError(
            f"{name} can't be exported: it took more than {_SECONDS // 60} minutes"
        ) from error
    answers = [each for each in map(_mapping, done.stdout.splitlines()) if each is not None]
    last = answers[-1] if answers else {}
    if "refused" in last:
        raise WeightsError(f"{name} can't be used: {shown(last['refused'])}")
    if "outputs" not in last:
        step = [str(each["step"]) for each in answers if "step" in each][-1:] or ["import"]
        if done.returncode < 0:
            why = f"it was stopped by signal {-done.returncode}: memory may be short"
        else:
            why = str(last.get("failed", done.stderr.strip()[-200:]))
        raise _failure(name, hub, weights, step[0], shown(why))
    return last


def _failure(
    name: str, hub: str, weights: str, step: str, why: str
) -> ExtractorError | WeightsError:
    if step == "fetch":
        kind = "FILE.safetensors" if hub == "timm" else "FOLDER"
        return WeightsError(
            f"{name} can't be fetched from {_WHERE[hub]} ({why}): fetch it where there is a "
            f"network and give it with --weights {kind}"
            + (", or ask for random ones with --weights untrained" if hub == "timm" else "")
        )
    if step == "load":
        return WeightsError(f"the weights {weights} of {name} can't be read ({why})")
    return ExtractorError(f"{name} can't be exported to ONNX: {step} failed ({why})")


def _mapping(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
