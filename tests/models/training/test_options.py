"""What is asked for is checked before anything is done."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from models.decisions.thresholds import TargetSensitivity
from models.errors import TrainingError
from models.training.options import Options


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"folds": 1}, r"got 1 folds, .* at least 2"),
        ({"calibration": "none"}, r"no calibration is called 'none': there are auto, platt, "),
        ({"alpha": 0.5}, r"got alpha 0.5, expected an error rate between 0 and 0.5"),
        ({"alpha": float("nan")}, r"got alpha nan"),
        ({"on_leak": "keep"}, r"got 'keep' for leaks, expected one of drop, group, ignore"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as refused:
        Options(**asked)
    assert "\n" not in str(refused.value)


def test_options_are_a_value_that_does_not_change() -> None:
    assert Options() == Options(rule=TargetSensitivity())
    with pytest.raises(FrozenInstanceError):
        Options().folds = 3  # type: ignore[misc]
