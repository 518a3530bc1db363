"""Neighbours by an index: found, measured, kept, and made anew when it is not of these images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from features.audit import findings, similarity
from features.audit.approximate import (
    Kept,
    Recall,
    approximate_nearest,
    is_installed,
    measure_recall,
)
from features.audit.command import audit as audit_command
from features.audit.similarity import by_index, find_links, nearest, neighbours
from features.cache.contents import Features, Items, write_features
from features.cache.rows import Rows
from features.embedding.specification import ExtractorSpec
from features.errors import CacheError

needs_usearch = pytest.mark.skipif(not is_installed(), reason="needs the extra `neighbours`")
Floats = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def points_of(n: int, d: int = 32, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(20, d))
    points = middles[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, d))
    found: Floats = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a feature file of drawn numbers, 20 of which are nearly those of another split."""
    embeddings = points_of(2_000)
    embeddings[1_900:1_920] = embeddings[:20] + 0.002 * points_of(20, seed=1)
    rows = range(len(embeddings))
    spec = ExtractorSpec("inception_v3", "untrained", "0" * 64, 75, 32, ("mixed10",))
    items = Items.from_rows(
        (
            row,
            f"{row:016x}".ljust(64, "0"),
            f"{row}.png",
            "ab"[row % 2],
            "train" if row < 1_800 else "test",
            "",
            75,
            75,
        )
        for row in rows
    )
    file = tmp_path_factory.mktemp("many") / "many.h5"
    write_features(file, Features(spec=spec, embeddings=embeddings, items=items, synthetic=True))
    return file


@needs_usearch
def test_an_index_finds_nearly_all_and_their_distances_are_exact() -> None:
    points = points_of(3_000)
    exact, found = nearest(points, k=12), nearest(points, k=12, way="index")
    same = np.mean([len({*a} & {*b}) for a, b in zip(exact.index, found.index, strict=True)]) / 12
    assert same > 0.97
    assert found.recall
    assert abs(found.recall.share - same) < 0.02
    assert not (found.index == np.arange(3_000)[:, np.newaxis]).any()
    np.testing.assert_allclose(
        found.distance,
        1 - np.einsum("nkd,nd->nk", points[found.index], points),
        atol=1e-6,
    )
    assert (np.diff(found.distance, axis=1) >= 0).all()
    others = points_of(3_000, seed=2)
    asked = nearest(points, others, k=1, way="index")
    assert np.mean(asked.index[:, 0] == nearest(points, others, k=1).index[:, 0]) > 0.97


@needs_usearch
def test_many_of_the_same_have_all_their_neighbours() -> None:
    points = np.zeros((200, 8), np.float32)
    points[:, 0] = 1
    found = nearest(points, k=5, way="index")
    assert all(len({*row} - {own}) == 5 for own, row in enumerate(found.index.tolist()))
    np.testing.assert_allclose(found.distance, 0, atol=1e-6)


def test_recall_counts_what_was_missed() -> None:
    points = points_of(600)
    found = nearest(points, k=4).index.copy()
    assert measure_recall(points, found) == Recall(600, 600, 1.0)
    wrong = np.arange(600)[:, np.newaxis]
    found[:300, 1] = wrong[:300, 0]
    assert measure_recall(points, found) == Recall(600, 600, 1 - 300 / 2400)
    found[:60, 0] = wrong[:60, 0]
    assert measure_recall(points, found) == Recall(600, 540, 1 - 360 / 2400)


def test_without_many_images_or_the_extra_each_is_compared_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(similarity, "is_installed", lambda: True)
    assert not by_index(similarity.MANY - 1)
    assert by_index(similarity.MANY)
    assert not by_index(similarity.MANY, "exact")
    assert by_index(10, "index")
    monkeypatch.setattr(similarity, "is_installed", lambda: False)
    assert not by_index(similarity.MANY)
    with pytest.raises(CacheError, match=r"lesion-classifier\[neighbours\]"):
        by_index(10, "index")


def test_rows_that_stay_where_they_are_have_the_same_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(similarity, "_EXACT", 1_000)
    embeddings = np.random.default_rng(3).random((1_500, 260), np.float32)
    whole, rows = neighbours(embeddings, 3), neighbours(Rows(embeddings), 3)
    np.testing.assert_array_equal(whole.index, rows.index)
    assert find_links(Rows(embeddings), rows, None) == find_links(embeddings, whole, None)


@needs_usearch
def test_an_index_is_kept_for_these_points_alone(tmp_path: Path) -> None:
    points = points_of(800)
    hashes = np.array([f"{row:064x}" for row in range(800)])
    kept = Kept.of(tmp_path / "a [b].h5", "f" * 64, hashes)
    made: list[int] = []

    def ask(where: Kept, of: Floats = points) -> bool:
        made.clear()
        found = approximate_nearest(of, of, 3, kept=where, progress=lambda d, _: made.append(d))
        assert found[2] is None
        assert np.mean(found[0][:, 0] == np.arange(len(of))) > 0.98
        return made[0] == len(of)

    # Told of the building first, where it is built.
    assert ask(kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept.path.name, kept.mark.name]
    assert not ask(kept)
    content = kept.path.read_bytes()
    for spoilt in (content[:-1], b"", content[:5000] + b"\xff" * 64 + content[5064:]):
        kept.path.write_bytes(spoilt)
        assert ask(kept)
    said = json.loads(kept.mark.read_text())
    kept.mark.write_text(json.dumps({**said, "version": "0.0"}))
    assert ask(kept)
    kept.mark.write_text("[]")
    assert ask(kept)
    # The same hashes with other numbers, as when directions come out with another sign.
    assert ask(kept, -points)
    more = Kept.of(tmp_path / "a [b].h5", "f" * 64, hashes[:700])
    other = tmp_path / "another.neighbours-0000000000000000.usearch"
    other.write_bytes(b"somebody's")
    assert ask(more, points[:700])
    assert {*tmp_path.iterdir()} == {more.path, more.mark, other}


@needs_usearch
def test_an_audit_by_index_says_how_many_it_may_have_missed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.json"
    words = [str(cache), "--groups", "none", "--json", str(out), "--neighbours"]
    by_way = {}
    for way in ("exact", "index", "index"):
        # The last one leaves the rows in the file.
        monkeypatch.setattr(findings, "MANY", 100 if "index" in by_way else 10_000)
        run = CliRunner().invoke(audit_command, [*words, way])
        assert run.exit_code == 0, run.output
        by_way[way] = run.output, json.loads(out.read_text())
    (_, exact), (text, found) = by_way["exact"], by_way["index"]
    assert exact["recall"] is None
    assert len(exact["leaks"]) >= 20
    assert {*found["leaks"]} <= {*exact["leaks"]}
    assert len(found["leaks"]) >= 0.9 * len(exact["leaks"])
    assert found["recall"]["asked"] == 1_000
    assert found["recall"]["nearest"] >= 980
    assert "of 1,000 images drawn at random it found the nearest other one for" in text
    assert "A copy that was missed may cross splits" in text
    assert len([*cache.parent.glob("many.neighbours-*")]) == 2


@needs_usearch
def test_an_index_that_can_not_be_kept_is_told(small_disk: Path, tmp_path: Path) -> None:
    points = points_of(5_000)
    for folder, reason in ((tmp_path / "gone", "No such file"), (small_disk, "Failed to")):
        place = Kept.of(folder / "a.h5", "f" * 64, np.array(["0"]))
        found, _, note = approximate_nearest(points, points, 2, kept=place)
        assert np.mean(found[:, 0] == np.arange(len(points))) > 0.98
        assert note
        assert f"can't be kept ({reason}" in note
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
