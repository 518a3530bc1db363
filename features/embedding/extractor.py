"""The frozen extractor: pixels in, embeddings out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.embedding.recipes import choose_recipe
from features.embedding.specification import ExtractorSpec
from features.embedding.views import View
from features.errors import ExtractorError
from features.images.decoding import PIXELS_VERSION, Frame
from features.networks.engines import (
    Engine,
    Plan,
    has_openvino,
    load_converted,
    load_engine,
    plan_engine,
)
from features.networks.imported.lookup import bundled_network, known_name
from features.networks.registry import DEFAULT_NETWORK, NETWORKS, Network, OwnModel, Recipe
from features.networks.weights import Source, resolve_weights

__all__ = [
    "Extractor",
    "ExtractorSpec",
    "Look",
    "converted_extractor",
    "converted_files",
    "load_extractor",
    "rebuild_extractor",
]


@dataclass(frozen=True)
class Look:
    """What the network makes of images in one view.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, dim)
    maps : dict of str to ndarray of float32, shape (n, height, width, channels)
        By layer; turned back to lie as the image does.
    """

    embeddings: npt.NDArray[np.float32]
    maps: dict[str, npt.NDArray[np.float32]]


class Extractor:
    """A frozen network that is ready to run; may be shared between threads.

    Parameters
    ----------
    spec : ExtractorSpec
    load : callable
        Builds the engine for a size; called once for each size, when it is first needed.
    weights_path : Path, optional
        The weights file; None if untrained, or if only the converted network is at hand.
    trained_on : str, optional
        Which images the network was trained on, as far as is known.
    """

    def __init__(
        self,
        spec: ExtractorSpec,
        load: Callable[[int], Engine],
        weights_path: Path | None = None,
        trained_on: str = "",
    ) -> None:
        self.spec = spec
        self.weights_path = weights_path
        self.trained_on = trained_on
        self._load = load
        self._engines: dict[int, Engine] = {}
        self._loading = threading.Lock()
        self._views = spec.looks
        self._frames = spec.frames

    def embed(self, *pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed images in all views; the network is built at the first call.

        Parameters
        ----------
        *pixels : ndarray of uint8, shape (n, size, size, 3)
            The images in each of ``spec.frames``, as `features.images.decoding.decode` gives them.

        Returns
        -------
        ndarray of float32, shape (n, spec.width)
            The embeddings of the views, one after the other; for heads, see
            `ExtractorSpec.combine`.

        Raises
        ------
        WeightsError
            If the weights don't fit the network.
        ValueError
            If `pixels` has another shape or type.
        """
        at = self._by_frame(pixels)
        self.prepare()
        found: dict[View, npt.NDArray[np.float32]] = {}
        for views in self._together(len(pixels[0])):
            shown = [view.show(at[view.frame]) for view in views]
            embeddings = self._engines[views[0].size].run(np.concatenate(shown))
            found |= zip(views, np.split(embeddings, len(views)), strict=True)
        return np.concatenate([found[view] for view in self._views], axis=1)

    def look(self, *pixels: npt.NDArray[np.uint8]) -> list[Look]:
        """Embed images as `embed` does and keep the maps that the embeddings sum up.

        Parameters
        ----------
        *pixels : ndarray of uint8, shape (n, size, size, 3)
            As for `embed`.

        Returns
        -------
        list of Look
            One for each view.
        """
        at = self._by_frame(pixels)
        self.prepare()
        found: dict[View, Look] = {}
        for views in self._together(len(pixels[0])):
            shown = [view.show(at[view.frame]) for view in views]
            embeddings, maps = self._engines[views[0].size].run_with_maps(np.concatenate(shown))
            for number, view in enumerate(views):
                part = slice(number * len(shown[0]), (number + 1) * len(shown[0]))
                turned = [view.undo(each[part]) for each in maps]
                layers = dict(zip(self.spec.layers, turned, strict=True))
                found[view] = Look(embeddings[part], layers)
        return [found[view] for view in self._views]

    def prepare(self) -> Engine:
        """Build the network now rather than at the first call of `embed`.

        Returns
        -------
        Engine
            The one for the size of the first frame.

        Raises
        ------
        WeightsError
            If the weights don't fit the network.
        """
        with self._loading:
            for frame in self._frames:
                if frame.size not in self._engines:
                    self._engines[frame.size] = self._load(frame.size)
        return self._engines[self._frames[0].size]

    def _together(self, count: int) -> list[list[View]]:
        """Share the views out: those of a size go through at the same time."""
        # An engine that serves several threads has an image of each, and one view fills its lane.
        if len(self._views) == 1 or (count != 1 and self.prepare().lanes > 1):
            return [[view] for view in self._views]
        sizes = dict.fromkeys(view.size for view in self._views)
        return [[view for view in self._views if view.size == size] for size in sizes]

    def _by_frame(
        self, pixels: tuple[npt.NDArray[np.uint8], ...]
    ) -> dict[Frame, npt.NDArray[np.uint8]]:
        shapes = [(frame.size, frame.size, 3) for frame in self._frames]
        if any(each.dtype != np.uint8 for each in pixels) or (
            [each.shape[1:] for each in pixels] != shapes
        ):
            raise ValueError(
                f"got pixels of type {', '.join(str(each.dtype) for each in pixels)} and shape "
                f"{', '.join(str(each.shape) for each in pixels)}, expected uint8 and "
                + ", ".join(f"(n, {height}, {width}, 3)" for height, width, _ in shapes)
            )
        return dict(zip(self._frames, pixels, strict=True))


