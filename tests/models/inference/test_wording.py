"""What a verdict says is said in one module, a sentence for each kind."""

from __future__ import annotations

from typing import get_args

from features.images.quality import Fault, Hint, Quality
from features.presenting import MARKS
from models.decisions.thresholds import Zone
from models.inference import wording
from models.inference.verdict import Note, NoteKind, Reason, ReasonKind
from models.patients.encoding import Unused

EVERY_FAULT = Quality(get_args(Fault), get_args(Hint), 60, 45, 299, ("its 16 bits hold 12",))


def every_reason() -> list[Reason]:
    zone = Zone(0.125, 0.375, 0.1)
    return [
        wording.because_of_zone(zone),
        wording.because_unlike(0.625, 0.01),
        *wording.faults_of(EVERY_FAULT),
    ]


def every_note() -> list[Note]:
    return [
        *wording.marked(MARKS),
        *wording.hints_of(EVERY_FAULT),
        wording.not_used(Unused("site", None, ("age", "sex"))),
        wording.not_used(Unused("site", "tail", ("back", "head/neck"))),
        wording.known_as("melanoma"),
        *wording.not_shown({"one": False}),
        *wording.not_shown({"one": True, "other": False}),
    ]


def test_every_kind_has_a_sentence_of_its_own() -> None:
    assert [one.kind for one in every_reason()] == list(get_args(ReasonKind))
    assert [one.kind for one in every_note()] == list(get_args(NoteKind))
    texts = [one.text for one in (*every_reason(), *every_note())]
    assert len(set(texts)) == len(texts)
    assert all(text[0].isupper() and text.endswith(".") for text in texts)


def test_sentences_have_the_numbers_and_names_that_they_speak_of() -> None:
    said = {one.kind: one.text for one in (*every_reason(), *every_note())}
    for kind, *words in (
        ("in_zone", "0.125", "0.375"),
        ("unlike", "0.62", "99%"),
        ("small", "60 x 45", "299 x 299"),
        ("not_taken", "site", "age and sex"),
        ("not_known", "site", "'tail'", "back, head/neck"),
        ("trained_on", "'melanoma'"),
        ("part_map", "what one sees alone", "read off other"),
    ):
        assert all(word in said[kind] for word in words), said[kind]  # type: ignore[index]


def test_only_the_first_categories_are_listed() -> None:
    sites = tuple(f"site{number}" for number in range(30))
    text = wording.not_used(Unused("site", "tail", sites)).text
    assert "site11, …" in text
    assert "site12" not in text
    assert "none" in wording.not_used(Unused("site", "tail", ())).text


def test_what_the_threshold_says_is_told_apart() -> None:
    assert wording.said_by_threshold(True) != wording.said_by_threshold(False)
