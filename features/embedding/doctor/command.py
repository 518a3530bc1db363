"""``python -m features doctor``: whether images can be embedded here, and how fast."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from features.embedding.doctor.checkup import check
from features.embedding.doctor.findings import Finding
from features.embedding.doctor.stages import Rates, measure
from features.embedding.extractor import load_extractor
from features.embedding.specification import ExtractorSpec
from features.errors import ExtractorError
from features.networks.engines import PRECISIONS
from features.networks.imported.lookup import find_network
from features.networks.imported.torch_networks import from_hub
from features.networks.registry import DEFAULT_NETWORK, NETWORKS, RECIPES
from features.presenting import json_text, shown

__all__ = ["doctor"]

_MARKS: Final = {"ok": "ok", "missing": "MISSING", "optional": "-"}


@click.command()
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False), default=Path(),
    help="Folder that feature files are to be written to.  [default: this one]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--benchmark", is_flag=True,
    help="Measure each stage of extraction, which takes about a minute.",
)  # fmt: skip
@click.option(
    "--images", type=click.IntRange(min=1), default=10_000, show_default=True,
    help="With --benchmark: say how long so many images take.",
)  # fmt: skip
@click.option(
    "--network", default=DEFAULT_NETWORK, show_default=True,
    metavar="NAME|FILE.onnx|timm:NAME|hf:NAME|PACKAGE.MODULE:FUNCTION",
    help="With --benchmark: the network, as for extract_features.py.",
)  # fmt: skip
@click.option(
    "--recipe", type=click.Choice(RECIPES), default="accurate", show_default=True,
    help="With --benchmark: what is read off the network.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["auto", "keras", "openvino"]), default="auto",
    show_default=True, help="With --benchmark: what runs the network.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(list(PRECISIONS)), default="auto", show_default=True,
    help="With --benchmark: number format of its arithmetic.",
)  # fmt: skip
def doctor(
    out: Path,
    as_json: bool,
    benchmark: bool,
    images: int,
    network: str,
    recipe: str,
    engine: str,
    precision: str,
) -> None:
    """Say whether images can be embedded here, what is missing, and how fast it goes.

    Exit status 1 if something is missing that nothing can be extracted without.
    """
    found = check(out)
    rates, name = None, ""
    if benchmark:
        # Random weights take the same time, and are always at hand; ONNX files bring theirs.
        frozen, brought = find_network(
            network, weights="untrained" if from_hub(network) else "imagenet"
        )
        extractor = load_extractor(
            frozen, brought or "untrained", recipe=recipe, engine=engine, precision=precision
        )
        if not as_json:
            click.echo("measuring for about a minute …", err=True)
        try:
            rates = measure(extractor, _existing(out))
        except OSError as error:
            raise ExtractorError(
                f"nothing can be written to {shown(out)} ({error.strerror}): give another folder "
                "with --out"
            ) from error
        name = extractor.prepare().name
    if as_json:
        click.echo(json_text(_as_dict(found, rates, name, images), indent=2))
    else:
        for line in _lines(found):
            click.echo(line)
        if rates is not None:
            for line in _rate_lines(rates, name, images, recipe, extractor.spec):
                click.echo(line)
    if any(each.state == "missing" for each in found):
        sys.exit(1)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ExtractorError(f"there is no folder {shown(folder)}: make it, or give another --out")
    return folder


def _lines(found: list[Finding]) -> list[str]:
    lines = []
    topic = ""
    for each in found:
        if each.topic != topic:
            topic = each.topic
            lines.append(f"{topic}:")
        lines.append(f"  {_MARKS[each.state]:8}{each.name}: {shown(each.value)}")
        if each.mend:
            lines.append(f"          -> {shown(each.mend)}")
    missing = [each.name for each in found if each.state == "missing"]
    lines.append(
        f"missing: {', '.join(missing)}" if missing else "nothing is missing to extract embeddings"
    )
    return lines


def _rate_lines(
    rates: Rates, name: str, images: int, recipe: str, spec: ExtractorSpec
) -> list[str]:
    shared = " (shares the cores with decoding)" if rates.on_cpu else ""
    return [
        f"images per second, {spec.network}, {recipe}, drawn pictures of 600 x 600 pixels:",
        f"  reading and hashing: {rates.read:,.0f}",
        f"  decoding, one core: {rates.decode_one:,.0f}",
        f"  reading and decoding, a process for each core: {rates.decode:,.0f}",
        f"  network, {name}, {spec.precision}: {rates.network:,.1f}{shared}",
        f"  writing: {rates.write:,.0f}",
        f"what limits: {rates.limit}",
        f"{images:,} images: about {_time(rates.hours(images))}, at {rates.whole:,.1f} a second "
        f"and {rates.start:.0f} s to start",
    ]


def _time(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} minutes"


def _as_dict(found: list[Finding], rates: Rates | None, name: str, images: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "ok": all(each.state != "missing" for each in found),
        "networks": list(NETWORKS),
        "findings": [asdict(each) for each in found],
    }
    if rates is not None:
        told["benchmark"] = {
            **asdict(rates),
            "engine": name,
            "whole": rates.whole,
            "limit": rates.limit,
            "images": images,
            "hours": rates.hours(images),
        }
    return told
