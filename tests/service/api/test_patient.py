"""Age, sex and site beside the image, by the API and the form of a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from features.cache.contents import Features
from models.bundle.loading import Bundle, load_bundle
from models.inference.wording import not_used
from models.patients.encoding import Unused
from models.patients.fusion import FusedHead
from models.patients.tables import Metadata
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.service.asking import Answer, Server


@pytest.fixture(scope="module")
def folder(drawn: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(3)
    known = Metadata(
        {
            f"{number}.png": {
                "age": float(rng.integers(20, 60)) + 20 * (label == "melanoma"),
                "sex": ("female", "male")[int(rng.integers(2))],
            }
            for number, label in enumerate(drawn.items.label.tolist())
        },
        ("age", "sex"),
    )
    comparison = compare_heads(
        drawn, Options(heads=["logistic_regression"], folds=3, jobs=1), metadata=known
    )
    folder = tmp_path_factory.mktemp("fused") / "bundle"
    publish_bundle(folder, comparison, drawn)
    return folder


@pytest.fixture(scope="module")
def fused(folder: Path) -> tuple[Bundle, FusedHead]:
    bundle = load_bundle(folder)
    assert bundle.fusion is not None
    return bundle, bundle.fusion


@pytest.fixture(scope="module")
def patients(folder: Path, start: Callable[..., Server]) -> Server:
    return start(folder)


def ask(server: Server, lesion: bytes, **fields: str) -> Answer:
    told = ((name, None, value.encode()) for name, value in fields.items())
    return server.send("/api/v1/classify", ("image", "mole.jpg", lesion), *told)


def test_the_answer_says_what_was_used(
    patients: Server, lesion: bytes, fused: tuple[Bundle, FusedHead]
) -> None:
    bundle, head = fused
    (alone,) = ask(patients, lesion).json["results"]
    assert "inputs" not in alone
    assert alone["threshold"] == bundle.decision.threshold
    (result,) = ask(patients, lesion, age="81", sex="F").json["results"]
    assert result["inputs"] == {"age": 81.0, "sex": "female"}
    assert result["threshold"] == head.decision.threshold
    assert result["probability"] != alone["probability"]
    (empty,) = ask(patients, lesion, age="", sex="unknown").json["results"]
    assert empty["probability"] == pytest.approx(alone["probability"], abs=1e-6)
    assert "inputs" not in empty
    (site,) = ask(patients, lesion, age="50", site="back").json["results"]
    assert site["inputs"] == {"age": 50.0}
    assert site["warnings"][-1] == not_used(Unused("site", None, ("age", "sex"))).text


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"age": "-3"}, "got age '-3', expected years from 0 to 120"),
        ({"age": "121"}, "got age '121'"),
        ({"sex": "both"}, "got sex 'both', expected female or male"),
    ],
)
def test_what_can_not_be_is_a_problem(
    fields: dict[str, str], detail: str, patients: Server, lesion: bytes
) -> None:
    answer = ask(patients, lesion, **fields)
    assert answer.status == 400
    assert answer.json["code"] == "wrong_value"
    assert detail in answer.json["detail"]
    page = patients.send_form(
        "/",
        ("image", "mole.jpg", lesion),
        *((name, None, value.encode()) for name, value in fields.items()),
    )
    assert page.status == 400
    assert detail.split("'")[1] in page.text


def test_two_ages_are_one_too_many(patients: Server, lesion: bytes) -> None:
    parts = [("age", None, b"40"), ("age", None, b"50")]
    answer = patients.send("/api/v1/classify", ("image", "a.jpg", lesion), *parts)
    assert (answer.status, answer.json["code"]) == (400, "wrong_value")
    assert "2 fields 'age'" in answer.json["detail"]


def test_the_form_asks_and_the_page_says_what_was_used(
    patients: Server, server: Server, lesion: bytes, fused: tuple[Bundle, FusedHead]
) -> None:
    page = patients.open_page().answer.text
    assert re.findall(r'<(?:input|select)[^>]* name="(age|sex|site)"', page) == ["age", "sex"]
    assert re.findall(r"<option>(\w+)</option>", page) == ["female", "male"]
    shown = patients.send_form(
        "/", ("image", "mole.jpg", lesion), ("age", None, b"81"), ("sex", None, b"male")
    ).text
    assert "Judged from the image together with age 81, sex male" in shown
    without = patients.send_form("/", ("image", "mole.jpg", lesion), ("age", None, b"")).text
    assert "Judged from the image together" not in without
    # A bundle of images alone asks for nothing.
    assert 'name="age"' not in server.open_page().answer.text


def test_the_fields_are_documented(patients: Server, fused: tuple[Bundle, FusedHead]) -> None:
    document = json.loads(patients.get("/api/v1/openapi.json").text)
    body = document["paths"]["/api/v1/classify"]["post"]["requestBody"]["content"]
    form = body["multipart/form-data"]["schema"]
    assert {"age", "sex", "site"} < set(form["properties"])
    assert form["required"] == ["image"]
    verdict = document["components"]["schemas"]["Verdict"]
    assert "inputs" in verdict["properties"]
    assert "inputs" not in verdict["required"]
    told = patients.get("/api/v1/model").json["fusion"]
    assert told["inputs"] == {"age": [], "sex": ["female", "male"]}
    assert told["threshold"] == fused[1].decision.threshold
    assert told["metrics"]["cross-validation"]["auc"]["value"] > 0


@pytest.mark.browser
def test_in_a_browser_the_fields_go_with_every_image(
    patients: Server, chromium: Browser, mole: Path
) -> None:
    page = chromium.new_page()
    page.goto(patients.url)
    page.get_by_text("Age, sex of the patient, if known").click()
    page.get_by_label("Age in years").fill("81")
    page.get_by_label("Sex").select_option("male")
    page.locator("#image").set_input_files([mole])
    page.locator("#submit").click()
    page.get_by_text("Judged from the image together with age 81, sex male").wait_for()
    page.close()
