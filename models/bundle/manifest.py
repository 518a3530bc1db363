"""``bundle.json``: what it must say, and whether the files beside it are those it was written for.

The hashes find what was damaged or changed by accident, or by somebody who didn't mean to hide
it; they are not a signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from features.embedding.specification import ExtractorSpec
from features.errors import LesionError
from features.presenting import MARKS, json_text

__all__ = [
    "BUNDLE_FORMAT",
    "BUNDLE_VERSION",
    "DOCUMENTS",
    "MANIFEST",
    "NETWORK_FILES",
    "NETWORK_NUMBERS",
    "BundleRefused",
    "altered",
    "head_files",
    "network_files",
    "peek",
    "read_manifest",
    "seal",
    "verify_files",
]

BUNDLE_FORMAT: Final = "lesion-bundle"
BUNDLE_VERSION: Final = 2
MANIFEST: Final = "bundle.json"
DOCUMENTS: Final = ("comparison.json", "report.html", "MODEL_CARD.md")
# Keras tells by the end of the name how the weights in a file are laid out.
NETWORK_FILES: Final = ("network.weights.h5", "network.h5", "network.xml")
# The numbers of a converted network, beside its graph.
NETWORK_NUMBERS: Final = "network.bin"

# What older versions, which are read all the same, don't have.
_NEW_FIELDS: Final = {1: {"zone"}, 2: set[str]()}
# Only where there is something to say.
_OPTIONAL: Final = {"fusion", "classes", "relabelled"}
_SIZE_LIMIT: Final = 16 << 20
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "format": (str,),
    "version": (int,),
    "created": (str,),
    "fingerprint": (str,),
    "extractor": (dict,),
    "network_file": (str, type(None)),
    "labels": (list,),
    "positive": (str,),
    "head": (str,),
    "head_title": (str,),
    "head_file": (str,),
    "settings": (dict,),
    "threshold": (int, float),
    "threshold_rule": (str,),
    "zone": (dict, type(None)),
    "calibration": (dict,),
    "classes": (dict, type(None)),
    "fusion": (dict, type(None)),
    "relabelled": (dict, type(None)),
    "metrics": (dict,),
    "counts": (dict,),
    "folds": (int,),
    "seed": (int,),
    "notes": (list,),
    "marks": (list,),
    "versions": (dict,),
    "files": (dict,),
    "sealed": (str,),
}


class BundleRefused(LesionError):
    """A bundle that is incomplete, altered, or can't be made or served as it is."""


def altered(folder: Path, what: str) -> BundleRefused:
    """Say what is wrong with a bundle that once was right."""
    return BundleRefused(
        f"the bundle {folder} was altered or damaged: {what}; copy it or fit it again"
    )


def seal(values: Mapping[str, Any]) -> bytes:
    """Give the bytes of ``bundle.json``, with a hash of its own content in it.

    Parameters
    ----------
    values : mapping
        All fields but ``sealed``.
    """
    return _as_bytes({**values, "sealed": hashlib.sha256(_as_bytes(values)).hexdigest()})


def peek(folder: Path) -> dict[str, Any] | None:
    """Give what ``bundle.json`` says, unverified; None if the folder is no bundle at all."""
    path = folder / MANIFEST
    try:
        if not path.is_file() or path.stat().st_size > _SIZE_LIMIT:
            return None
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.get("format") != BUNDLE_FORMAT:
        return None
    return values


def read_manifest(folder: Path) -> tuple[dict[str, Any], ExtractorSpec]:
    """Read ``bundle.json`` and refuse it unless it is as it was written and makes sense.

    Raises
    ------
    BundleRefused
    """
    values = _read_fields(folder)
    try:
        spec = ExtractorSpec.from_dict(values["extractor"])
        _require_sense(folder, values, spec)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise altered(folder, f"{MANIFEST} has values that make no sense ({error})") from error
    return values, spec


def verify_files(
    folder: Path, files: Mapping[str, Any], wanted: Collection[str]
) -> dict[str, bytes]:
    """Compare the size and the hash of every file.

    Returns
    -------
    dict of str to bytes
        The content of the files `wanted`: the very bytes that were hashed.

    Raises
    ------
    BundleRefused
    """
    contents: dict[str, bytes] = {}
    for name, known in files.items():
        kept: list[bytes] = []
        path = folder / name
        if not path.is_file():
            raise BundleRefused(
                f"the bundle {folder} is incomplete: {name} is missing; copy it or fit it again"
            )
        _require_inside(folder, name)
        size = path.stat().st_size
        if size != known["bytes"]:
            raise altered(folder, f"{name} has {size} bytes where {known['bytes']} were written")
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                if name in wanted:
                    kept.append(block)
        if digest.hexdigest() != known["sha256"]:
            raise altered(folder, f"{name} is not the file that was written")
        if name in wanted:
            contents[name] = b"".join(kept)
    return contents


