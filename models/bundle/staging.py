"""How a finished folder takes its place: whole or not at all, and never over a user's files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from models.bundle.manifest import MANIFEST, BundleRefused, peek

__all__ = ["require_free", "swap"]


def require_free(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse an output folder that something would be lost from.

    Parameters
    ----------
    folder : str or Path
    overwrite : bool
        Whether a bundle may be replaced.

    Raises
    ------
    BundleRefused
        If it could not be written, or there is anything in `folder`, unless that is a bundle,
        nothing else, and may be replaced.
    """
    folder = Path(folder)
    _require_writable(folder)
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise BundleRefused(f"{folder} exists and is not a folder: give another one with --out")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    if not overwrite:
        raise BundleRefused(
            f"the folder {folder} exists and is not empty: give another one with --out, "
            "or --overwrite to replace the bundle in it"
        )
    known = peek(folder)
    if known is None:
        raise BundleRefused(
            f"the folder {folder} is not a bundle, so --overwrite doesn't replace it: "
            "give another one with --out"
        )
    files = known.get("files")
    if others := sorted(found - {MANIFEST} - set(files if isinstance(files, dict) else ())):
        raise BundleRefused(
            f"the bundle {folder} also holds {', '.join(others[:3])}, which --overwrite would "
            "delete: move that away, or give another folder with --out"
        )


def _require_writable(folder: Path) -> None:
    target = folder.resolve()
    there = next(place for place in target.parents if place.exists())
    try:
        # As it is done at the end, so that a name that is too long is met now.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=there):
            pass
    except OSError as error:
        raise BundleRefused(
            f"the bundle {folder} can't be written ({error.strerror or error}): "
            "make room or give another folder with --out"
        ) from error


def swap(staged: Path, target: Path, replaced: Path) -> None:
    """Rename a finished folder into place so that it survives a power cut.

    Parameters
    ----------
    staged : Path
        The finished folder.
    target : Path
        Its place; what is there is moved away first, and back if anything goes wrong.
    replaced : Path
        Where to, on the same file system.

    Raises
    ------
    OSError
    """
    for path in (*staged.iterdir(), staged):
        _sync(path)
    with contextlib.ExitStack() as undo:
        if target.exists():
            target.rename(replaced)
            undo.callback(replaced.rename, target)
        staged.rename(target)
        undo.pop_all()
    _sync(target.parent)


def _sync(path: Path) -> None:
    # Elsewhere folders, and files opened for reading, can't be flushed.
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
