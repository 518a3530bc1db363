"""Zip and tar archives, read in place by several threads."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import tempfile
import threading
import time
import weakref
import zipfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, NoReturn

from features.errors import DatasetError, UnreadableImage
from features.images.sources.member import MAX_BYTES, Member, require_harmless, too_large
from features.presenting import shown

__all__ = ["Tar", "Zip", "is_tar", "is_zip"]

# Images are compressed already: what grows like this was made to do harm.
_GROWTH: Final = 200
_SMALL: Final = 1 << 30
_LOCAL_HEADER: Final = 30
_ZIP_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_COMPRESSED: Final[dict[bytes, Callable[[Path], IO[bytes]]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
# What the standard library raises on archives that are damaged, encrypted or packed in other ways.
_DAMAGE: Final = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError,
    ValueError, LookupError, NotImplementedError, RuntimeError,
)  # fmt: skip


def is_zip(file: Path) -> bool:
    """Tell whether a file is a zip archive, by its beginning."""
    with file.open("rb") as opened:
        return opened.read(4) in _ZIP_STARTS


def is_tar(file: Path) -> bool:
    """Tell whether a file is a tar archive, compressed or not."""
    try:
        with file.open("rb") as opened:
            start = opened.read(512)
        compressed = _decompressor(start)
        if compressed:
            with compressed(file) as inside:
                start = inside.read(512)
        return start[257:262] == b"ustar" or (compressed is None and _is_old_tar(file))
    except _DAMAGE:
        return False


class Zip:
    """A zip archive.

    Parameters
    ----------
    file : Path

    Raises
    ------
    DatasetError
        If it is damaged, encrypted, grows beyond measure, or holds links or names that lead out.
    """

    all_images = False

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise _broken(file, error) from error
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            if info.is_dir():
                continue
            name = info.filename
            if info.create_system == 0 and "/" not in name:
                # Old programs on Windows write its own slashes, against the standard.
                name = name.replace("\\", "/")
            require_harmless(file, name)
            if stat.S_ISLNK(info.external_attr >> 16):
                _refuse_link(file, name)
            if info.flag_bits & 1:
                raise DatasetError(f"{file} is encrypted: unpack it, and give the folder")
            if name in self._infos:
                _refuse_twice(file, name)
            self._infos[name] = info
        self._require_bounded()

    def members(self) -> list[Member]:
        """List the files in it."""
        return [
            Member(name, info.file_size, _seconds(info.date_time))
            for name, info in self._infos.items()
        ]

    def read(self, name: str) -> bytes:
        """Read a file in it.

        Raises
        ------
        UnreadableImage
            If there is no such file, or it is damaged or too large.
        """
        info = self._infos.get(name)
        if info is None:
            raise _missing(self._file)
        if info.file_size > MAX_BYTES:
            raise too_large()
        try:
            with self._lock:
                opened = self._zip.open(info)
            try:
                return opened.read()
            finally:
                with self._lock:
                    opened.close()
        except _DAMAGE as error:
            raise _damaged(error) from error

    def _require_bounded(self) -> None:
        infos = sorted(self._infos.values(), key=lambda info: info.header_offset)
        for info, after in pairwise(infos):
            if info.header_offset + _LOCAL_HEADER + info.compress_size > after.header_offset:
                raise _bomb(self._file, "whose files lie upon each other")
        total = sum(info.file_size for info in infos)
        if total > max(_SMALL, _GROWTH * self._file.stat().st_size):
            raise _bomb(self._file, f"of {self._file.stat().st_size:,} bytes that hold {total:,}")


class Tar:
    """A tar archive; one that is compressed is unpacked once to a temporary file without a name.

    Parameters
    ----------
    file : Path

    Raises
    ------
    DatasetError
        As for `Zip`.
    """

    all_images = False

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._infos: dict[str, tarfile.TarInfo] = {}
        try:
            self._opened = self._plain()
            with tarfile.open(
                fileobj=self._opened, mode="r:", encoding="utf-8", errors="surrogateescape"
            ) as archive:
                for info in archive:
                    self._take(info)
        except _DAMAGE as error:
            raise _broken(file, error) from error

    def _take(self, info: tarfile.TarInfo) -> None:
        name = info.name.removeprefix("./")
        if info.isdir():
            return
        require_harmless(self._file, name)
        if info.issym() or info.islnk():
            _refuse_link(self._file, name)
        if not info.isreg() or info.issparse():
            raise DatasetError(
                f"{self._file} holds {shown(name)!r}, which is no ordinary file: "
                "unpack it, and give the folder"
            )
        if name in self._infos:
            _refuse_twice(self._file, name)
        self._infos[name] = info

    def members(self) -> list[Member]:
        """List the files in it."""
        return [Member(name, info.size, info.mtime) for name, info in self._infos.items()]

    def read(self, name: str) -> bytes:
        """Read a file in it.

        Raises
        ------
        UnreadableImage
            If there is no such file, or it is damaged or too large.
        """
        info = self._infos.get(name)
        if info is None:
            raise _missing(self._file)
        if info.size > MAX_BYTES:
            raise too_large()
        try:
            with self._lock:
                self._opened.seek(info.offset_data)
                data = self._opened.read(info.size)
        except OSError as error:
            raise _damaged(error) from error
        if len(data) < info.size:
            raise UnreadableImage("truncated", "the archive ends within the file: copy it again")
        return data

    def _plain(self) -> IO[bytes]:
        opened = self._file.open("rb")
        weakref.finalize(self, opened.close)
        compressed = _decompressor(opened.read(8))
        opened.seek(0)
        if compressed is None:
            return opened
        opened.close()
        plain = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, plain.close)
        most = max(_SMALL, _GROWTH * self._file.stat().st_size)
        with compressed(self._file) as inside:
            while chunk := inside.read(1 << 20):
                plain.write(chunk)
                if plain.tell() > most:
                    raise _bomb(self._file, f"that unpacks to more than {most:,} bytes")
        plain.seek(0)
        return plain


def _decompressor(start: bytes) -> Callable[[Path], IO[bytes]] | None:
    return next((way for magic, way in _COMPRESSED.items() if start.startswith(magic)), None)


def _is_old_tar(file: Path) -> bool:
    return file.suffix.lower() == ".tar" and tarfile.is_tarfile(file)


def _seconds(date: tuple[int, int, int, int, int, int]) -> float | None:
    try:
        return time.mktime((*date, 0, 1, -1))
    except (OverflowError, ValueError):
        return None


def _refuse_link(file: Path, name: str) -> NoReturn:
    raise DatasetError(
        f"{file} holds a link ({shown(name)!r}), which may lead anywhere: "
        "unpack it by a program that you trust, and give the folder"
    )


def _refuse_twice(file: Path, name: str) -> NoReturn:
    raise DatasetError(
        f"{file} holds two files of the name {shown(name)!r}: unpack it, see which is right, "
        "and give the folder"
    )


def _bomb(file: Path, what: str) -> DatasetError:
    return DatasetError(f"{file} is an archive {what}, as no images are: it is not read")


def _broken(file: Path, error: BaseException) -> DatasetError:
    if isinstance(error, DatasetError):
        return error
    return DatasetError(
        f"{file} is a damaged archive ({error or type(error).__name__}): copy it again"
    )


def _missing(file: Path) -> UnreadableImage:
    return UnreadableImage("unreadable", f"there is no such file in {shown(file.name)}")


def _damaged(error: BaseException) -> UnreadableImage:
    return UnreadableImage(
        "unreadable", f"the file is damaged in its archive ({error or type(error).__name__})"
    )