def load_extractor(
    network: str | Network = DEFAULT_NETWORK,
    weights: str | Path = "imagenet",
    *,
    recipe: str | Recipe = "fast",
    input_size: int | None = None,
    engine: str = "auto",
    precision: str = "auto",
    serving: bool = False,
) -> Extractor:
    """Choose a frozen network, its weights, and how it is run.

    Parameters
    ----------
    network : str or Network
        One of `features.networks.registry.NETWORKS`, or what `features.networks.imported.lookup`
        found, with the weights that it found.
    weights : {"imagenet", "untrained"} or path
        ``"imagenet"`` is Keras' own file, fetched once; ``"untrained"`` are random weights, the
        same everywhere, for trials only.
    recipe : {"fast", "accurate"} or Recipe, optional
        What is read off the network, and from which views of an image.
    input_size : int, optional
        Side of the square input in pixels, for a recipe by name; by default the recipe's.
    engine : {"auto", "keras", "openvino"}, optional
        See `features.networks.engines.plan_engine`.
    precision : {"auto", "fp32", "tf32", "bf16", "int8"}, optional
        Number format of the network's arithmetic. A network in int8 is made at once, which
        takes about a minute the first time.
    serving : bool, optional
        Answer one image soon rather than many fast.

    Returns
    -------
    Extractor

    Raises
    ------
    WeightsError
        If the weights are missing or can't be fetched.
    ExtractorError
        If the network is unknown, the input too small for it, or the engine and precision don't
        go together or aren't to be had.
    """
    chosen = _network(network)
    if isinstance(recipe, str):
        recipe = choose_recipe(chosen, recipe, sizes=[input_size] if input_size else ())
    plan = plan_engine(engine, precision)
    found = resolve_weights(chosen, weights)
    size = recipe.input_size or chosen.input_size
    source = Source(chosen, found, recipe.layers, recipe.pooling, size)
    spec = ExtractorSpec(
        network=chosen.name,
        weights=found.kind,
        weights_sha256=found.sha256,
        input_size=size,
        dim=source.dim,
        layers=recipe.layers,
        pooling=recipe.pooling,
        views=recipe.views,
        colour=recipe.colour,
        precision=_name_precision(plan, source),
        preparation=chosen.preparation,
    )
    return Extractor(
        spec,
        lambda size: _load(plan, source, size, serving=_views_at(spec, size, serving)),
        found.path,
        found.trained_on,
    )


