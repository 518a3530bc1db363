"""What the network saw of an image is kept for its map, for a moment."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.images.lesion import WHOLE
from models.inference.classifier import Classifier
from models.inference.evidence import Seen
from models.inference.verdict import Verdict
from service.classifier import recent
from service.classifier.recent import Recent
from service.classifier.served import Case, Served
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.service.asking import lesion_jpeg, until


@pytest.fixture(scope="module")
def served(bundle: Path) -> Served:
    return Served(Classifier.load(bundle), Settings(bundle=bundle), Metrics())


def test_the_map_needs_no_pass_beside_the_verdict_s(
    served: Served, lesion: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    network: Any = served.classifier._extractor
    for name in ("embed", "look"):
        run = getattr(network, name)
        monkeypatch.setattr(
            network, name, lambda *pixels, run=run: (passes.append(1), run(*pixels))[1]
        )
    images = [("mole.jpg", lesion)]
    (alone,) = served.classify_cases(images)
    anew = served.explain(lesion)
    assert len(passes) == 2
    (case,) = served.classify_cases(images, explained_next=True)
    kept = served.explain(lesion)
    assert len(passes) == 3
    assert isinstance(case, Case)
    assert isinstance(alone, Case)
    assert np.array_equal(case.row, alone.row)
    assert case.verdict == alone.verdict
    assert np.array_equal(kept.effect, anew.effect)
    # Kept for one who asks.
    assert np.array_equal(served.explain(lesion).effect, anew.effect)
    assert len(passes) == 4


def test_images_of_several_requests_are_judged_together_as_each_alone(
    served: Served, lesion: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [lesion, *(lesion_jpeg(seed, "NotMelanoma") for seed in range(3))]
    wanted = [0, 2, 0, 1]

    def ask(number: int) -> Verdict:
        name = f"{number}.jpg"
        (found,) = served.classify_cases([(name, images[number])], similar=wanted[number])
        assert isinstance(found, Case)
        return found.verdict

    alone = [ask(number) for number in range(4)]
    rows: list[int] = []
    judge = served.classifier.classify_embedded
    monkeypatch.setattr(
        served.classifier,
        "classify_embedded",
        lambda *words, **more: (rows.append(len(words[1])), judge(*words, **more))[1],
    )
    monkeypatch.setattr(served._judge, "_more", lambda: True)
    with ThreadPoolExecutor(4) as askers:
        together = list(askers.map(ask, range(4)))
    assert rows == [4]
    for one, other in zip(alone, together, strict=True):
        assert other.probability == pytest.approx(one.probability, abs=1e-6)
        assert other.distance == pytest.approx(one.distance, abs=1e-6)
        assert [each.sha256 for each in other.similar] == [each.sha256 for each in one.similar]
        told = replace(other, probability=one.probability, distance=one.distance)
        assert replace(told, similar=one.similar) == one
    assert [len(each.similar) for each in together] == wanted


def test_no_more_is_kept_than_fits_nor_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "_SECONDS", 0.2)
    kept = Recent()
    names = [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]
    monkeypatch.setattr(Seen, "nbytes", recent._MOST_BYTES // 3)
    for name in names:
        kept.keep(name, Seen([], (WHOLE,)))
    assert [kept.take(name) is not None for name in names] == [False, True, True, True]
    assert kept.take(names[1]) is None
    monkeypatch.setattr(Seen, "nbytes", recent._MOST_BYTES + 1)
    kept.keep(names[0], Seen([], (WHOLE,)))
    assert kept.take(names[0]) is None
    monkeypatch.setattr(Seen, "nbytes", 1)
    kept.keep(names[0], Seen([], (WHOLE,)))
    assert until(lambda: not kept._kept, 5)
