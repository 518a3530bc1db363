"""``bundle.json``: what it must say, and whether the files beside it are those it was written for.

The hashes find what was damaged or changed by accident, or by somebody who didn't mean to hide
it; they are not a signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from features.embedding.joined import JoinedSpec
from features.embedding.specification import ExtractorSpec
from features.errors import LesionError
from features.presenting import MARKS, json_text

__all__ = [
    "BUNDLE_FORMAT",
    "BUNDLE_VERSION",
    "CONVERTED",
    "DOCUMENTS",
    "MANIFEST",
    "BundleRefused",
    "BundledNetwork",
    "altered",
    "head_files",
    "network_file",
    "network_files",
    "peek",
    "read_manifest",
    "seal",
    "verify_files",
]

BUNDLE_FORMAT: Final = "lesion-bundle"
BUNDLE_VERSION: Final = 3
MANIFEST: Final = "bundle.json"
DOCUMENTS: Final = ("comparison.json", "report.html", "MODEL_CARD.md")
# How a converted network's graph is called; its numbers lie beside it.
CONVERTED: Final = ".xml"
_NUMBERS: Final = ".bin"
# Keras tells by the end of the name how the weights in a file are laid out.
_KINDS: Final = (".weights.h5", ".h5", CONVERTED)

# What older versions, which are read all the same, don't have, and have instead.
_NEW_FIELDS: Final = {1: {"zone", "networks"}, 2: {"networks"}, 3: set[str]()}
_OLD_FIELDS: Final = ("extractor", "network_file")
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
    "networks": (list,),
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


@dataclass(frozen=True)
class BundledNetwork:
    """One of the networks whose embeddings a bundle's head is given.

    Parameters
    ----------
    name : str
        By which a person knows it.
    spec : ExtractorSpec
        What its embeddings must be made with.
    file : str or None
        The network as it was converted, or else its weights; None if untrained.
    trained_on : str
        Which images it was trained on; empty if that is not known.
    """

    name: str
    spec: ExtractorSpec
    file: str | None
    trained_on: str

    @property
    def files(self) -> set[str]:
        """The names of all its files."""
        if self.file is None:
            return set()
        numbers = self.file.removesuffix(CONVERTED) + _NUMBERS
        return {self.file, numbers} if self.file.endswith(CONVERTED) else {self.file}

    def as_dict(self) -> dict[str, Any]:
        """Give what the manifest says of it."""
        return {
            "name": self.name,
            "extractor": self.spec.as_dict(),
            "network_file": self.file,
            "trained_on": self.trained_on,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BundledNetwork:
        """Read what `as_dict` gave.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or can't be what it is.
        """
        if odd := sorted(set(values) ^ {"name", "extractor", "network_file", "trained_on"}):
            raise ValueError(f"a network with missing or unknown fields: {', '.join(odd)}")
        spec, file = ExtractorSpec.from_dict(values["extractor"]), values["network_file"]
        words = (values["name"], values["trained_on"], *([] if file is None else [file]))
        if not all(type(word) is str for word in words):
            raise ValueError("a network with fields of a wrong type")
        return cls(values["name"] or spec.network, spec, file, values["trained_on"])


def network_file(place: int, kind: str) -> str:
    """Name a file of the network at this place, the first of which is 0, by its ending.

    Examples
    --------
    >>> network_file(0, CONVERTED), network_file(1, ".h5")
    ('network.xml', 'network-2.h5')
    """
    return f"network-{place + 1}{kind}" if place else f"network{kind}"


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


def read_manifest(folder: Path) -> tuple[dict[str, Any], tuple[BundledNetwork, ...]]:
    """Read ``bundle.json`` and refuse it unless it is as it was written and makes sense.

    Returns
    -------
    values : dict
    networks : tuple of BundledNetwork
        At least one, in the order of the columns that the head is given.

    Raises
    ------
    BundleRefused
    """
    values = _read_fields(folder)
    try:
        networks = tuple(map(BundledNetwork.from_dict, values["networks"]))
        _require_sense(folder, values, networks)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise altered(folder, f"{MANIFEST} has values that make no sense ({error})") from error
    return values, networks


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
    for name, known in files.items():
        _require_there(folder, name, known)
    # Hashing leaves the interpreter to others.
    with ThreadPoolExecutor(min(4, max(1, len(files)))) as pool:
        found = pool.map(
            lambda name: _verified(folder, name, files[name], keep=name in wanted), files
        )
        return {name: data for name, data in zip(files, found, strict=True) if data is not None}


def _require_there(folder: Path, name: str, known: Mapping[str, Any]) -> None:
    path = folder / name
    if not path.is_file():
        raise BundleRefused(
            f"the bundle {folder} is incomplete: {name} is missing; copy it or fit it again"
        )
    _require_inside(folder, name)
    size = path.stat().st_size
    if size != known["bytes"]:
        raise altered(folder, f"{name} has {size} bytes where {known['bytes']} were written")


def _verified(folder: Path, name: str, known: Mapping[str, Any], *, keep: bool) -> bytes | None:
    kept: list[bytes] = []
    digest = hashlib.sha256()
    with (folder / name).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if keep:
                kept.append(block)
    if digest.hexdigest() != known["sha256"]:
        raise altered(folder, f"{name} is not the file that was written")
    return b"".join(kept) if keep else None


def head_files(values: Mapping[str, Any]) -> set[str]:
    """Name the files of the heads of all classes."""
    others = [] if values["classes"] is None else values["classes"]["heads"]
    return {values["head_file"], *(known["file"] for known in others)}


def network_files(networks: Sequence[BundledNetwork]) -> set[str]:
    """Name the files of the networks; those whose weights are made from a seed have none."""
    return {name for each in networks for name in each.files}


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
    instead = set(_OLD_FIELDS) if "networks" in missing else set[str]()
    if odd := sorted(set(values) ^ (set(_FIELDS) - missing | instead)):
        raise altered(folder, f"{MANIFEST} has missing or unknown fields: {', '.join(odd)}")
    _require_as_written(folder, values)
    values |= dict.fromkeys(missing)
    if instead:
        only = {name: values.pop(name) for name in _OLD_FIELDS}
        values["networks"] = [{"name": "", "trained_on": "", **only}]
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


def _require_sense(
    folder: Path, values: dict[str, Any], networks: Sequence[BundledNetwork]
) -> None:
    labels, marks, files = values["labels"], values["marks"], values["files"]
    joined = JoinedSpec(tuple(each.spec for each in networks))
    sound = {
        "networks": len(networks) > 0,
        "fingerprint": values["fingerprint"] == joined.fingerprint,
        "labels": len(labels) == 2 and all(type(label) is str and label for label in labels),
        "positive": labels[-1:] == [values["positive"]],
        "marks": set(marks) <= set(MARKS) and ("untrained" in marks) == joined.untrained,
        "network_file": all(
            each.file in ((None,) if each.spec.seeded else _names(place))
            for place, each in enumerate(networks)
        ),
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
    needed = {*DOCUMENTS, *head_files(values), *network_files(networks)}
    if missing := sorted(needed - set(files)):
        raise altered(folder, f"{MANIFEST} has no hash of {', '.join(missing)}")
    for each in networks:
        converted = each.file is None or each.file.endswith(CONVERTED)
        if not converted and files[each.file]["sha256"] != each.spec.weights_sha256:
            raise altered(folder, f"{each.file} is not the network that its fingerprint names")


def _names(place: int) -> tuple[str, ...]:
    return tuple(network_file(place, kind) for kind in _KINDS)


def _require_inside(folder: Path, name: str) -> None:
    if (folder / name).resolve().parent != folder.resolve():
        raise altered(folder, f"{name} is a link to somewhere else")
