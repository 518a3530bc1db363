from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from models.evaluation.binary import evaluate
from models.evaluation.values import Evaluation
from models.inference.drift import calibration_drift


def images(n: int = 4000, *, share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the log-odds that are right for them: normal scores two deviations apart."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int8)
    x = rng.normal(size=n) + 2 * labels
    return labels, 2 * x - 2 + logit(share)


def judged(labels: np.ndarray, odds: np.ndarray) -> Evaluation:
    return evaluate("test", labels, odds, expit(odds), 0.2, seed=0)


def said(found: Evaluation, positives: int = 200) -> str:
    return calibration_drift(found, "melanoma", 1000, positives) or ""


def test_right_probabilities_have_not_drifted() -> None:
    text = said(judged(*images()))
    assert text.startswith("Probabilities agree with these images as far as 4000 of them tell: ")
    assert "slope 1.0" in text or "slope 0.9" in text


@pytest.mark.parametrize(
    ("shift", "spread", "words"),
    [
        (1.0, 1.0, "are too high on average (calibration slope"),
        (-1.0, 1.0, "are too low on average (calibration slope"),
        (0.0, 2.0, "too far apart (calibration slope"),
        (0.0, 0.5, "too close together (calibration slope"),
    ],
)
def test_how_probabilities_err_is_said(shift: float, spread: float, words: str) -> None:
    labels, odds = images()
    text = said(judged(labels, odds * spread + shift))
    assert text.startswith("ATTENTION: calibration has drifted: probabilities are ")
    assert words in text


def test_another_share_of_positives_explains_what_it_explains() -> None:
    labels, odds = images(share=0.5)
    # Calibrated where one in five is positive, and met here where half of them are.
    moved = odds - logit(0.5) + logit(0.2)
    text = said(judged(labels, moved))
    assert "too low on average" in text
    assert "those it was calibrated on 20.0 %, which alone explains the intercept" in text
    assert "which does not explain the intercept" in said(judged(labels, moved - 1))
    assert "which does not explain the intercept" in said(judged(labels, moved), positives=450)


def test_of_one_class_nothing_can_be_said() -> None:
    odds = np.linspace(-1, 1, 30)
    assert calibration_drift(judged(np.zeros(30, np.int8), odds), "melanoma", 10, 3) is None