def rebuild_extractor(
    spec: ExtractorSpec, weights: str | Path, *, serving: bool = False
) -> Extractor:
    """Build the extractor of a specification from its weights.

    Parameters
    ----------
    spec : ExtractorSpec
    weights : str or Path
        The weights file; of no account if untrained.
    serving : bool, optional
        Answer one image soon rather than many fast.

    Returns
    -------
    Extractor
        Its specification is what came out here, and may differ from `spec`.

    Raises
    ------
    WeightsError
        If the weights file is missing.
    ExtractorError
        If this program can't build such an extractor.
    """
    if spec.preparation:
        # Code that a bundle or a file names is not run.
        raise ExtractorError(
            f"{spec.network} is no network of this program, and is only served as it was converted "
            "for CPUs: make the bundle where OpenVINO is installed, and give no weights"
        )
    return load_extractor(
        spec.network,
        "untrained" if spec.untrained else weights,
        recipe=Recipe(spec.layers, spec.pooling, spec.views, spec.input_size, spec.colour),
        precision=spec.precision.partition(":")[0],
        serving=serving,
    )


def converted_extractor(spec: ExtractorSpec, path: Path, *, serving: bool = False) -> Extractor:
    """Make an extractor of a network that was converted before, without the weights file.

    Parameters
    ----------
    spec : ExtractorSpec
    path : Path
        The converted network, as `converted_files` gave it.
    serving : bool, optional
        Answer one image soon rather than many fast.

    Raises
    ------
    ExtractorError
        If OpenVINO, which runs it, is not installed, or images are decoded otherwise now.
    """
    if spec.pixels != PIXELS_VERSION:
        raise ExtractorError(
            f"it was made of pixels of version {spec.pixels}, and this program decodes images to "
            f"version {PIXELS_VERSION}"
        )
    plan_engine("openvino", spec.precision.partition(":")[0])
    return Extractor(
        spec,
        lambda size: load_converted(
            path, spec.precision, size, serving=_views_at(spec, size, serving)
        ),
    )


def converted_files(spec: ExtractorSpec, weights: Path) -> tuple[Path, Path] | None:
    """Give the files of the network as it was converted for CPUs, converting it if need be.

    Parameters
    ----------
    spec : ExtractorSpec
    weights : Path
        The weights file.

    Returns
    -------
    tuple of Path or None
        The graph and the numbers; None where OpenVINO is not installed, or for TF32.

    Raises
    ------
    WeightsError
        If the weights don't fit the network.
    """
    precision = spec.precision.partition(":")[0]
    if precision == "tf32":
        # CPUs, which networks are converted for, don't have it.
        return None
    if not has_openvino() and not spec.preparation:
        return None
    from features.networks.converted import PARAMETERS, converted_network, find_converted

    network = (
        bundled_network(spec.network, spec.preparation, spec.input_size, spec.layers, weights)
        if spec.preparation
        else _network(spec.network)
    )
    found = resolve_weights(network, weights)
    source = Source(network, found, spec.layers, spec.pooling, spec.input_size)
    if isinstance(network.origin, OwnModel):
        # Code that a feature file names is not run: extraction has left what is needed.
        converted = find_converted(source, precision)
        if converted is None:
            raise ExtractorError(
                f"the network of {spec} is not in the cache folder as it was converted for CPUs: "
                "extract again where OpenVINO is installed, with LESION_CACHE as it is now"
            )
    else:
        converted = converted_network(source, precision)
    return converted.path, converted.path.with_name(PARAMETERS)


def _views_at(spec: ExtractorSpec, size: int, serving: bool) -> int:
    return sum(view.size == size for view in spec.looks) if serving else 0


def _network(name: str | Network) -> Network:
    if isinstance(name, Network):
        return name
    if (known := known_name(name)) is None:
        raise ExtractorError(f"got network {name!r}, expected one of {', '.join(NETWORKS)}")
    return NETWORKS[known]


def _load(plan: Plan, source: Source, size: int, *, serving: int) -> Engine:
    engine = load_engine(plan, source, size, serving=serving)
    own = isinstance(source.network.origin, OwnModel)
    if own and plan.engine == "keras" and has_openvino():
        from features.networks.converted import converted_network

        # For bundles, which must not run the function.
        converted_network(source, plan.precision)
    return engine


def _name_precision(plan: Plan, source: Source) -> str:
    if plan.precision != "int8":
        return plan.precision
    from features.networks.converted import converted_network

    # Quantised anew by other software the network could come out differently.
    return f"int8:{converted_network(source, 'int8').sha256[:12]}"
