"""What bundles of tests are made of."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

from features.cache.contents import Features
from models.training.comparison import compare_heads
from models.training.options import Options
from models.training.results import Comparison
from tests.models.data.cached import cluster_features, spec_of

FEATURES = cluster_features()
WEIGHTS = b"weights of a network"


@cache
def compared(name: str = "logistic_regression") -> Comparison:
    return compare_heads(FEATURES, Options(heads=[name], folds=3, jobs=1))


def trained(path: Path | str = "") -> tuple[Comparison, Features]:
    """As if the network had been trained."""
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    spec = spec_of(weights="pretrained", weights_sha256=digest)
    features = replace(FEATURES, spec=spec, weights_path=str(path))
    comparison = replace(compared(), marks=features.marks, fingerprint=features.fingerprint)
    return comparison, features
