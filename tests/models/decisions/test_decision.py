"""What goes with a head is made of out-of-fold scores, written, and read back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models.decisions.calibration import METHODS
from models.decisions.calibration import fit_platt as calibrate
from models.decisions.decision import Decision, cross_fitted, fit_decision
from models.decisions.thresholds import TargetSensitivity
from tests.models.data.clusters import drawn

TESTS = [np.arange(start, 120, 4) for start in range(4)]


def made(method: str = "platt") -> Decision:
    labels, scores = drawn(120, 5)
    return fit_decision(labels, scores, TESTS, TargetSensitivity(), method=method, alpha=0.2)[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_decision_comes_back_from_json(method: str) -> None:
    known = made(method)
    assert known.calibration.method == method
    assert Decision.from_dict(json.loads(json.dumps(known.as_dict()))) == known


def test_only_the_best_of_several_calibrations_has_losses_to_show() -> None:
    labels, scores = drawn(120, 5)
    asked = fit_decision(labels, scores, TESTS, TargetSensitivity(), method="beta")
    decision, losses = fit_decision(labels, scores, TESTS, TargetSensitivity(), method="auto")
    assert asked[1] == {}
    assert decision.calibration.method == min(losses, key=losses.__getitem__)


def test_a_call_is_certain_outside_of_the_zone_alone() -> None:
    known = made()
    assert known.zone is not None
    probabilities = np.linspace(0, 1, 1001)
    calls = [known.decide(float(probability)) for probability in probabilities]
    assert list(dict.fromkeys(calls)) == ["not suspicious", "cannot tell", "suspicious"]
    doubted = known.doubts(probabilities)
    np.testing.assert_array_equal(doubted, [call == "cannot tell" for call in calls])
    flagged = known.flags(probabilities)
    assert flagged.tolist() == (probabilities >= known.threshold).tolist()
    assert {calls[place] for place in np.flatnonzero(flagged & ~doubted)} == {"suspicious"}


def test_without_a_zone_the_threshold_decides() -> None:
    known = Decision.from_dict({**made().as_dict(), "zone": None})
    assert known.zone is None
    assert known.decide(known.threshold) == "suspicious"
    assert known.decide(np.nextafter(known.threshold, 0)) == "not suspicious"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": "0.5"}, "a threshold of '0.5', which is no probability"),
        ({"threshold": True}, "a threshold of True"),
        ({"threshold": float("nan")}, "a threshold of nan"),
        ({"threshold": 1.5}, "a threshold of 1.5"),
        ({"threshold_rule": 3}, "a rule for its threshold that is no text"),
        ({"calibration": {"method": "none"}}, "a calibration without sense .*got method 'none'"),
        ({"calibration": []}, "a calibration without sense"),
        ({"zone": {"lower": 0.9, "upper": 0.1, "alpha": 0.1}}, "a zone without sense"),
        ({"zone": {"lower": 0.0, "upper": 1.0}}, "a zone without sense"),
        ({"zone": {"lower": 1.0, "upper": 1.0, "alpha": 0.1}}, "zone that the threshold is not in"),
    ],
)
def test_values_without_sense_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Decision.from_dict({**made().as_dict(), **change})


def test_a_fold_is_judged_without_its_labels() -> None:
    labels, scores = drawn(120, 5)
    tests = [np.arange(start, 120, 4) for start in range(4)]
    probabilities, suspicious = cross_fitted(labels, scores, tests, TargetSensitivity())
    altered = labels.copy()
    altered[tests[2]] = 1 - altered[tests[2]]
    others, calls = cross_fitted(altered, scores, tests, TargetSensitivity())
    np.testing.assert_array_equal(probabilities[tests[2]], others[tests[2]])
    np.testing.assert_array_equal(suspicious[tests[2]], calls[tests[2]])
    assert not np.array_equal(probabilities[tests[0]], others[tests[0]])


def test_cross_fitting_agrees_with_one_fit_where_there_is_much_data() -> None:
    labels, scores = drawn(20_000, 6)
    tests = [np.arange(start, 20_000, 5) for start in range(5)]
    probabilities, suspicious = cross_fitted(labels, scores, tests, TargetSensitivity())
    calibration = calibrate(labels, scores)
    np.testing.assert_allclose(probabilities, calibration.apply(scores), atol=0.02)
    assert suspicious[labels == 1].mean() == pytest.approx(0.953, abs=0.01)
