"""What stands wherever a person reads a result: words, file names, and pages from templates."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

__all__ = [
    "MARKS",
    "NAME_ERRORS",
    "NOT_A_DIAGNOSIS",
    "SPLIT_IMAGES",
    "SPLIT_TITLES",
    "SPLIT_WORDS",
    "as_bytes",
    "csv_text",
    "json_text",
    "on_a_page",
    "page_environment",
    "print_anything",
    "readable",
    "shown",
]

NOT_A_DIAGNOSIS: Final = "Decision support, not a diagnosis."


SPLIT_TITLES: Final = {
    "cross-validation": "Cross-validation",
    "valid": "Validation split",
    "test": "Test split",
}
# Those that say most about images that a head has not seen, first.
SPLIT_IMAGES: Final = {
    "test": "test images",
    "valid": "validation images",
    "cross-validation": "training images, cross-validated",
}
SPLIT_WORDS: Final = {"train": "training", "valid": "validation", "test": "test"}


MARKS: Final = MappingProxyType(
    {
        "untrained": "The network's weights are random: its numbers mean nothing for a patient.",
        "synthetic": "It was made from drawn images, not from photographs: "
        "its numbers mean nothing for a patient.",
    }
)


# How names are turned to UTF-8 and back without loss: on most systems they are bytes of any kind,
# on Windows 16-bit units of any kind.
NAME_ERRORS: Final = "surrogatepass" if os.name == "nt" else "surrogateescape"

_NOT_ON_PAGES: Final = re.compile(
    "[\ud800-\udfff\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def shown(name: str | os.PathLike[str]) -> str:
    r"""Write a file name so that a person can read it on one line.

    What can't be printed is written as an escape: bytes that are no UTF-8, line ends, marks that
    turn the direction of writing.

    Parameters
    ----------
    name : str or PathLike

    Returns
    -------
    str
        Of printable characters, always encodable.

    Examples
    --------
    >>> shown("M\udcfcller\n1.jpg")
    'M\\xfcller\\n1.jpg'
    """
    text = os.fspath(name)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escaped(found: re.Match[str]) -> str:
    return _escape(found[0])


def _escape(character: str) -> str:
    code = ord(character)
    # A byte that is no UTF-8 comes from the operating system as one of these.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def readable(text: str) -> str:
    """Read what is no UTF-8 in a name as Western Europe's code page, as old archives mean it."""
    return _SURROGATES.sub(lambda found: _western(ord(found[0])), text)


def _western(code: int) -> str:
    return bytes([code - 0xDC00]).decode("cp1252", "replace") if code >= 0xDC80 else "\ufffd"


def as_bytes(text: str) -> bytes:
    """Encode text in UTF-8, file names in it by the very bytes that they have on the disk."""
    return text.encode("utf-8", NAME_ERRORS)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    r"""Write lines of CSV, with a line end after each.

    Parameters
    ----------
    rows : iterable of sequences of cells

    Returns
    -------
    str
        What `csv.reader` reads as the same texts; a lone ``\r`` in a cell does not end a line.
    """
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for cells in rows:
        # The module quotes only what its own line end is made of.
        odd = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if odd else plain).writerow(cells)
    return text.getvalue()


def json_text(values: Any, *, indent: int | None = None) -> str:
    r"""Write values as JSON that any encoding takes and that is read back as the same strings.

    A byte of a file name that is no UTF-8 becomes a lone surrogate such as ``\udcfc``.

    Parameters
    ----------
    values : JSON-ready
    indent : int, optional

    Returns
    -------
    str
    """
    text = json.dumps(values, indent=indent, ensure_ascii=False, allow_nan=False)
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def on_a_page(value: object) -> object:
    """Escape in a text what no page may hold: lone bytes, and marks that turn what follows."""
    return type(value)(_NOT_ON_PAGES.sub(_escaped, value)) if isinstance(value, str) else value


def print_anything() -> None:
    """Let what a terminal can't show be escaped on standard output, rather than end the program."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def page_environment(folder: Path, **filters: Callable[..., str]) -> Environment:
    """Give the templates of a folder.

    Parameters
    ----------
    folder : Path
        Files that end in ``.html`` are escaped.
    **filters : callable
        Write values as text.

    Returns
    -------
    jinja2.Environment
    """
    found = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=on_a_page,
    )
    found.filters.update(filters)
    return found
