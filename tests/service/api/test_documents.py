"""The API's description of itself, against what it does."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.inference.classifier import Classifier
from service.access.keys import SCOPES, make_key
from service.pages.markdown import read_line
from tests.service.asking import Keys, Server, lesion_jpeg

EMBED = "/api/v1/embed"


def images(*seeds: int) -> list[tuple[str, str, bytes]]:
    return [("image", f"{seed}.jpg", lesion_jpeg(seed)) for seed in seeds]


def test_embeddings_are_those_of_the_extractor(server: Server, bundle: Path) -> None:
    classifier = Classifier.load(bundle)
    expected = classifier.embed([classifier.read(lesion_jpeg(seed)) for seed in (0, 1)])
    listed = server.send(EMBED, *images(0, 1), ("image", "notes.txt", b"words"))
    coded = server.send(f"{EMBED}?encoding=base64", *images(0, 1))
    assert (listed.status, coded.status) == (200, 200)
    assert listed.json["dim"] == expected.shape[1]
    assert listed.json["fingerprint"] == classifier.bundle.fingerprint
    assert listed.json["results"][2]["error"]["code"] == "not_an_image"
    for row, as_list, as_text in zip(
        expected, listed.json["results"], coded.json["results"], strict=False
    ):
        decoded = np.frombuffer(base64.b64decode(as_text["embedding"]), "<f4")
        np.testing.assert_array_equal(np.float32(as_list["embedding"]), decoded)
        np.testing.assert_allclose(decoded, row, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("query", ["encoding=hex", "encoding=", "encoding=list&encoding=list"])
def test_a_parameter_with_another_value_is_refused(server: Server, query: str) -> None:
    answer = server.send(f"{EMBED}?{query}", *images(0))
    assert (answer.status, answer.json["code"]) == (400, "wrong_value")
    assert "expected one of list, base64" in answer.json["detail"]


def test_the_model_tells_how_it_was_judged(server: Server) -> None:
    answer = server.get("/api/v1/model").json
    assert answer["reviewed_labels"] == ["NotMelanoma", "melanoma"]
    assert answer["limits"] == {"images": 24, "megabytes": 8, "megapixels": 50}
    assert "cross-validation" in answer["metrics"]
    assert answer["notice"] == "Decision support, not a diagnosis."
    classified = server.classify(("mole.jpg", lesion_jpeg())).json
    assert classified["model"] == answer["model"]
    assert classified["results"][0]["threshold"] == answer["threshold"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-DEF_1.2:3", True),
        ("", False),
        ("two words", False),
        ("x" * 200, False),
        ('"},{"', False),
    ],
)
def test_every_answer_has_a_number_and_a_sane_one_is_kept(
    server: Server, sent: str, kept: bool
) -> None:
    for path in ("/", "/healthz", "/nothing", "/api/v1/nothing", "/static/style.css"):
        number = server.ask("GET", path, None, {"X-Request-ID": sent}).headers["X-Request-ID"]
        assert (number == sent) == kept
        assert re.fullmatch(r"[\w.:-]{1,128}", number)
    problem = server.ask("GET", "/api/v1/nothing", None, {"X-Request-ID": sent})
    assert problem.json["request_id"] == problem.headers["X-Request-ID"]


def test_a_problem_is_explained_where_it_says(server: Server) -> None:
    docs = server.get("/docs").text
    for path, status in (("/api/v1/nothing", 404), ("/api/v1/classify", 405)):
        problem = server.get(path)
        assert problem.headers["Content-Type"] == "application/problem+json"
        assert problem.json["status"] == problem.status == status
        page, _, anchor = problem.json["type"].partition("#")
        assert page == "/docs"
        assert f'id="{anchor}"' in docs


def test_the_document_names_every_route_and_every_field(server: Server) -> None:
    document = server.get("/api/v1/openapi.json").json
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {
        "/api/v1/classify",
        "/api/v1/embed",
        "/api/v1/similar",
        "/api/v1/model",
        "/api/v1/feedback",
        "/api/v1/reload",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    verdict = document["components"]["schemas"]["Verdict"]
    (result,) = server.classify(("mole.jpg", lesion_jpeg())).json["results"]
    assert set(verdict["required"]) <= set(result) <= set(verdict["properties"])
    assert "Parameters" not in verdict["description"]
    docs = server.get("/docs")
    assert docs.status == 200
    for word in [*document["paths"], *document["components"]["schemas"], *verdict["properties"]]:
        assert f">{word}<" in docs.text or f" {word}<" in docs.text
    assert "://" not in docs.text
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", docs.text)


def test_the_document_says_what_needs_a_key(
    server: Server, bundle: Path, start: Callable[..., Server], keys: Keys
) -> None:
    def keyed(asked: Server) -> set[str]:
        paths = asked.get("/api/v1/openapi.json").json["paths"]
        return {
            path for path, methods in paths.items() for one in methods.values() if one["security"]
        }

    always = {"/api/v1/feedback", "/api/v1/reload"}
    assert keyed(server) == always
    with_keys = start(bundle, "--keys", str(keys.file))
    assert keyed(with_keys) == always | {
        "/api/v1/classify", "/api/v1/embed", "/api/v1/similar", "/api/v1/model", "/metrics"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [False, True])
def test_schemathesis_finds_nothing(
    bundle: Path, start: Callable[..., Server], tmp_path: Path, keyed: bool
) -> None:
    key, kept = make_key("all", SCOPES)
    options = ["--key", kept.line, "--feedback", str(tmp_path / "feedback.db")] if keyed else []
    server = start(bundle, *options)
    config = tmp_path / "schemathesis.toml"
    # Most strings are no images, and that is an answer of its own.
    config.write_text(
        "[checks.positive_data_acceptance]\n"
        'expected-statuses = ["2xx", "400", "401", "404", "413", "415", "422", "429"]\n'
    )
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", config),
            *("run", f"{server.url}api/v1/openapi.json", "--checks", "all"),
            *("--max-examples", "40", "--seed", "1", "--no-color", "--continue-on-failure"),
            *(("--header", f"Authorization: Bearer {key}") if keyed else ()),
        ],
        capture_output=True, text=True, check=False, timeout=1200, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert server.get("/readyz").status == 200
    assert "Traceback" not in server.errors.read_text()


def test_descriptions_are_markdown_and_never_markup() -> None:
    assert read_line("See `fusion` of <b>.") == "See <code>fusion</code> of &lt;b&gt;."
    assert "href" not in read_line("[a](javascript:alert(1))")
