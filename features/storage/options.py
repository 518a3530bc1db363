"""Options of commands that take an address where they take a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from features.errors import StorageError
from features.storage.addresses import as_place, is_remote
from features.storage.fetching import fetch, fetch_folder

__all__ = ["FEATURES", "FILE", "PLACE", "TEXT"]


class _Place(click.ParamType):  # type: ignore[type-arg]
    name = "path"

    def __init__(self, bring: Callable[[Path], Path] = lambda place: place) -> None:
        self._bring = bring

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            return self._bring(as_place(value))
        except StorageError as error:
            self.fail(str(error), param, ctx)


class _Text(click.ParamType):  # type: ignore[type-arg]
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(as_place(value)) if is_remote(value) else str(value)
        except StorageError as error:
            self.fail(str(error), param, ctx)


def _features(place: Path) -> Path:
    is_file = place.suffix.lower() in (".h5", ".hdf5")
    return fetch(place) if is_file else fetch_folder(place)


# A path or an address; one with a secret in it is refused before any work.
PLACE: Final = _Place()
# A file: of what is at an address, a copy on this machine is given.
FILE: Final = _Place(fetch)
# The same of a feature file, or of a folder of shards.
FEATURES: Final = _Place(_features)
# Words, or an address, of which one with a secret is refused.
TEXT: Final = _Text()
