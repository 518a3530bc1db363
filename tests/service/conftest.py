"""A real bundle, and real servers on free ports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from features.cache.contents import Features, Items
from features.datasets.drawn import sample_lesion
from features.datasets.drawn_lesion import draw_lesion
from features.embedding.extractor import load_extractor
from models.decisions.thresholds import read_rule
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from service.access.keys import SCOPES, make_key
from tests.service.asking import Keys, Server, lesion_jpeg, wait_for
from tests.service.browsing import Visit, Visitor, find_chromium


@pytest.fixture(scope="session")
def drawn() -> Features:
    """Embed drawn lesions by a small untrained network."""
    extractor = load_extractor("inception_v3", "untrained", input_size=75)
    rng = np.random.default_rng(7)
    labels = ["NotMelanoma", "melanoma"] * 20
    pixels = np.stack([draw_lesion(sample_lesion(rng, label), 75) for label in labels])
    hashes = [f"{number:064x}" for number in range(len(labels))]
    return Features(
        spec=extractor.spec,
        embeddings=extractor.embed(pixels),
        items=Items.from_rows(
            (number, hashed, f"{number}.png", label, "train", "", 75, 75)
            for number, (hashed, label) in enumerate(zip(hashes, labels, strict=True))
        ),
        synthetic=True,
    )


def fit(folder: Path, features: Features, rule: str) -> Path:
    comparison = compare_heads(
        features, Options(heads=["logistic_regression"], folds=3, jobs=1, rule=read_rule(rule))
    )
    publish_bundle(folder, comparison, features)
    return folder


@pytest.fixture(scope="session")
def bundle(drawn: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("served") / "bundle", drawn, "sensitivity:0.95@0.9")


@pytest.fixture(scope="session")
def other_bundle(drawn: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle for the same network with another threshold."""
    return fit(tmp_path_factory.mktemp("other") / "bundle", drawn, "0.125")


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """Copy the bundle, to be replaced or spoilt."""
    return Path(shutil.copytree(bundle, tmp_path / "own"))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Make a key for each scope, one for all but admin, and the file of their hashes."""
    made = {scope: make_key(scope, [scope]) for scope in SCOPES}
    made["reviewer"] = make_key("reviewer", ["classify", "feedback"])
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    lines = [kept.line for _, kept in made.values()]
    file.write_text("\n".join(["# as `python -m service key` prints them", "", *lines, ""]))
    return Keys(file, {name: key for name, (key, _) in made.items()})


@pytest.fixture(scope="session")
def started() -> list[subprocess.Popen[str]]:
    """What runs for a test or a module, and ends with it."""
    return []


def ends(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()


@pytest.fixture(scope="module", autouse=True)
def _ends_with_the_module(started: list[subprocess.Popen[str]]) -> Iterator[None]:
    yield
    ends(started)
    started.clear()


@pytest.fixture(autouse=True)
def _ends_with_the_test(started: list[subprocess.Popen[str]]) -> Iterator[None]:
    # Fixtures of wider scope came before: what they started stays.
    before = len(started)
    yield
    ends(started[before:])
    del started[before:]


@pytest.fixture(scope="session")
def spawn(started: list[subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Start the command; it is killed at the end of the test or module that asked for it."""

    def spawn_service(*arguments: str | Path, **popen: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments], text=True, **popen
        )
        started.append(process)
        return process

    return spawn_service


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
def server(
    bundle: Path, start: Callable[..., Server], started: list[subprocess.Popen[str]]
) -> Iterator[Server]:
    """Serve all tests that leave no trace."""
    server = start(bundle, "--max-upload-mb", "8", "--max-images", "24")
    started.remove(server.process)
    yield server
    ends([server.process])


@pytest.fixture(scope="session")
def lesion() -> bytes:
    return lesion_jpeg()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        executable = find_chromium()
        if executable is None:
            pytest.skip("no Chromium on this machine")
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, server: Server) -> Iterator[Visit]:
    """Open pages; at the end, nothing may have been complained about, nor fetched elsewhere."""
    visitor = Visitor(chromium, server)
    yield visitor
    visitor.close()
    assert visitor.complaints == []


@pytest.fixture
def mole(tmp_path: Path) -> Path:
    path = tmp_path / "mole.jpg"
    path.write_bytes(lesion_jpeg())
    return path
