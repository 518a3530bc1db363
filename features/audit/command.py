"""``python -m features audit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from features.errors import CacheError, LesionError
from features.numbers import count
from features.presenting import as_bytes, json_text, shown
from features.storage.fetching import named
from features.storage.options import FEATURES, PLACE

__all__ = ["audit"]


@click.command("audit")
@click.argument("file", type=FEATURES)
@click.option(
    "--images", type=PLACE, metavar="FOLDER",
    help="Folder of the images, if they no longer lie where they were at extraction.",
)  # fmt: skip
@click.option(
    "--json", "as_json", type=click.Path(path_type=Path), metavar="OUT",
    help="Write all findings as JSON.",
)  # fmt: skip
@click.option(
    "--html", "as_html", type=click.Path(path_type=Path), metavar="OUT",
    help="Write a page with pictures.",
)  # fmt: skip
@click.option(
    "--groups", type=click.Path(path_type=Path), metavar="CSV|none",
    help="Table of groups, which fit_classifier.py uses.  [default: FILE.groups.csv beside FILE]",
)  # fmt: skip
@click.option(
    "--neighbours", type=click.Choice(["auto", "exact", "index"]), default="auto",
    show_default=True,
    help="How the nearest images are searched: exact compares each with all, index finds most of "
    "them, says how many, and is kept beside FILE; auto takes it for 200,000 images and more, "
    "where the extra of that name is installed.",
)  # fmt: skip
@click.option(
    "--strict", is_flag=True, help="Exit with 1 if copies cross splits or contradict each other."
)
def audit(
    file: Path,
    images: Path | None,
    as_json: Path | None,
    as_html: Path | None,
    groups: Path | None,
    neighbours: str,
    strict: bool,
) -> None:
    """Look for copies, leaks, contradictions, oddities and shortcuts in the feature file FILE.

    Copies are found in the pictures where they can be seen, and by embedding alone elsewhere.
    Which images belong together is written beside FILE, where fit_classifier.py finds it.
    """
    from features.audit.findings import audit as audit_features
    from features.audit.groups import groups_path, groups_text
    from features.audit.page import render_audit
    from features.audit.text import audit_text
    from features.cache.contents import read_features
    from features.cache.writer import require_place

    table = None if str(groups) == "none" else groups or groups_path(file)
    try:
        for place in filter(None, (table, as_json, as_html)):
            require_place(place)
        features = read_features(file)
        with _Progress() as progress:
            found = audit_features(features, images, progress.update, way=neighbours, beside=file)
        there = features.items.path != ""
        if table:
            _write(table, groups_text(features.items.take(there), found.names[there].tolist()))
        if as_json:
            _write(
                as_json, json_text({"file": named(str(file)), **found.as_dict()}, indent=1) + "\n"
            )
        if as_html:
            _write(as_html, render_audit(found, features, file.name))
    except LesionError as error:
        sys.exit(f"error: {named(str(error))}")
    except KeyboardInterrupt:
        sys.exit("stopped: the audit was not finished, nothing was written")
    click.echo(audit_text(found))
    for title, path in (("groups", table), ("json", as_json), ("page", as_html)):
        if path is not None:
            click.echo(f"{title}: {shown(path)}")
    if strict and (found.leaks or found.contradictions):
        sys.exit(
            f"error: {count(len(found.leaks), 'group')} of copies across splits, "
            f"{len(found.contradictions)} with contradicting labels (--strict)"
        )


def _write(path: Path, text: str) -> None:
    try:
        path.write_bytes(as_bytes(text))
    except OSError as error:
        raise CacheError(f"{path} can't be written ({error.strerror})") from error


class _Progress:
    """A bar per step on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._step = ""

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, step: str, done: int, total: int) -> None:
        if step != self._step:
            self._close()
            self._bar = tqdm(total=total, desc=step, unit="image", file=sys.stderr, leave=False)
            self._step = step
        self._bar.update(done - self._bar.n)
