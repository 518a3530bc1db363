"""The commands for feature files: verify, inspect, export and merge (option parsing only)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from features.errors import CacheError
from features.presenting import json_text, shown
from features.storage.addresses import is_remote
from features.storage.fetching import named
from features.storage.options import FEATURES, PLACE
from features.storage.working_copy import is_there, written

__all__ = ["export", "inspect", "merge", "verify"]

_NOTES_SHOWN = 20


@click.command()
@click.argument("file", type=FEATURES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(file: Path, as_json: bool) -> None:
    """Tell whether every byte of FILE is as it was written, and if not, what is damaged.

    The exit status is 1 if a byte was altered, or if the file holds no checksums to tell by.
    """
    from features.cache.verification import verify as check

    found = check(file)
    if as_json:
        click.echo(
            json_text(
                {
                    "file": named(str(file)),
                    "version": found.version,
                    "checksums": found.checked,
                    "whole": found.whole,
                    "altered": list(found.altered),
                },
                indent=2,
            )
        )
    if not found.checked:
        raise CacheError(
            f"{file} is of version {found.version} and holds no checksums, so nothing is known of "
            f"its bytes: `python -m features merge {file} --out NEW` writes a copy that holds them"
        )
    if not found.whole:
        where = "; ".join(found.altered) or "no content, only bytes around it"
        raise CacheError(
            f"{file} was altered after it was written (damaged: {where}): "
            "put a copy in its place or create it again"
        )
    if not as_json:
        click.echo(f"{shown(named(str(file)))}: every byte is as it was written")


@click.command()
@click.argument("file", type=FEATURES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: Path, as_json: bool) -> None:
    """Say what is in FILE: network, images by split and class, failures, dates, software."""
    from features.cache.summary import as_text, summarise

    summary = {**summarise(file), "file": named(str(file))}
    click.echo(json_text(summary, indent=2) if as_json else as_text(summary))


@click.command()
@click.argument("file", type=FEATURES)
@click.argument("out", type=PLACE)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def export(file: Path, out: Path, overwrite: bool) -> None:
    """Write the images and embeddings of FILE to OUT: .npz, .parquet or .csv by its suffix."""
    from features.cache.export import export_features
    from features.cache.summary import summarise

    _require_free(out, overwrite)
    with written(out) as target:
        rows = export_features(file, target)
    click.echo(f"{rows:,} images with their embeddings are in {shown(out)}")
    _tell_marks(summarise(file)["marks"])


@click.command()
@click.argument("files", type=FEATURES, nargs=-1, required=True)
@click.option("--out", "-o", type=PLACE, required=True, help="Feature file to write.")
@click.option("--overwrite", is_flag=True, help="Replace it if it exists.")
def merge(files: tuple[Path, ...], out: Path, overwrite: bool) -> None:
    """Join FILES, made with the same network, weights and options, to one feature file.

    An image that is in several is kept once; where they contradict each other, the first is right.
    """
    from features.cache.merge import merge_features
    from features.cache.summary import summarise
    from features.cache.writer import require_writable

    with written(out) as target:
        require_writable(target)
        _require_free(out, overwrite)
        merged = merge_features(files, target)
        marks = summarise(target)["marks"]
    for note in merged.notes[:_NOTES_SHOWN]:
        click.echo(f"note: {shown(named(note))}", err=True)
    if len(merged.notes) > _NOTES_SHOWN:
        click.echo(f"note: and {len(merged.notes) - _NOTES_SHOWN} more like these", err=True)
    for file in files:
        if file.with_name(f"{file.name}.blocks").exists():
            click.echo(
                f"note: the run that writes {shown(file)} did not end; "
                "only what it joined is taken",
                err=True,
            )
    click.echo(
        f"{merged.images:,} images and {merged.rows:,} embeddings are in {shown(out)}; "
        f"{merged.repeated:,} were in several files"
    )
    _tell_marks(marks)


def _require_free(out: Path, overwrite: bool) -> None:
    from features.cache.writer import require_place

    if not is_remote(out):
        require_place(out)
    if not overwrite and is_there(out):
        raise CacheError(f"{out} exists: give another name, or --overwrite to replace it")


def _tell_marks(marks: Iterable[str]) -> None:
    from features.presenting import MARKS

    for mark in marks:
        click.echo(f"{mark.upper()}: {MARKS[mark]}")
