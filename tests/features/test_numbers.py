from __future__ import annotations

import pytest

from features.numbers import NARROW_SPACE, brief, decimal, probability, setting, signed


@pytest.mark.parametrize(
    ("value", "other", "written"),
    [
        (0.5, None, "50.0 %"),
        (0.00049, None, "< 0.1 %"),
        (0.99951, None, "> 99.9 %"),
        (0.0, None, "0.0 %"),
        (0.30001, 0.30002, "30.001 %"),
        (0.3, 0.3, "30.0 %"),
        (0.3, 0.4, "30.0 %"),
    ],
)
def test_a_probability(value: float, other: float | None, written: str) -> None:
    assert probability(value, other).replace(NARROW_SPACE, " ") == written


def test_two_probabilities_that_differ_never_look_the_same() -> None:
    assert probability(0.12344, 0.12346) != probability(0.12346, 0.12344)


def test_a_measured_value_has_three_digits() -> None:
    assert [brief(value) for value in (0.01234, 1.5, 99.94, 1234.5)] == [
        "0.0123",
        "1.5",
        "99.9",
        "1,234",
    ]


def test_what_is_not_known_is_a_dash() -> None:
    assert decimal(None) == "\N{EN DASH}"
    assert decimal(None, "-") == "-"
    assert (signed(0.01), signed(-0.01)) == ("+0.010", "-0.010")
    assert (setting(0.123456), setting(3), setting("rbf")) == ("0.1235", "3", "rbf")
