from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from features.audit.groups import components, find_groups, groups_path, groups_text, read_groups
from features.audit.similarity import Link, find_links, nearest, neighbours
from features.cache.contents import Items
from features.errors import DatasetError


def link(first: int, second: int, similarity: float = 0.9) -> Link:
    return Link(first, second, similarity, 0.1)


def items(n: int = 4) -> Items:
    return Items.from_rows(
        (row, f"{row:064x}", f"train/{row}, x.jpg", "nevus", "train", "", 9, 9) for row in range(n)
    )


def test_linked_images_are_one_group() -> None:
    assert components(6, [link(0, 2), link(2, 5), link(1, 3)]) == [[0, 2, 5], [1, 3]]
    assert components(3, []) == []


def test_one_link_does_not_glue_two_groups_together() -> None:
    two = [link(0, 1), link(1, 2), link(3, 4), link(4, 5)]
    assert components(6, [*two, link(2, 3, 0.7)]) == [[0, 1, 2], [3, 4, 5]]
    assert components(6, [*two, link(2, 3, 0.7), link(2, 4, 0.7)]) == [[0, 1, 2], [3, 4, 5]]
    assert components(6, [*two, link(2, 3, 0.7), link(1, 4, 0.7)]) == [[0, 1, 2, 3, 4, 5]]


def test_the_order_of_links_changes_nothing() -> None:
    links = [link(0, 1), link(1, 2, 0.8), link(3, 4), link(4, 5, 0.7), link(2, 3, 0.66)]
    rng = np.random.default_rng(0)
    found = {str(components(6, [links[k] for k in rng.permutation(5)])) for _ in range(20)}
    assert len(found) == 1


def test_the_table_survives_writing_and_reading(tmp_path: Path) -> None:
    table = tmp_path / "features.groups.csv"
    table.write_text(groups_text(items(), ["a", "", "a", ""]))
    assert next(csv.reader(io.StringIO(table.read_text()))) == ["sha256", "path", "group"]
    found = read_groups(table, items())
    assert found.group.tolist() == ["a", "", "a", ""]
    assert found.notes == (f"groups: 2 images belong together with others by {table}",)
    more = read_groups(table, items(6))
    assert more.group.tolist() == ["a", "", "a", "", "", ""]
    assert "2 of 6 images are not in" in more.notes[1]


def test_auto_takes_the_table_beside_the_file(tmp_path: Path) -> None:
    features = tmp_path / "features.h5"
    none = find_groups("auto", features, items())
    assert not none.group.any()
    assert "none known" in none.notes[0]
    groups_path(features).write_text(groups_text(items(), ["a", "a", "", ""]))
    assert find_groups("auto", features, items()).group.tolist() == ["a", "a", "", ""]
    assert not find_groups("none", features, items()).group.any()
    assert find_groups("none", features, items()).notes == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sha256,path\nx,y\n", "no column group"),
        ("", "no column group and no column sha256"),
        ("sha256,group\nx,y\n", "no image in .* is in the feature file"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    table = tmp_path / "groups.csv"
    table.write_text(text)
    with pytest.raises(DatasetError, match=reason):
        read_groups(table, items())


def test_an_unreadable_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="can't be read"):
        read_groups(tmp_path / "missing.csv", items())
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\x00sha256")
    # Before Python 3.11 a zero byte can't be read as CSV at all.
    with pytest.raises(DatasetError, match=r"can't be read|has no column"):
        read_groups(tmp_path / "image.csv", items())


def test_nearest_are_the_nearest_in_every_block() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1300, 24)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = nearest(points, k=4)
    likeness = points @ points.T
    np.fill_diagonal(likeness, -2)
    expected = np.argsort(-likeness, axis=1)[:, :4]
    np.testing.assert_array_equal(found.index, expected)
    np.testing.assert_allclose(
        found.distance, 1 - np.take_along_axis(likeness, expected, 1), atol=1e-6
    )


def test_a_point_is_not_its_own_neighbour_among_many_that_are_the_same() -> None:
    points = np.zeros((9, 4), np.float32)
    points[:, 0] = 1
    found = nearest(points, k=3)
    assert not (found.index == np.arange(9)[:, np.newaxis]).any()
    assert all(len(set(row)) == 3 for row in found.index.tolist())
    np.testing.assert_allclose(found.distance, 0, atol=1e-6)
    assert nearest(points[:1], k=3).index.shape == (1, 0)


def test_planted_copies_are_found_among_many_embeddings() -> None:
    rng = np.random.default_rng(1)
    embeddings = rng.random((5_000, 300), np.float32)
    embeddings[2500:2540] = embeddings[:40] + 0.03 * rng.standard_normal((40, 300), np.float32)
    links = find_links(embeddings, neighbours(embeddings), None)
    assert [(found.first, found.second) for found in links] == [(k, k + 2500) for k in range(40)]
    assert all(found.similarity is None for found in links)
