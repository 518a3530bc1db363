"""Recipes: what is read off a network, and from which views of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from features.embedding.views import parse_views, view_names
from features.errors import ExtractorError
from features.images.colour import AS_IS, COLOURS, SHADES_OF_GREY
from features.networks.registry import Network

__all__ = ["POOLINGS", "RECIPES", "Recipe", "choose_recipe"]

POOLINGS: Final = ("mean", "mean+std")


@dataclass(frozen=True)
class Recipe:
    """What an embedding is made of.

    Parameters
    ----------
    layers : tuple of str
        Layers of the network, each summed up over its positions.
    pooling : {"mean", "mean+std"}
        By their mean, or by their mean and standard deviation.
    views : tuple of str
        As `features.embedding.views.parse_views` reads them.
    input_size : int
        Side of the square input in pixels, where a view names none.
    colour : {"as-is", "shades-of-grey"}
        Whether the colour of the light is taken out.
    """

    layers: tuple[str, ...]
    pooling: str
    views: tuple[str, ...]
    input_size: int
    colour: str = AS_IS


# The whole image, and a closer look at the lesion; see docs/accuracy.md for what else was tried.
_CLOSER: Final = ("identity", "lesion:identity")

RECIPES: Final = MappingProxyType(
    {
        "inception_v3": MappingProxyType(
            {
                "fast": Recipe(("mixed10",), "mean", ("identity",), 299),
                "accurate": Recipe(
                    ("mixed3", "mixed4", "mixed5", "mixed6", "mixed8", "mixed9"),
                    "mean+std",
                    _CLOSER,
                    299,
                    SHADES_OF_GREY,
                ),
            }
        ),
        "vgg16": MappingProxyType(
            {
                "fast": Recipe(("block5_pool",), "mean", ("identity",), 224),
                "accurate": Recipe(
                    ("block3_pool", "block4_pool", "block5_pool"),
                    "mean+std",
                    _CLOSER,
                    224,
                    SHADES_OF_GREY,
                ),
            }
        ),
    }
)


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
    recipe : {"fast", "accurate"}
    layers, pooling, views, colour : optional
        As of `Recipe`, instead of the recipe's own.
    sizes : sequence of int, optional
        In pixels: every view that names no size is taken at each of these, and the recipe's own
        are taken without the sizes that they name.

    Returns
    -------
    Recipe

    Raises
    ------
    ExtractorError
        If the network has no such layer, or can't take such sizes, or no view is called so.
    """
    recipes = RECIPES[network.name]
    if recipe not in recipes:
        raise ExtractorError(f"got recipe {recipe!r}, expected one of {', '.join(recipes)}")
    base = recipes[recipe]
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
        sizes[0] if sizes else base.input_size,
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
    least = min(view.size for view in parse_views(chosen.views, chosen.input_size))
    if least < network.smallest_input:
        raise ExtractorError(
            f"got an input of {least} pixels, "
            f"{network.name} needs at least {network.smallest_input}"
        )
    return chosen
