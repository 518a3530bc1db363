"""How pages are made from templates: with HTML escaping, and a missing value is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

__all__ = ["page_environment"]


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
