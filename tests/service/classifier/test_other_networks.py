"""The whole chain with networks that are no part of the program: extract, fit, classify, serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx import helper

import extract_features
import fit_classifier
from features.cache.contents import read_features
from models.__main__ import main as models
from tests.features.networks.imported import own_models
from tests.features.networks.imported.onnx_files import CHANNELS, DESCRIPTION, save, tiny
from tests.service.asking import Server, lesion_jpeg

FIT = ("--heads", "logistic_regression", "--folds", "3", "--jobs", "1", "--no-reuse")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(32):
        label = ("NotMelanoma", "melanoma")[number % 2]
        file = tmp_path / "images" / "train" / label / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(lesion_jpeg(number, label, 128))
    return tmp_path / "images"


def pooled(folder: Path) -> str:
    nodes = [
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
    ]
    model = tiny(nodes, [("vector", ("n", CHANNELS))])
    return str(save(model, folder / "pooled.onnx", DESCRIPTION))


def maps(folder: Path) -> str:
    return str(save(tiny(), folder / "maps.onnx", DESCRIPTION))


def own(_folder: Path) -> str:
    return f"{own_models.__name__}:described"


def small_keras(_folder: Path) -> str:
    return "MobileNetV3Small"


@pytest.mark.parametrize(
    ("network", "recipe", "mapped"),
    [
        (maps, "accurate", True),
        (pooled, "fast", False),
        (own, "fast", True),
        pytest.param(small_keras, "fast", True, marks=pytest.mark.slow),
    ],
)
def test_an_image_is_judged_and_shown_by_any_network(
    network: Callable[[Path], str],
    recipe: str,
    mapped: bool,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., Server],
) -> None:
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "cache"))
    file, bundle = tmp_path / "features.h5", tmp_path / "bundle"
    name = network(tmp_path)
    known = ["--weights", "untrained", "--size", "64"] if network is small_keras else []
    words = ["--network", name, "--recipe", recipe, "--precision", "fp32", *known]
    words += ["--trained-on", "HAM10000", "--out", str(file)]
    done = CliRunner().invoke(extract_features.main, [str(images), *words])
    assert done.exit_code == 0, done.output
    assert "warning: The network was trained on HAM10000" in done.output
    assert read_features(file).trained_on == "HAM10000"
    done = CliRunner().invoke(fit_classifier.main, [str(file), "--out", str(bundle), *FIT])
    assert done.exit_code == 0, done.output
    assert "trained on HAM10000, which is or may be" in (bundle / "report.html").read_text()
    # What is served needs none of what it was made with.
    for each in tmp_path.glob("*.onnx"):
        each.unlink()
    picture = next(images.rglob("*.jpg"))
    done = CliRunner().invoke(models, ["classify", str(bundle), str(picture), "--json"])
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.stdout)
    told = verdict[0] if isinstance(verdict, list) else verdict["results"][0]
    assert 0 <= told["probability"] <= 1
    server = start(bundle)
    page = server.send_form(
        "/", ("image", "mole.jpg", picture.read_bytes()), ("show", None, b"evidence")
    ).text
    assert ("Where it looked</h4>" in page) == mapped
    assert ("Where in the image the result comes from can&#39;t be shown" in page) != mapped
