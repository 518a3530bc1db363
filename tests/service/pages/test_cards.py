from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flask import render_template
from PIL import Image

from models.bundle.gallery import Similar
from models.bundle.loading import Bundle, load_bundle
from models.decisions.thresholds import Zone
from models.inference.evidence import Evidence
from models.inference.verdict import Note, Reason, ReasonKind, Rejected, Verdict
from service import create_app
from service.classifier.loaded import LoadedClassifier
from service.classifier.served import Case
from service.pages.cards import card_of
from service.pages.pictures import LOWERS, RAISES, embedded, overlay, preview
from service.settings import Settings
from tests.service.asking import lesion_jpeg


def opened(address: str) -> Image.Image:
    head, _, content = address.partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{str(picture.format).lower()};base64"
    return picture


def effect_at(row: int, column: int, value: float = 1.0) -> npt.NDArray[np.float32]:
    effect = np.zeros((8, 8), np.float32)
    effect[row, column] = value
    return effect


@pytest.fixture(scope="module")
def loaded(bundle: Path) -> Bundle:
    found = load_bundle(bundle)
    return replace(found, decision=replace(found.decision, zone=Zone(0.2, 0.6, 0.1)))


def case(probability: float = 0.7, **more: object) -> Case:
    verdict = Verdict("mole.jpg", "melanoma", probability, 0.3, "suspicious", flagged=True)
    return Case(replace(verdict, **more), np.zeros(4, np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 64), (100, 100)])
def test_a_preview_keeps_the_proportions(height: int, width: int) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(file, "TIFF")
    found = preview(file.getvalue())
    assert opened(found.uri).size == (found.width, found.height)
    assert max(found.width, found.height) == 448
    assert found.width / found.height == pytest.approx(width / height, rel=0.01)


def test_an_overlay_is_orange_where_suspicious_purple_where_not_and_clear_elsewhere() -> None:
    effect = effect_at(1, 1) - effect_at(6, 6)
    pixels = np.asarray(opened(overlay(effect, 160, 80)).convert("RGBA"))
    assert pixels.shape == (80, 160, 4)
    raised, lowered, nothing = pixels[15, 30], pixels[65, 130], pixels[15, 130]
    assert tuple(raised[:3]) == RAISES
    assert tuple(lowered[:3]) == LOWERS
    assert raised[3] > 180
    assert lowered[3] > 180
    assert nothing[3] < 10


def test_an_overlay_of_nothing_is_clear() -> None:
    pixels = np.asarray(opened(overlay(np.zeros((8, 8), np.float32), 40, 40)).convert("RGBA"))
    assert pixels[..., 3].max() == 0


def test_an_overlay_does_not_depend_on_the_unit_of_the_score() -> None:
    effect = effect_at(2, 3) - 0.5 * effect_at(5, 5)
    assert overlay(effect, 64, 64) == overlay(effect * 1e-6, 64, 64)


def test_small_pictures_are_embedded_by_what_they_are_not_by_what_they_say() -> None:
    assert opened(embedded(lesion_jpeg(size=32)) or "").size == (32, 32)
    assert embedded(b"<svg onload=alert(1)>") is None
    assert embedded(None) is None


def test_a_card_says_where_the_score_comes_from(loaded: Bundle) -> None:
    effect = effect_at(0, 7) - effect_at(4, 4)
    card = card_of(case(), lesion_jpeg(), loaded, evidence=Evidence(0.5, effect, ()))
    assert card.map
    assert (card.map.rows, card.map.columns) == (8, 8)
    assert (card.map.raises, card.map.lowers) == ("the upper right", "the middle")
    assert card.picture
    assert opened(card.map.address).size == (card.picture.width, card.picture.height)
    flat = card_of(case(), lesion_jpeg(), loaded, evidence=Evidence(0.5, effect * 0, ()))
    assert flat.map
    assert (flat.map.raises, flat.map.lowers) == (None, None)
    assert card_of(case(), lesion_jpeg(), loaded).map is None


def test_a_record_holds_words_and_numbers_alone(loaded: Bundle) -> None:
    card = card_of(case(warnings=(Note("patch", "There is ink on it"),)), lesion_jpeg(), loaded)
    assert card.record
    assert card.record["probability"] == 0.7
    assert card.record["warnings"] == ["There is ink on it"]
    assert card.record["marks"] == list(loaded.marks)
    assert "data:" not in str(card.record)


def test_every_card_has_a_name_of_its_own(loaded: Bundle) -> None:
    names = {card_of(case(), lesion_jpeg(), loaded).id for _ in range(3)}
    assert len(names) == 3


def test_what_was_rejected_has_no_verdict(loaded: Bundle) -> None:
    card = card_of(Rejected("a.txt", "not_an_image", "the file is no image"), b"words", loaded)
    assert (card.kind, card.verdict, card.record) == ("rejected", None, None)


@pytest.fixture
def drawn_card(loaded: Bundle) -> Callable[..., str]:
    settings = Settings(bundle=loaded.folder)
    app = create_app(settings, LoadedClassifier(settings))

    def render(**said: Any) -> str:
        card = card_of(case(**said), lesion_jpeg(), loaded)
        with app.test_request_context():
            return render_template("card/cards.html", cards=[card], bundle=loaded)

    return render


def test_a_card_that_cannot_tell_says_why_and_what_the_threshold_says(
    drawn_card: Callable[..., str],
) -> None:
    doubt = {"decision": "cannot tell", "reasons": (Reason("in_zone", "It lies between"),)}
    page = drawn_card(probability=0.45, **doubt)
    assert "Cannot tell" in page
    assert "It lies between." in page
    assert "treat it as suspicious" in page
    assert "45.0" in page.partition("<details")[0]
    calm = drawn_card(probability=0.25, flagged=False, **doubt)
    assert "don't take that as an answer" in calm
    assert "treat it as suspicious" not in calm


@pytest.mark.parametrize("kind", ["unlike", "small", "blurred"])
def test_the_number_is_folded_away_where_it_is_worth_nothing(
    kind: ReasonKind, drawn_card: Callable[..., str]
) -> None:
    page = drawn_card(decision="cannot tell", reasons=(Reason(kind, "It is odd"),))
    before, _, folded = page.partition("<details")
    assert "Don't rely on any number" in before
    assert "treat it as suspicious" in before
    assert "70.0" not in before
    assert "70.0" in folded.partition("</details>")[0]


def test_a_card_says_that_the_image_was_trained_on(drawn_card: Callable[..., str]) -> None:
    page = drawn_card(known=Note("trained_on", "Its label is melanoma"))
    assert "Its label is melanoma." in page
    assert "Seen before" not in drawn_card()


def test_similar_images_have_labels_distances_and_pictures_if_kept(
    drawn_card: Callable[..., str],
) -> None:
    small = lesion_jpeg(size=32)
    hostile = "<script>alert(1)</script>"
    page = drawn_card(
        similar=(Similar("nevus", 0.234, "0" * 64, small), Similar(hostile, 0.5, "1" * 64))
    )
    assert str(embedded(small)) in page
    assert "distance 0.23" in page
    assert "no picture kept" in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "The most similar" not in drawn_card()


def test_every_card_says_that_it_is_no_diagnosis(drawn_card: Callable[..., str]) -> None:
    for decision in ("suspicious", "not suspicious", "cannot tell"):
        page = drawn_card(decision=decision)
        assert '<p class="notice">Decision support, not a diagnosis.</p>' in page
        assert f"{decision.capitalize()}\n" in page
