"""A bundle of two networks: fitted, kept, judged, served, and looked at in a browser."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from playwright.sync_api import Browser, expect

import extract_features
import fit_classifier
from models.__main__ import main as models
from models.bundle.loading import load_bundle
from tests.features.networks.imported.onnx_files import DESCRIPTION, save, tiny
from tests.service.asking import Server, lesion_jpeg
from tests.service.browsing import Visitor, classify, expect_verdict

FIT = ("--heads", "logistic_regression", "--folds", "3", "--jobs", "1", "--no-reuse", "--combine")
# A description that reads the pixels differently, so that it is another network.
OTHER = DESCRIPTION.replace('"tiny"', '"other"').replace('"nothing"', '"HAM10000"')


@dataclass(frozen=True)
class Made:
    """What was extracted from the same images by two networks, and fitted to both."""

    images: Path
    one: Path
    other: Path
    bundle: Path
    told: str


def ran(command: object, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    work = tmp_path_factory.mktemp("several")
    for number in range(32):
        label = ("NotMelanoma", "melanoma")[number % 2]
        file = work / "images" / "train" / label / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(lesion_jpeg(number, label, 128))
    found = Made(*(work / name for name in ("images", "one.h5", "other.h5", "bundle")), "")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LESION_CACHE", str(work / "cache"))
        for file, description, recipe in (
            (found.one, DESCRIPTION, "accurate"),
            (found.other, OTHER, "fast"),
        ):
            onnx = save(tiny(), file.with_suffix(".onnx"), description)
            words = (found.images, "--network", onnx, "--recipe", recipe, "--precision", "fp32")
            done = ran(extract_features.main, *words, "--out", file)
            assert done.exit_code == 0, done.output
        words = ("--representation", "all averaged", *FIT)
        done = ran(fit_classifier.main, found.one, found.other, "--out", found.bundle, *words)
        assert done.exit_code == 0, done.output
    for onnx in work.glob("*.onnx"):
        onnx.unlink()
    shutil.rmtree(work / "cache")
    return Made(found.images, found.one, found.other, found.bundle, done.output)


def probabilities(made: Made, tmp_path: Path) -> dict[str, float]:
    """Judge the feature files, which needs no network."""
    table = tmp_path / "scores.csv"
    # In another order than they were fitted in.
    words = (made.bundle, made.other, made.one, "--split", "train", "--scores", table)
    done = ran(models, "evaluate", *words)
    assert done.exit_code == 0, done.output
    with table.open() as file:
        return {row["image"]: float(row["probability"]) for row in csv.DictReader(file)}


def test_an_image_is_judged_as_its_features_are(made: Made, tmp_path: Path) -> None:
    paths = sorted(made.images.rglob("*.jpg"))[:4]
    done = ran(models, "classify", made.bundle, *paths, "--json")
    assert done.exit_code == 0, done.output
    found = {each["filename"]: each for each in json.loads(done.stdout)["results"]}
    expected = probabilities(made, tmp_path)
    for path in paths:
        verdict = found[str(path)]
        name = path.relative_to(made.images).as_posix()
        assert verdict["probability"] == pytest.approx(expected[name], abs=1e-4)
        assert path.parent.name in verdict["known"]
        assert verdict["distance"] < 0.9


def test_the_bundle_names_each_network_and_what_it_was_trained_on(made: Made) -> None:
    bundle = load_bundle(made.bundle)
    assert [(each.name, each.file, each.trained_on) for each in bundle.networks] == [
        ("one", "network.xml", "nothing"),
        ("other", "network-2.xml", "HAM10000"),
    ]
    assert bundle.spec.head_dim == sum(each.spec.head_dim for each in bundle.networks)
    shown = ran(models, "show", made.bundle).output
    for text in (shown, *((made.bundle / name).read_text() for name in ("report.html",))):
        assert "tiny" in text
        assert "other" in text
        assert "HAM10000" in text
    card = (made.bundle / "MODEL_CARD.md").read_text()
    assert "1 of 2, one: frozen" in card
    assert "2 of 2, other: frozen" in card
    assert "It was trained on: HAM10000." in card


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["one"], ("holds 2 networks", "none of those given is of other (other/")),
        (["one", "one"], ("is given 2 times",)),
    ],
)
def test_a_feature_file_that_is_missing_is_named(
    given: list[str], words: tuple[str, ...], made: Made
) -> None:
    files = [getattr(made, name) for name in given]
    done = ran(models, "evaluate", made.bundle, *files, "--split", "train")
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert len(done.output.splitlines()) == 1
    for each in words:
        assert each in done.output


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "is incomplete: network-2.bin is missing"),
        (lambda path: path.write_bytes(bytes(8)), "network-2.bin has 8 bytes where"),
    ],
)
def test_the_second_network_is_verified(
    spoil: Callable[[Path], object], words: str, made: Made, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(made.bundle, tmp_path / "own"))
    spoil(own / "network-2.bin")
    picture = next(made.images.rglob("*.jpg"))
    for command in (("classify", own, picture), ("show", own)):
        done = ran(models, *command)
        assert done.exit_code == 1
        assert words in done.output
        assert len(done.output.splitlines()) == 1


@pytest.mark.browser
def test_a_browser_shows_the_verdict_of_both_and_their_map(
    made: Made, start: Callable[..., Server], chromium: Browser, tmp_path: Path
) -> None:
    server = start(made.bundle)
    told = server.get("/api/v1/model").json
    assert told["model"]["network"] == "tiny + other"
    assert [(each["name"], each["trained_on"]) for each in told["networks"]] == [
        ("one", "nothing"),
        ("other", "HAM10000"),
    ]
    picture = next(iter(sorted(made.images.rglob("*.jpg"))))
    visitor = Visitor(chromium, server)
    page = visitor()
    card = classify(page, picture)
    expect(card.locator(".look__map")).to_be_visible()
    expect(card.locator(".similar li")).to_have_count(5)
    expect_verdict(page, server, picture.read_bytes())
    name = picture.relative_to(made.images).as_posix()
    (result,) = server.classify(("mole.jpg", picture.read_bytes())).json["results"]
    expected = probabilities(made, tmp_path)[name]
    assert result["probability"] == pytest.approx(expected, abs=1e-4)
    page.goto(f"{server.url}/model")
    expect(page.locator("dt", has_text="Network")).to_have_text(["Network 1", "Network 2"])
    expect(page.locator("dl.facts")).to_contain_text("trained on HAM10000")
    visitor.close()
    assert visitor.complaints == []
