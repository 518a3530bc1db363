"""A real bundle, and real servers on free ports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import Server, lesion_jpeg, wait_for

from features.cache import Features, Items
from features.extractor import load_extractor
from features.synthetic import draw_lesion, sample_lesion
from models.bundle import save_bundle
from models.comparison import compare_heads


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit a head on drawn lesions that went through a small untrained network."""
    extractor = load_extractor("inception_v3", "untrained", input_size=75)
    rng = np.random.default_rng(7)
    labels = ["NotMelanoma", "melanoma"] * 20
    pixels = np.stack([draw_lesion(sample_lesion(rng, label), 75) for label in labels])
    hashes = [f"{number:064x}" for number in range(len(labels))]
    features = Features(
        spec=extractor.spec,
        embeddings=extractor.embed(pixels),
        items=Items.from_rows(
            (number, hashed, f"{number}.png", label, "train", "", 75, 75)
            for number, (hashed, label) in enumerate(zip(hashes, labels, strict=True))
        ),
        synthetic=True,
    )
    comparison = compare_heads(features, heads=["logistic_regression"], folds=3, jobs=1)
    folder = tmp_path_factory.mktemp("served") / "bundle"
    save_bundle(folder, comparison, features)
    return folder


@pytest.fixture(scope="session")
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def spawn_service(*arguments: str | Path, **popen: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments], text=True, **popen
        )
        started.append(process)
        return process

    yield spawn_service
    for process in started:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()


@pytest.fixture(scope="session")
def start(
    spawn: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Server]:
    """Start a server on a free port and wait until it is ready."""

    def start_server(folder: Path, *options: str, **popen: Any) -> Server:
        errors = tmp_path_factory.mktemp("server") / "stderr.txt"
        arguments = ("--bundle", folder, "--port", "0", *options)
        with errors.open("w") as stderr:
            process = spawn(*arguments, stdout=subprocess.PIPE, stderr=stderr, **popen)
        return wait_for(process, errors)

    return start_server


@pytest.fixture(scope="session")
def server(bundle: Path, start: Callable[..., Server]) -> Server:
    return start(bundle, "--max-upload-mb", "8", "--max-images", "24")


@pytest.fixture(scope="session")
def lesion() -> bytes:
    return lesion_jpeg()
