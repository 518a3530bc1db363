"""Which DICOM files are of one patient, told without keeping who it is."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import platformdirs

from features.datasets.vocabulary import is_missing
from features.errors import UnreadableImage
from features.images.codecs.dicom import patient_of
from features.images.sources.files import read_file
from features.numbers import count

__all__ = ["DICOM_SUFFIXES", "patient_groups"]

DICOM_SUFFIXES: Final = frozenset({".dcm", ".dicom"})
# The patient's number lies near the beginning.
_HEAD: Final = 1 << 20


def patient_groups(root: Path, paths: Sequence[str], notes: list[str]) -> dict[str, str]:
    """Give DICOM files of one patient one name, from which the patient can't be told.

    The name is a keyed hash of the patient's number. Its key, the salt, is `LESION_SALT`, or made
    by chance once and kept in the user's data folder, never beside what was made with it.

    Parameters
    ----------
    root : Path
    paths : sequence of str
        Relative to it; those of other files are passed over.
    notes : list of str
        Added to.

    Returns
    -------
    dict of str to str
        Group by path, for files that name their patient.
    """
    asked = [path for path in paths if os.path.splitext(path)[1].lower() in DICOM_SUFFIXES]
    if not asked:
        return {}
    with ThreadPoolExecutor() as pool:
        told = list(pool.map(lambda path: patient_of(_head(root / path)), asked))
    known = {path: name for path, name in zip(asked, told, strict=True) if not is_missing(name)}
    if not known:
        return {}
    salt = _salt(notes)
    found = {path: _name(salt, name) for path, name in known.items()}
    notes.append(
        f"groups: {len(found)} of {count(len(asked), 'DICOM file')} "
        f"{'names its' if len(found) == 1 else 'name their'} patient "
        f"({count(len(set(found.values())), 'patient')}, kept as a salted hash)"
    )
    return found


def _name(salt: bytes, patient: str) -> str:
    return "patient " + hmac.new(salt, patient.encode(), hashlib.sha256).hexdigest()[:16]


def _head(path: Path) -> bytes:
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(_HEAD)
        return read_file(path)[:_HEAD]
    except (OSError, UnreadableImage):
        return b""


def _salt(notes: list[str]) -> bytes:
    if given := os.environ.get("LESION_SALT"):
        return given.encode("utf-8", "surrogateescape")
    place = platformdirs.user_data_path("lesion-classifier") / "salt"
    made = secrets.token_bytes(32)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return place.read_bytes() or made
        with os.fdopen(descriptor, "wb") as file:
            file.write(made)
    except OSError:
        notes.append(
            f"groups: {place} can't be kept, so that patients have other names in the next run: "
            "set LESION_SALT"
        )
    return made
