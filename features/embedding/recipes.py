"""Recipes: what is read off a network, and from which views of an image."""

from __future__ import annotations

from collections.abc import Sequence

from features.embedding.views import parse_views, view_names
from features.errors import ExtractorError
from features.images.colour import COLOURS
from features.networks.registry import POOLINGS, Network, Recipe

__all__ = ["choose_recipe"]


def choose_recipe(
    network: Network,
    recipe: str,
    *,
    layers: Sequence[str] = (),
    pooling: str | None = None,
    views: Sequence[str] = (),
    sizes: Sequence[int] = (),
    colour: str | None = None,
) -> Recipe:
    """Take a recipe by name, with parts of it replaced.

    Parameters
    ----------
    network : Network
    recipe : str
        Key of ``network.recipes``.
    layers, pooling, views, colour : optional
        As of `Recipe`, instead of the recipe's own.
    sizes : sequence of int, optional
        In pixels: every view that names no size is taken at each of these, and the recipe's own
        are taken without the sizes that they name.

    Returns
    -------
    Recipe
        With its size.

    Raises
    ------
    ExtractorError
        If the network has no such layer, or can't take such sizes, or no view is called so.
    """
    if recipe not in network.recipes:
        raise ExtractorError(f"got recipe {recipe!r}, expected one of {', '.join(network.recipes)}")
    base = network.recipes[recipe]
    size = sizes[0] if sizes else base.input_size or network.input_size
    if not views:
        views = base.views if not sizes else [name for name in base.views if "@" not in name]
    if sizes:
        views = [*view_names([name for name in views if "@" not in name], sizes)] + [
            name for name in views if "@" in name
        ]
    chosen = Recipe(
        tuple(layers) or base.layers,
        pooling or base.pooling,
        tuple(views),
        size,
        colour or base.colour,
    )
    for layer in chosen.layers:
        if layer not in network.layers:
            raise ExtractorError(
                f"got layer {layer!r}, {network.name} has {', '.join(network.layers)}"
            )
    if len(set(chosen.layers)) < len(chosen.layers):
        raise ExtractorError(f"got layers {', '.join(chosen.layers)}: name each of them once")
    if chosen.pooling not in POOLINGS:
        raise ExtractorError(f"got pooling {chosen.pooling!r}, expected {' or '.join(POOLINGS)}")
    if chosen.colour not in COLOURS:
        raise ExtractorError(f"got colour {chosen.colour!r}, expected {' or '.join(COLOURS)}")
    least = min(view.size for view in parse_views(chosen.views, size))
    if least < network.smallest_input:
        raise ExtractorError(
            f"got an input of {least} pixels, "
            f"{network.name} needs at least {network.smallest_input}"
        )
    sizes_asked = {view.size for view in parse_views(chosen.views, size)}
    if network.largest_input is not None and max(sizes_asked) > network.largest_input:
        raise ExtractorError(
            f"got an input of {max(sizes_asked)} pixels, {network.name} takes {network.input_size}"
        )
    spread = [name for name in chosen.layers if not network.spread(name)]
    if chosen.pooling == "mean+std" and spread:
        raise ExtractorError(
            f"got pooling mean+std, and {', '.join(spread)} of {network.name} is not spread over "
            "the image: leave --pool out"
        )
    return chosen
