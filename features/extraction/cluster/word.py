"""A word that a run leaves where the shards go, so that every node shows that it sees the place."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from features.errors import StorageError
from features.extraction.shards.cloud import OF_RUNS
from features.storage.addresses import is_remote
from features.storage.objects import put_bytes, read_object, remove

__all__ = ["hear", "spoken"]

_WORD: Final = f"{OF_RUNS}word"
_ANSWER: Final = f"{OF_RUNS}answer"
_BYTES: Final = 100


@contextlib.contextmanager
def spoken(out: Path) -> Iterator[Path]:
    """Write a word that no other place has.

    Parameters
    ----------
    out : Path
        A folder that is there, or an address.

    Yields
    ------
    Path
        Where it is written.

    Raises
    ------
    StorageError
        If nothing can be written to the address.
    """
    word, text = out / _WORD, secrets.token_hex(16)
    if not is_remote(out):
        word.write_text(text, encoding="ascii")
        try:
            yield word
        finally:
            word.unlink(missing_ok=True)
        return
    put_bytes(text.encode(), word)
    try:
        yield word
    finally:
        # They do no harm where nothing may be taken away.
        with contextlib.suppress(StorageError):
            remove(word)
            remove(out / _ANSWER)


def hear(word: Path) -> str:
    """Read the word, and see whether anything can be written beside it if that is an address.

    Returns
    -------
    str
        Empty if it is not there.

    Raises
    ------
    StorageError
        If the address can't be read or written from here.
    """
    if not is_remote(word):
        try:
            return word.read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""
    try:
        text = read_object(word, _BYTES).data.decode(errors="replace")
    except StorageError as error:
        if error.kind != "missing":
            raise
        return ""
    put_bytes(b"heard", word.with_name(_ANSWER))
    return text
