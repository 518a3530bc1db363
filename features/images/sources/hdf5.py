"""HDF5 files of encoded images by id, as ISIC publishes them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import DatasetError, UnreadableImage
from features.images.sources.member import MAX_BYTES, Member, too_large

__all__ = ["Hdf5", "is_hdf5"]

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_FEATURES: Final = "lesion-features"
# What h5py is known to raise on damaged files.
_DAMAGE: Final = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError)


def is_hdf5(file: Path) -> bool:
    """Tell whether a file is HDF5, by its beginning; a feature file has a block before it."""
    with file.open("rb") as opened:
        start = opened.read(520)
    return start.startswith(_MAGIC) or start[512:520] == _MAGIC


class Hdf5:
    """An HDF5 file whose datasets are the bytes of JPEG or other image files.

    Parameters
    ----------
    file : Path

    Raises
    ------
    DatasetError
        If it holds no such datasets, is damaged, or leads out of itself.
    """

    # Ids have no endings.
    all_images = True

    def __init__(self, file: Path) -> None:
        import h5py

        self._file = file
        self._lock = threading.Lock()
        self._names: list[str] = []
        others: list[str] = []
        try:
            self._h5 = h5py.File(file, "r")
            if self._h5.attrs.get("format") == _FEATURES:
                raise DatasetError(
                    f"{file} is a feature file, and here images are expected: "
                    "give it to fit_classifier.py"
                )
            self._collect(self._h5, "", others)
        except _DAMAGE as error:
            raise DatasetError(
                f"{file} can't be read as an HDF5 file of images ({error}): copy it again"
            ) from error
        if not self._names:
            found = f"{others[0]}, for one, is not" if others else "it is empty"
            raise DatasetError(
                f"{file} holds no image files as bytes, as ISIC's train-image.hdf5 does ({found}): "
                "export the images to a folder"
            )

    def _collect(self, group: Any, prefix: str, others: list[str]) -> None:
        import h5py

        for key in group:
            name = f"{prefix}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise DatasetError(f"{self._file} holds a link ({name}), which may lead anywhere")
            if group.get(key, getclass=True) is h5py.Group:
                if prefix.count("/") > 20:
                    raise DatasetError(f"{self._file} holds groups within groups without end")
                self._collect(group[key], f"{name}/", others)
            # 400,000 datasets open in a minute: of each kind of file the first one tells.
            elif len(self._names) > 100 or _is_bytes(group[key]):
                self._names.append(name)
            else:
                others.append(name)

    def members(self) -> list[Member]:
        """List the images in it by their ids."""
        return [Member(name) for name in self._names]

    def read(self, name: str) -> bytes:
        """Read an image's bytes.

        Raises
        ------
        UnreadableImage
            If there is no such id, or it is no encoded image.
        """
        try:
            with self._lock:
                stored = self._h5[name]
                if not _is_bytes(stored):
                    raise UnreadableImage("not_an_image", "it is not the bytes of an image file")
                if stored.nbytes > MAX_BYTES:
                    raise too_large()
                value = stored[()]
        except _DAMAGE as error:
            raise UnreadableImage(
                "unreadable", f"it can't be read from {self._file.name}"
            ) from error
        if isinstance(value, np.ndarray):
            return value.astype(np.uint8, copy=False).tobytes()
        return bytes(value)


def _is_bytes(stored: Any) -> bool:
    import h5py

    # Data in other files would be read from anywhere.
    if not isinstance(stored, h5py.Dataset) or stored.external or stored.is_virtual:
        return False
    if stored.shape == ():
        base = h5py.check_vlen_dtype(stored.dtype)
        is_text = h5py.check_string_dtype(stored.dtype) is not None
        return stored.dtype.kind in "SV" or base == np.uint8 or is_text
    return len(stored.shape) == 1 and stored.dtype.kind in "ui" and stored.dtype.itemsize == 1
