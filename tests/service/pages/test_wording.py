from __future__ import annotations

from features.numbers import NARROW_SPACE
from service.pages.wording import (
    Share,
    figures,
    in_people,
    position,
    sentence,
)


def interval(value: float) -> dict[str, float | None]:
    return {"value": value, "low": value - 0.05, "high": value + 0.02}


def evaluation(*, positives: bool = True) -> dict[str, object]:
    return {
        "n": 150,
        "positives": 30 if positives else 0,
        "auc": interval(0.81) if positives else None,
        "brier": 0.1234,
        "operating_point": {
            "sensitivity": interval(0.95) if positives else None,
            "specificity": interval(0.452),
        },
    }


def test_position_stays_on_the_scale() -> None:
    assert [position(p) for p in (-0.1, 0.0, 0.1234, 1.0, 1.2)] == [
        "0.00%",
        "0.00%",
        "12.34%",
        "100.00%",
        "100.00%",
    ]


def test_sentence() -> None:
    assert sentence("the file is empty: copy it") == "The file is empty: copy it."
    assert sentence("Is it there?") == "Is it there?"


def test_in_people_takes_the_split_that_tells_most() -> None:
    flagging = in_people({"cross-validation": evaluation(), "valid": evaluation()})
    assert flagging
    assert flagging.split == "the validation images"
    assert flagging.positive == Share(95, 90, 97)
    assert flagging.negative == Share(55, 53, 60)
    # 28.5 of 30 are found, and 65.76 of 120 flagged with them.
    assert (flagging.right, flagging.frequency) == (30, 20)
    without = in_people({"cross-validation": evaluation(), "valid": evaluation(positives=False)})
    assert without
    assert without.split == "the training images, cross-validated"
    larger = {**evaluation(), "n": 2000, "positives": 400}
    flagging = in_people({"cross-validation": larger, "valid": evaluation()})
    assert flagging
    assert flagging.split == "the training images, cross-validated"
    assert in_people({"valid": evaluation(positives=False)}) is None
    assert in_people({}) is None


def test_figures_say_what_could_not_be_measured() -> None:
    row, other = figures({"cross-validation": evaluation(), "valid": evaluation(positives=False)})
    assert (row.split, row.auc, row.images) == ("Validation images", "not measurable", 150)
    assert other.auc == "0.810 (0.760\N{EN DASH}0.830)"
    assert other.sensitivity == f"95{NARROW_SPACE}% (90\N{EN DASH}97)"
    assert other.brier == "0.123"
