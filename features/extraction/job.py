"""What is to be done, as it is told to every node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from features.datasets.folders import Dataset
from features.embedding.extractor import Extractor, load_extractor
from features.embedding.specification import ExtractorSpec
from features.networks.registry import Network, Recipe

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """What is to be done, as it is told to every node.

    Parameters
    ----------
    network : Network
    weights : str or Path
        ``"imagenet"``, ``"untrained"``, or a file that every node sees at the same place.
    recipe : Recipe
    engine, precision : str
        As of `features.embedding.extractor.load_extractor`.
    trained_on : str
        What images the network was trained on, as far as is known.
    spec : ExtractorSpec
        What comes of that where the run was started; every node must come to the same.
    dataset : Dataset
        The images; on the nodes without its items, which come with the shards.
    out : Path
        The folder of shards.
    dtype : {"float32", "float16"}, optional
        How embeddings are stored.
    prune : bool
        Whether embeddings of files that are no longer there are dropped.
    replace : bool
        Whether labels, splits and images may be lost from shards that are there.
    """

    network: Network
    weights: str | Path
    recipe: Recipe
    engine: str
    precision: str
    trained_on: str
    spec: ExtractorSpec
    dataset: Dataset
    out: Path
    dtype: str | None = None
    prune: bool = False
    replace: bool = False

    def extractor(self) -> Extractor:
        """Load the extractor on this machine; the network is built when it is first needed."""
        extractor = load_extractor(
            self.network,
            self.weights,
            recipe=self.recipe,
            engine=self.engine,
            precision=self.precision,
        )
        extractor.trained_on = self.trained_on
        return extractor
