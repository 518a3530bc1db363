"""Whether a feature file is, byte for byte, what was written, and if not, where it is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py

from features.cache.checks.checksums import altered_parts
from features.cache.checks.seal import is_intact, sealed_version
from features.cache.safe_files import CACHE_VERSION, open_features
from features.cache.shards.folder import open_shards
from features.cache.shards.marks import fits
from features.cache.shards.places import is_shard_folder
from features.errors import CacheError

__all__ = ["Verification", "verify"]

_PATIENCE: Final = 600


@dataclass(frozen=True)
class Verification:
    """What a check of a feature file found.

    Parameters
    ----------
    version : int
        Of the format.
    checked : bool
        Whether the file holds checksums at all; files of version 1 hold none.
    whole : bool
        Whether every byte is as it was written; False also if there is nothing to tell it by.
    altered : tuple of str
        The parts that don't match their checksums; empty if only bytes that hold no content
        are altered.
    """

    version: int
    checked: bool
    whole: bool
    altered: tuple[str, ...] = ()


def verify(path: str | Path, *, locate: bool = True) -> Verification:
    """Check every byte of a feature file, or of all shards, and find the altered parts.

    Parameters
    ----------
    path : str or Path
    locate : bool, optional
        Whether to find out which parts are altered, which takes longer.

    Returns
    -------
    Verification

    Raises
    ------
    CacheError
        If the file is missing or no feature file at all.
    """
    file = Path(path)
    if is_shard_folder(file):
        return _verify_shards(file, locate=locate)
    if not file.is_file():
        raise CacheError(f"{file} does not exist: give the name of a feature file")
    try:
        version = sealed_version(file)
    except ValueError:
        # An altered first line of the seal looks like this; the HDF5 part may still be told.
        return Verification(
            CACHE_VERSION, checked=True, whole=False, altered=_altered(file) if locate else ()
        )
    except OSError as error:
        raise CacheError(f"{file} can't be read ({error.strerror}): fix that") from error
    if version is None:
        with open_features(file) as opened:
            return Verification(int(opened.attrs["version"]), checked=False, whole=False)
    if not is_intact(file):
        return Verification(
            version, checked=True, whole=False, altered=_altered(file) if locate else ()
        )
    with open_features(file) as opened:
        altered = tuple(altered_parts(opened))
    return Verification(version, checked=True, whole=not altered, altered=altered)


def _verify_shards(folder: Path, *, locate: bool) -> Verification:
    """Check each shard against its mark, and those that don't fit against their seals."""
    altered: list[str] = []
    shards = open_shards(folder)
    for path, mark in zip(shards.files, shards.marks, strict=True):
        if fits(path, mark):
            continue
        found = verify(path, locate=locate)
        parts = found.altered or (
            ("whole, but not the file that its mark is of",) if found.whole else ("unknown parts",)
        )
        altered += [f"{path.name}: {part}" for part in parts]
    return Verification(CACHE_VERSION, checked=True, whole=not altered, altered=tuple(altered))


def _altered(file: Path) -> tuple[str, ...]:
    """Look for the damage in a process of its own, since HDF5 may crash or hang on it."""
    command = [sys.executable, "-m", __name__, str(file.resolve())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
        return tuple(json.loads(done.stdout))
    except (subprocess.SubprocessError, ValueError):
        return ("the structure of the HDF5 file",)


def _main() -> None:
    with h5py.File(sys.argv[1], "r") as file:
        json.dump(list(altered_parts(file)), sys.stdout)


if __name__ == "__main__":
    _main()
