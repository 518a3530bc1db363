"""What stands wherever a person reads a result, and how pages are made from templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

__all__ = [
    "MARKS",
    "NOT_A_DIAGNOSIS",
    "SPLIT_IMAGES",
    "SPLIT_TITLES",
    "SPLIT_WORDS",
    "page_environment",
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
    )
    found.filters.update(filters)
    return found
