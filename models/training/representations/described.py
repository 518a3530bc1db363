"""What a feature file's network is, what it was trained on, and what that means for the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from features.cache.contents import Features
from features.networks.weights import may_have_seen
from models.evaluation.representations import Representation

__all__ = ["describe", "trained_on", "warnings_of"]

UNKNOWN: Final = "not known"
UNTRAINED: Final = "nothing (untrained weights)"


def describe(name: str, features: Features) -> Representation:
    """Describe the embeddings of a feature file.

    Parameters
    ----------
    name : str
    features : Features

    Returns
    -------
    Representation
    """
    spec = features.spec
    return Representation(name, str(spec), spec.head_dim, trained_on(features))


def trained_on(features: Features) -> str:
    """Say which images a feature file's network was trained on."""
    return UNTRAINED if features.spec.untrained else features.trained_on or UNKNOWN


def warnings_of(files: Mapping[str, Features]) -> list[str]:
    """Warn of networks that may have been trained on the images judged.

    Parameters
    ----------
    files : mapping of str to Features

    Returns
    -------
    list of str
        One sentence for each network that has seen, or may have seen, pictures of skin, and one for
        all of which nobody knows.
    """
    found, unknown = [], []
    for name, features in files.items():
        if features.spec.untrained or features.synthetic:
            continue
        if not features.trained_on:
            unknown.append(name)
        elif warning := may_have_seen(features.trained_on):
            found.append(f"ATTENTION, {name}: {warning}")
    if unknown:
        found.append(
            f"What the network of {' and of '.join(unknown)} was trained on is not known: if these "
            "images were among it, its figures are too good, and so is what it seems to win by."
        )
    return found
