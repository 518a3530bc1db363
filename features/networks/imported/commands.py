"""``python -m features networks``: which networks there are, and what would be done with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from features.errors import ExtractorError
from features.networks.imported.description import read_description, template
from features.networks.imported.lookup import find_network, previewed_network
from features.networks.imported.onnx_file import Found, inspect_onnx
from features.networks.imported.torch_networks import from_hub
from features.networks.registry import DEFAULT_NETWORK, NETWORKS, KerasApplication, Network
from features.presenting import shown

__all__ = ["networks"]

_COLUMNS: Final = ("network", "input", "length", "MB", "trained on", "licence", "gated")
_SIDES: Final = range(32, 2049)


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Give the list as JSON.")
@click.pass_context
def networks(context: click.Context, as_json: bool) -> None:
    """List the networks that are known by name.

    Each with the side of its input in pixels, the length of the embedding that the recipe `fast`
    reads off it, the size of its weights, and what they were trained on. None is gated: Keras'
    weights are fetched without an account.
    """
    if context.invoked_subcommand is not None:
        return
    rows = [_row(network) for network in NETWORKS.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = [list(_COLUMNS), *([str(row[column]) for column in _COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    click.echo(
        f"\n{DEFAULT_NETWORK} is the default. Others: --network FILE.onnx; timm:NAME and hf:NAME "
        "(pip install 'lesion-classifier[timm]' or [hf]), exported to ONNX once: of timm 1.0.31 "
        "1,826 sets of weights for 1,371 architectures, such as ResNet, ConvNeXt, EfficientNet, "
        "Swin, ViT, DINOv2, CLIP; package.module:function for a Keras model of your own; see "
        "docs/networks.md"
    )


@networks.command()
@click.argument("network", metavar="FILE.onnx|timm:NAME|hf:NAME")
@click.option(
    "--describe", type=click.Path(path_type=Path), metavar="FILE",
    help="Its description; by default the TOML file beside it, or what timm or Hugging Face say.",
)  # fmt: skip
@click.option(
    "--weights", default="imagenet", metavar="PATH|untrained",
    help="Weights of timm: or hf:, as for extract_features.py.",
)  # fmt: skip
def check(network: str, describe: Path | None, weights: str) -> None:
    """Say what a network takes and gives, and what would be done with it; nothing is embedded.

    Of an ONNX file without a description one is printed, to be filled in. Of timm and Hugging Face
    nothing is exported or kept, and of timm nothing is fetched.
    """
    if from_hub(network):
        for line in _previewed(network, describe, weights):
            click.echo(shown(line))
        return
    file = Path(network)
    found = inspect_onnx(file)
    for what, ports in (("takes", found.inputs), ("gives", found.outputs)):
        for port in ports:
            click.echo(shown(f"{what:<6} {port}"))
    for name, sha256 in found.files:
        click.echo(shown(f"beside {name} ({sha256[:12]})"))
    beside = describe or file.with_suffix(".toml")
    if not beside.exists() and describe is None:
        click.echo(shown(f"\nThere is no {beside} yet. To be completed where it says ?:\n"))
        click.echo(_template(file, found))
        raise ExtractorError(f"{file} has no description: write {beside}")
    read_description(beside, str(found))
    for line in _told(find_network(str(file), beside)[0]):
        click.echo(shown(line))


def _row(network: Network) -> dict[str, Any]:
    fast = network.recipes["fast"]
    return {
        "network": network.name,
        "input": network.input_size,
        "length": sum(network.layers[layer] for layer in fast.layers),
        "MB": round(4e-6 * (network.parameters or 0)),
        "trained on": network.trained_on,
        "licence": network.licence,
        "gated": "no" if isinstance(network.origin, KerasApplication) else "",
        "layers": dict(network.layers),
    }


def _previewed(name: str, describe: Path | None, weights: str) -> list[str]:
    network, besides = previewed_network(name, describe, weights)
    fetched = weights == "imagenet"
    where = "those that are published under its name, fetched once" if fetched else weights
    return [
        besides.replace("found in the file: ", ""),
        f"weights {where}" + ("" if not fetched else "; what is read off it is settled then"),
        *_told(network),
    ]


def _template(file: Path, found: Found) -> str:
    image = next(
        (port for port in found.inputs if port.shape and len(port.shape) == 4), found.inputs[0]
    )
    shape = image.shape or ()
    layout = "NHWC" if shape[-1:] == (3,) else "NCHW"
    side = next((size for size in shape[1:] if size in _SIDES), None)
    return template(
        "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in file.stem),
        side,
        image.name,
        layout,
        [port.name for port in found.outputs],
    )


def _told(network: Network) -> list[str]:
    how, origin = network.preprocessing, network.origin
    if isinstance(origin, KerasApplication):
        raise ExtractorError(f"{network.name} is known by its name")
    fast = network.recipes["fast"]
    read = ", ".join(
        f"{each.what} of {each.output} ({network.layers[name]:,})"
        for name, each in origin.readings.items()
    )
    maps = [name for name in network.layers if network.spread(name)]
    told = [
        f"name   {network.name}; licence {network.licence or 'not said'}; trained on "
        f"{network.trained_on or 'not said'}",
        f"pixels {network.input_size} x {network.input_size}, {how.channels}, {origin.layout}: "
        f"(pixel / {how.divisor:g} - {how.mean}) / {how.deviation}; "
        f"{_seen(fast.views[0])}",
        f"reads  {read}",
        f"length {sum(network.layers.values()):,} (recipe fast)",
    ]
    told.append(
        f"maps   where it looked can be shown, from {', '.join(maps)}"
        if maps
        else "maps   where it looked can't be shown: nothing that is read is spread over the image"
    )
    return told


def _seen(view: str) -> str:
    region, colon, _ = view.partition(":")
    part = f"the middle {region.removeprefix('centre')} of the shorter side"
    return (part if colon else "the whole image, squashed") + (
        ", bicubic" if view.endswith("~bicubic") else ""
    )
