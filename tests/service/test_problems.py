"""Every kind of problem that can be answered is listed, with the status that it has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from werkzeug.exceptions import default_exceptions

from models.inference.feedback import FeedbackFailed
from service import create_app
from service.classifier.loaded import LoadedClassifier
from service.problems import KINDS
from service.settings import Settings
from tests.conftest import ROOT

RAISED = {"Problem", "BadUpload", "Refused", "_answer"}


@pytest.fixture(scope="module")
def asked(bundle: Path) -> FlaskClient:
    settings = Settings(bundle=bundle)
    classifier = LoadedClassifier(settings)
    classifier.load()
    app: Flask = create_app(settings, classifier)
    app.add_url_rule("/api/fails/<int:code>", "fails", abort)
    return app.test_client()


def codes_in_the_source() -> set[str]:
    calls = [
        node
        for path in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED and node.args
    ]
    return {
        str(call.args[0].value)
        for call in calls
        if isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }


def test_what_the_service_raises_is_listed_and_nothing_else() -> None:
    stored = {FeedbackFailed("", full=full).code for full in (True, False)}
    http = {"bad_request", "not_found", "method_not_allowed", "requested_range_not_satisfiable"}
    assert codes_in_the_source() | stored | http == set(KINDS)


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_what_http_raises_is_answered_as_a_listed_kind(status: int, asked: FlaskClient) -> None:
    answer = asked.get(f"/api/fails/{status}")
    assert answer.json is not None
    kind = KINDS[answer.json["code"]]
    assert answer.status_code == answer.json["status"] == kind.status
    assert kind.status // 100 == status // 100


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/static/style.css", {"Range": "bytes=99999999-"}, 416),
        ("/api/v1/nothing", {}, 404),
        ("/api/v1/classify", {}, 405),
    ],
)
def test_real_requests_get_their_status(
    path: str, headers: dict[str, str], status: int, asked: FlaskClient
) -> None:
    assert asked.get(path, headers=headers).status_code == status


def test_the_docs_explain_every_kind(asked: FlaskClient) -> None:
    page = asked.get("/docs").text
    for code, kind in KINDS.items():
        assert f'<tr id="{code}">' in page
        assert f"<td>{kind.status}</td>" in page
