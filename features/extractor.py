"""The frozen extractor: pixels in, embeddings out, and a fingerprint of all that decides them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.engines import Engine, Plan, load_engine, plan_engine
from features.errors import CacheMismatch, ExtractorError
from features.images import PIXELS_VERSION
from features.networks import NETWORKS, Network, Weights, resolve_weights

__all__ = ["Extractor", "ExtractorSpec", "load_extractor"]


@dataclass(frozen=True)
class ExtractorSpec:
    """All that changes an embedding, and nothing else.

    Parameters
    ----------
    network : str
        Name of the frozen network, e.g. ``"inception_v3"``.
    weights : {"pretrained", "untrained"}
        Whether the network has learnt from images.
    weights_sha256 : str
        Hash of the weights file; for untrained weights, of the values.
    input_size : int
        Side of the square input, in pixels.
    dim : int
        Length of an embedding.
    layers : tuple of str
        Layers that the embedding is read from.
    pooling : str
        How positions are summed up.
    views : tuple of str
        Which views of an image are embedded.
    precision : str
        Number format of the network's arithmetic: ``"fp32"``, ``"bf16"``, or ``"int8:"`` and the
        beginning of the quantised network's hash.
    pixels : int
        Version of the decoder, `features.images.PIXELS_VERSION`.
    """

    network: str
    weights: str
    weights_sha256: str
    input_size: int
    dim: int
    layers: tuple[str, ...]
    pooling: str = "mean"
    views: tuple[str, ...] = ("identity",)
    precision: str = "fp32"
    pixels: int = PIXELS_VERSION

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the specification."""
        canonical = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def untrained(self) -> bool:
        """Whether the network's weights are random."""
        return self.weights == "untrained"

    def as_dict(self) -> dict[str, Any]:
        """Give the specification as JSON-ready values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExtractorSpec:
        """Read what `as_dict` gave.

        Raises
        ------
        ValueError
            If a field is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            odd = ", ".join(sorted(set(values) ^ names))
            raise ValueError(f"the extractor's description has missing or unknown fields: {odd}")
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**given)

    def require(self, other: ExtractorSpec, *, mine: str, others: str) -> None:
        """Refuse to go on if `other` gives other numbers.

        Parameters
        ----------
        other : ExtractorSpec
        mine, others : str
            What the two belong to, for the message: ``"features.h5"``, ``"this run"``.

        Raises
        ------
        CacheMismatch
            With every difference spelled out.
        """
        ours, theirs = self.as_dict(), other.as_dict()
        if ours == theirs:
            return
        told = "; ".join(
            f"{key.replace('_', ' ')} {_short(ours[key])} against {_short(theirs[key])}"
            for key in ours
            if ours[key] != theirs[key]
        )
        raise CacheMismatch(
            f"{mine} was made with {self}, {others} has {other} ({told}): "
            "use the same network, weights and options, or write to another file"
        )

    def __str__(self) -> str:
        return f"{self.network}/{self.weights} ({self.fingerprint[:8]})"


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:12] + "…" if len(text) == 64 else text


class Extractor:
    """A frozen network that is ready to run.

    Parameters
    ----------
    spec : ExtractorSpec
    load : callable
        Builds the engine; called once, when it is first needed.
    weights_path : Path, optional
        The weights file; None if untrained, or if only the converted network is at hand.
    """

    def __init__(
        self, spec: ExtractorSpec, load: Callable[[], Engine], weights_path: Path | None = None
    ) -> None:
        self.spec = spec
        self.weights_path = weights_path
        self._load = load
        self._engine: Engine | None = None

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed images; the network is built at the first call.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n, input_size, input_size, 3)
            As `features.images.load_pixels` gives them.

        Returns
        -------
        ndarray of float32, shape (n, d)

        Raises
        ------
        WeightsError
            If the weights don't fit the network.
        ValueError
            If `pixels` has another shape or type.
        """
        size = self.spec.input_size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(
                f"got pixels of type {pixels.dtype} and shape {pixels.shape}, "
                f"expected uint8 and (n, {size}, {size}, 3)"
            )
        return self.prepare().run(pixels)

    def prepare(self) -> Engine:
        """Build the network now rather than at the first call of `embed`.

        Raises
        ------
        WeightsError
            If the weights don't fit the network.
        """
        if self._engine is None:
            self._engine = self._load()
        return self._engine


def load_extractor(
    network: str = "inception_v3",
    weights: str | Path = "imagenet",
    *,
    input_size: int | None = None,
    engine: str = "auto",
    precision: str = "auto",
    serving: bool = False,
) -> Extractor:
    """Choose a frozen network, its weights, and how it is run.

    Parameters
    ----------
    network : {"inception_v3", "vgg16"}
    weights : {"imagenet", "untrained"} or path
        ``"imagenet"`` is Keras' own file, fetched once; ``"untrained"`` are random weights, the
        same everywhere, for trials only.
    input_size : int, optional
        Side of the square input in pixels; by default what the network was trained on.
    engine : {"auto", "keras", "openvino"}, optional
        See `features.engines.plan_engine`.
    precision : {"auto", "fp32", "bf16", "int8"}, optional
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
    if network not in NETWORKS:
        raise ExtractorError(f"got network {network!r}, expected one of {', '.join(NETWORKS)}")
    chosen = NETWORKS[network]
    size = chosen.input_size if input_size is None else input_size
    if size < chosen.smallest_input:
        raise ExtractorError(
            f"got an input of {size} pixels, {network} needs at least {chosen.smallest_input}"
        )
    plan = plan_engine(engine, precision)
    found = resolve_weights(chosen, weights)
    spec = ExtractorSpec(
        network=network,
        weights=found.kind,
        weights_sha256=found.sha256,
        input_size=size,
        dim=chosen.dim,
        layers=(chosen.layer,),
        precision=_name_precision(plan, chosen, found, size),
    )
    return Extractor(
        spec,
        lambda: load_engine(plan, chosen, found, size, serving=serving),
        found.path,
    )


def _name_precision(plan: Plan, network: Network, weights: Weights, size: int) -> str:
    if plan.precision != "int8":
        return plan.precision
    from features.engines.converted import converted_network

    # Quantised anew by other software the network could come out differently.
    return f"int8:{converted_network(network, weights, size, 'int8').sha256[:12]}"