def head_files(values: Mapping[str, Any]) -> set[str]:
    """Name the files of the heads of all classes."""
    others = [] if values["classes"] is None else values["classes"]["heads"]
    return {values["head_file"], *(known["file"] for known in others)}


def network_files(values: Mapping[str, Any]) -> set[str]:
    """Name the files of the network; none if it is untrained."""
    name = values["network_file"]
    return {name, NETWORK_NUMBERS} if name == NETWORK_FILES[2] else {name} - {None}


def _as_bytes(values: Mapping[str, Any]) -> bytes:
    return (json_text(values, indent=1) + "\n").encode()


def _read_fields(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        made = "" if folder.suffix.lower() in {".h5", ".hdf5"} else "from a feature file "
        raise BundleRefused(
            f"{folder} is a file, and a bundle is a folder: make one {made}with "
            f"`python fit_classifier.py {folder if not made else 'FEATURES'} --out bundle`, "
            "and give that folder"
        )
    if not folder.is_dir():
        raise BundleRefused(
            f"there is no bundle {folder}: "
            f"make one with `python fit_classifier.py FEATURES --out {folder}`"
        )
    if not (folder / MANIFEST).is_file():
        raise BundleRefused(
            f"{folder} is not a bundle, or an incomplete one: it has no {MANIFEST}; "
            "give a folder that fit_classifier.py made"
        )
    _require_inside(folder, MANIFEST)
    values = peek(folder)
    if values is None:
        raise altered(folder, f"{MANIFEST} is damaged or describes something else")
    version = values.get("version")
    if type(version) is not int or version not in _NEW_FIELDS:
        newer = isinstance(version, int) and version > BUNDLE_VERSION
        raise BundleRefused(
            f"the bundle {folder} has format version {version!r}, this program reads version "
            f"{BUNDLE_VERSION}: "
            + ("update the program" if newer else "train the classifier again")
        )
    missing = _NEW_FIELDS[version] | (_OPTIONAL - set(values))
    if odd := sorted(set(values) ^ (set(_FIELDS) - missing)):
        raise altered(folder, f"{MANIFEST} has missing or unknown fields: {', '.join(odd)}")
    _require_as_written(folder, values)
    values |= dict.fromkeys(missing)
    if odd := [name for name, kinds in _FIELDS.items() if type(values[name]) not in kinds]:
        raise altered(folder, f"{MANIFEST} has fields of a wrong type: {', '.join(odd)}")
    return values


def _require_as_written(folder: Path, values: dict[str, Any]) -> None:
    content = {name: value for name, value in values.items() if name != "sealed"}
    try:
        same = (folder / MANIFEST).read_bytes() == seal(content)
    except (ValueError, RecursionError) as error:
        raise altered(folder, f"{MANIFEST} is not as it was written ({error})") from error
    if not same:
        raise altered(folder, f"{MANIFEST} is not as it was written")


def _require_sense(folder: Path, values: dict[str, Any], spec: ExtractorSpec) -> None:
    labels, marks, files = values["labels"], values["marks"], values["files"]
    networks = (None,) if spec.untrained else NETWORK_FILES
    sound = {
        "fingerprint": values["fingerprint"] == spec.fingerprint,
        "labels": len(labels) == 2 and all(type(label) is str and label for label in labels),
        "positive": labels[-1:] == [values["positive"]],
        "marks": set(marks) <= set(MARKS) and ("untrained" in marks) == spec.untrained,
        "network_file": values["network_file"] in networks,
        "notes": all(type(note) is str for note in values["notes"]),
        "files": all(
            set(known) == {"sha256", "bytes"} and _SHA256.fullmatch(known["sha256"])
            for known in files.values()
        ),
    }
    if odd := [name for name, holds in sound.items() if not holds]:
        raise altered(folder, f"{MANIFEST} has values that make no sense: {', '.join(odd)}")
    for name in files:
        if not _PLAIN_NAME.fullmatch(name):
            raise altered(folder, f"{MANIFEST} names a file {name!r} outside of the folder")
    converted = values["network_file"] == NETWORK_FILES[2]
    needed = {*DOCUMENTS, *head_files(values), *network_files(values)}
    if missing := sorted(needed - set(files)):
        raise altered(folder, f"{MANIFEST} has no hash of {', '.join(missing)}")
    if not (spec.untrained or converted) and (
        files[values["network_file"]]["sha256"] != spec.weights_sha256
    ):
        raise altered(folder, "its network is not the one that its fingerprint names")


def _require_inside(folder: Path, name: str) -> None:
    if (folder / name).resolve().parent != folder.resolve():
        raise altered(folder, f"{name} is a link to somewhere else")
