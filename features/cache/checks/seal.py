"""The seal of a feature file: a checksum of every byte, kept in front of the HDF5 part.

A sealed file starts with a block of text that HDF5 readers skip (the format's "user block"); it
names the version and the sha256 of all that follows. Whether any byte was altered is thus known
before an HDF5 library, which may crash on altered files, sees the file. The seal guards against
accidents, not against somebody who computes it anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["SEAL_SIZE", "is_intact", "seal_bytes", "seal_file", "sealed_version"]

SEAL_SIZE: Final = 512
_PIECE: Final = 1 << 22
_FIRST_LINE: Final = re.compile(rb"lesion-features ([0-9]{1,6})\n")
_HDF5: Final = b"\x89HDF\r\n\x1a\n"


def seal_file(path: Path, version: int) -> None:
    """Seal a finished HDF5 file that was made with a user block of `SEAL_SIZE` bytes."""
    with path.open("r+b") as file:
        seal = _seal(version, _digest(file))
        file.seek(0)
        file.write(seal)


def seal_bytes(content: bytes, version: int) -> bytes:
    """Give the sealed copy of an HDF5 file in memory, made with such a user block."""
    return _seal(version, hashlib.sha256(content[SEAL_SIZE:]).hexdigest()) + content[SEAL_SIZE:]


def sealed_version(path: Path) -> int | None:
    """Tell the version that a seal names; None if the file is plain HDF5, which has no seal.

    Raises
    ------
    ValueError
        If the file starts neither with a seal nor as HDF5 does.
    """
    with path.open("rb") as file:
        start = file.read(SEAL_SIZE)
    if start.startswith(_HDF5):
        return None
    found = _FIRST_LINE.match(start)
    if found is None:
        raise ValueError("its beginning is neither a seal nor HDF5")
    return int(found[1])


def is_intact(path: Path) -> bool:
    """Tell whether a sealed file is, byte for byte, as it was sealed."""
    with path.open("rb") as file:
        start = file.read(SEAL_SIZE)
        found = _FIRST_LINE.match(start)
        # The whole seal is compared, not just the sum in it: its padding may be altered, too.
        return found is not None and start == _seal(int(found[1]), _digest(file))


def _seal(version: int, digest: str) -> bytes:
    text = f"lesion-features {version}\nsha256 of all bytes from {SEAL_SIZE} on: {digest}\n"
    return text.encode().ljust(SEAL_SIZE, b"\0")


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(SEAL_SIZE)
    for piece in _pieces(file):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
