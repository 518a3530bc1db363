"""A bundle of several classes, behind a real server: the form and the API give them all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from features.cache.contents import Features
from tests.service.asking import Server
from tests.service.conftest import fit

THREE = {"keratosis", "melanoma", "nevus"}


@pytest.fixture(scope="module")
def three(
    drawn: Features,
    start: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    label = np.where(drawn.items.label == "melanoma", "melanoma", "nevus").astype("U12")
    label[::4] = "keratosis"  # every other nevus
    features = replace(drawn, items=replace(drawn.items, label=label))
    return start(fit(tmp_path_factory.mktemp("three") / "bundle", features, "0.3"))


def test_the_answer_has_all_classes_the_most_likely_first(three: Server, lesion: bytes) -> None:
    answer = three.classify(("mole.jpg", lesion))
    (result,) = answer.json["results"]
    assert set(result["classes"]) == THREE
    assert sum(result["classes"].values()) == pytest.approx(1)
    assert result["classes"]["melanoma"] == result["probability"]
    told = answer.text[answer.text.index("classes") :]
    order = re.findall(r'"(keratosis|melanoma|nevus)":', told)
    shares = [result["classes"][name] for name in order]
    assert shares == sorted(shares, reverse=True)


def test_the_form_lists_all_classes_below_the_verdict(three: Server, lesion: bytes) -> None:
    page = three.send_form("/", ("image", "mole.jpg", lesion)).text
    (result,) = three.classify(("mole.jpg", lesion)).json["results"]
    listed = page[page.index('class="classes"') :]
    assert re.findall(r"<dt>(\w+)</dt>", listed)[:3] == list(result["classes"])
    assert page.index('class="decision"') < page.index('class="classes"')


def test_two_classes_are_not_listed(server: Server, lesion: bytes) -> None:
    assert 'class="classes"' not in server.send_form("/", ("image", "mole.jpg", lesion)).text
    (result,) = server.classify(("mole.jpg", lesion)).json["results"]
    assert "classes" not in result


def test_the_documented_answer_has_the_classes(three: Server) -> None:
    schemas = json.loads(three.get("/api/v1/openapi.json").text)["components"]["schemas"]
    assert "classes" in schemas["Verdict"]["properties"]
    assert "classes" not in schemas["Verdict"]["required"]
