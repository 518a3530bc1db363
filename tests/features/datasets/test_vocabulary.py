"""One vocabulary: what is missing, 0 and 1, sexes, splits, classes."""

from __future__ import annotations

import pytest

from features.datasets.joining import split_word
from features.datasets.vocabulary import (
    canonical_class,
    contradict,
    flag,
    is_missing,
    may_be,
    number,
    same_class,
    sex,
    site,
    split_of,
)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " NA ",
            "NaN",
            "unknown",
            "-1",
            "-1.0",
            "-999",
            "N/A",
            "Null",
            "\u2014",
            "\u2013",
            "...",
            "[]",
        ),
        *("(null)", "<unknown>", "'NA'", "n.d.", "k. A.", "\\N", "#REF!", "not determined"),
        *("---", "n/a.", "keine Angabe", "non renseigné", "\u22121"),
    ],
)
def test_missing(text: str) -> None:
    assert is_missing(text)


@pytest.mark.parametrize(
    "text", ["0", "1", "-5", "nature", "benign", "other", "no", "indeterminate"]
)
def test_not_missing(text: str) -> None:
    assert not is_missing(text)


def test_flags_and_numbers() -> None:
    assert [flag(text) for text in ("1", "1.00", "1,0", "TRUE", "Yes")] == [True] * 5
    assert [flag(text) for text in ("0", "0.0", "0,00", "false", "no")] == [False] * 5
    assert [flag(text) for text in ("", "0.5", "10", "2", "mel", "F")] == [None] * 6
    assert (number("55,5"), number("1e3"), number("nan"), number("x")) == (55.5, 1000.0, None, None)


def test_sexes_sites_and_splits() -> None:
    assert {sex(word) for word in ("M", "male", "Männlich", "homme")} == {"male"}
    assert {sex(word) for word in ("f", "Woman", "weiblich", "femme")} == {"female"}
    assert sex("0") is None
    assert site("Head and Neck") == site("head/neck") == site("head & neck")
    assert site("back") != site("chest")
    assert [split_of(word) for word in ("Train", "VAL", "hold-out", "held out")] == [
        *("train", "valid", "test", "test")
    ]
    assert [split_word(name) for name in ("latest", "contest_2", "valencia", "trained")] == [""] * 4
    assert split_word("ISIC_2019_Training_GroundTruth") == "train"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("MEL", "melanoma"), ("Malignant melanoma", "mel"), ("Melanoma, NOS", "MEL")),
        *(("nv", "Naevus"), ("NotMelanoma", "not melanoma"), ("non-mel", "notmelanoma")),
        *(("seborrheic_keratosis", "SK"), ("not malignant", "benign"), ("BKL", "bkl")),
    ],
)
def test_one_class_by_two_names(one: str, other: str) -> None:
    assert same_class(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("melanoma", "melanoma in situ"), ("melanoma", "NotMelanoma"), ("HER+", "HER-")),
        *(("nevus", "atypical nevus"), ("type 1", "type 2"), ("malignant", "melanoma")),
        *(("AK", "BKL"), ("a", "A b"), ("日本", "日")),
    ],
)
def test_two_classes(one: str, other: str) -> None:
    assert not same_class(one, other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("melanoma", "nv", True),
        ("benign", "mel", True),
        ("malignant", "nevus", True),
        ("NotMelanoma", "mel", True),
        ("NotMelanoma", "melanoma in situ", True),
        ("target", "benign", True),
        ("benign", "nv", False),
        ("malignant", "bcc", False),
        ("NotMelanoma", "bcc", False),
        ("not target", "NotMelanoma", False),
        ("not target", "melanoma", True),
        ("not malignant", "mel", True),
        ("not malignant", "nevus", False),
        ("not benign", "nevus", True),
        ("nevus", "atypical nevus", False),
        ("melanoma", "melanoma (in situ)", False),
        ("clinic A", "melanoma", False),
    ],
)
def test_contradictions(one: str, other: str, expected: bool) -> None:
    assert contradict(one, other) is contradict(other, one) is expected


def test_what_may_be_the_positive_class() -> None:
    may = ("melanoma (in situ)", "lentigo maligna", "Malignant", "1", "metastatic melanoma")
    assert all(may_be(label, "melanoma") for label in may)
    never = ("MEL", "NotMelanoma", "no melanoma", "nevus", "melanosis", "benign", "other")
    assert not any(may_be(label, "melanoma") for label in never)


def test_spelling_of_what_is_not_known_is_plain() -> None:
    assert canonical_class("Some_Other-Thing") == "some other thing"
