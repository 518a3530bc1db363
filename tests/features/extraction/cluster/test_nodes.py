from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from features.datasets.folders import find_images
from features.embedding.extractor import load_extractor
from features.extraction.cluster.nodes import Facts, differences, look
from features.extraction.job import Job
from features.networks.registry import NETWORKS, Recipe


@pytest.fixture
def job(folder_of_images: object, tmp_path: Path) -> Job:
    images = folder_of_images("a/1.jpg", "b/2.jpg")  # type: ignore[operator]
    network = NETWORKS["mobilenet"]
    extractor = load_extractor(network, "untrained", recipe="fast", input_size=32)
    recipe = Recipe(extractor.spec.layers, "mean", ("identity",), 32)
    dataset = replace(find_images([images]), items=())
    return Job(
        network, "untrained", recipe, "auto", "auto", "", extractor.spec, dataset, tmp_path / "out"
    )


SAMPLES = ("a/1.jpg", "b/2.jpg")


@pytest.fixture
def here(job: Job, tmp_path: Path) -> Facts:
    (tmp_path / "word").write_text("abc")
    return look(job, SAMPLES, tmp_path / "word")


def test_a_machine_that_is_like_this_one_has_no_differences(
    job: Job, here: Facts, tmp_path: Path
) -> None:
    assert differences(here, look(job, SAMPLES, tmp_path / "word"), job, SAMPLES) == []
    assert here.extractor == job.spec
    assert here.word == "abc"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"code": "0" * 64}, "another version of this program (000000000000 instead of "),
        ({"python": "3.9.1"}, "has Python 3.9.1 instead of"),
        ({"extractor": "there is no weights file /w.h5"}, "has no such network: there is no wei"),
        ({"word": ""}, "does not see what is written to"),
        ({"states": ("", "")}, "sees no file at"),
        ({"states": ("1 2", "3 4")}, "sees another file at"),
    ],
)
def test_a_difference_is_a_sentence_that_names_the_node(
    job: Job, here: Facts, change: dict[str, object], expected: str
) -> None:
    there = replace(here, name="eve", **change)  # type: ignore[arg-type]
    (told,) = differences(here, there, job, SAMPLES)
    assert told.startswith("node eve ")
    assert expected in told
    assert ": " in told


def test_other_weights_are_named(job: Job, here: Facts) -> None:
    there = replace(here, name="eve", extractor=replace(job.spec, weights_sha256="f" * 64))
    (told,) = differences(here, there, job, SAMPLES)
    assert "node eve has" in told
    assert "ffffffffffff" in told
    assert told.endswith("put the same weights on every node")
