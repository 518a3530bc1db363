from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.cache.rows import Rows
from features.datasets.vocabulary import canonical_class
from models.errors import TrainingError
from models.training.representations.matching import match_images, name_files
from tests.models.data.networks import changed, seen, shuffled


def with_values(features, column: str, **values: str):  # type: ignore[no-untyped-def]
    new = getattr(features.items, column).astype("U20").copy()
    for place, value in values.items():
        new[int(place[1:])] = value
    return changed(features, **{column: new})


def test_one_file_stays_as_it_is() -> None:
    one = seen("a")
    assert match_images({"a": one}) == ({"a": one}, ())


def test_rows_of_an_image_meet_whatever_their_order() -> None:
    one, two = seen("a"), seen("b", seed=1)
    found, notes = match_images({"a": one, "b": shuffled(two), "c": shuffled(seen("c"), 9)})
    assert notes == ()
    for name, truth in (("a", one), ("b", two), ("c", seen("c"))):
        np.testing.assert_array_equal(found[name].embedded(found[name].items), truth.embeddings)
        for column, values in vars(found[name].items).items():
            np.testing.assert_array_equal(values, getattr(found["a"].items, column))
    assert found["a"].items.path.tolist() == one.items.path.tolist()
    assert found["b"].fingerprint == two.fingerprint


def test_embeddings_that_are_not_all_in_memory_are_matched_as_well() -> None:
    two = shuffled(seen("b", seed=1))
    assert isinstance(two.embeddings, np.ndarray)
    found, _ = match_images({"a": seen("a"), "b": replace(two, embeddings=Rows(two.embeddings))})
    assert isinstance(found["b"].embeddings, Rows)
    np.testing.assert_array_equal(
        found["b"].embedded(found["b"].items), seen("b", seed=1).embeddings
    )


def test_what_is_not_in_all_files_is_left_out_and_said() -> None:
    files = {
        "a": seen("a"),
        "b": shuffled(seen("b"), without=(3, 4, 5)),
        "c": shuffled(seen("c"), without=(5,)),
    }
    found, notes = match_images(files)
    kept = [place for place in range(150) if place not in (3, 4, 5)]
    for name in files:
        assert found[name].items.path.tolist() == [f"{place}.jpg" for place in kept]
        assert len(found[name].embeddings) == 147
    assert notes[0] == (
        "3 of 150 images of a left out, because not all feature files have them "
        "(such as 3.jpg, 4.jpg)."
    )
    assert len(notes) == 2
    assert notes[1].startswith("2 of 149 images of c left out")


def test_an_image_whose_file_is_gone_is_not_in_a_file() -> None:
    gone = with_values(seen("b"), "path", p7="")
    found, notes = match_images({"a": seen("a"), "b": gone})
    assert "7.jpg" not in found["b"].items.path
    assert notes == (
        "1 of 150 images of a left out, because not all feature files have it (such as 7.jpg).",
    )


def test_a_repeated_image_is_repeated_as_the_first_file_has_it() -> None:
    one = seen("b")
    twice = changed(
        one, **{name: np.append(values, values[:1]) for name, values in vars(one.items).items()}
    )
    found, _ = match_images({"a": seen("a"), "b": twice})
    assert len(found["b"].items) == 150
    twice = changed(twice, path=np.append(one.items.path, "copy.jpg"))
    found, _ = match_images({"b": twice, "c": seen("c", seed=1)})
    assert len(found["c"].items) == 151
    np.testing.assert_array_equal(
        found["c"].embedded(found["c"].items)[-1], seen("c", seed=1).embeddings[0]
    )


@pytest.mark.parametrize(
    ("column", "value", "first"), [("label", "nevus", "melanoma"), ("split", "test", "train")]
)
def test_contradictions_are_refused_with_two_examples(column: str, value: str, first: str) -> None:
    places = [n for n in range(150) if getattr(seen("a").items, column)[n] == first][:3]
    other = with_values(seen("b"), column, **{f"p{place}": value for place in places})
    with pytest.raises(TrainingError) as told:
        match_images({"a": seen("a"), "b": other})
    assert str(told.value) == (
        f"a and b contradict each other on the {column} of 3 images: "
        f"{places[0]}.jpg is {first!r} in a and {value!r} in b; "
        f"{places[1]}.jpg is {first!r} in a and {value!r} in b: "
        "extract both from the same folders and tables"
    )


def test_the_second_and_third_file_may_contradict_each_other() -> None:
    bare = changed(seen("a"), label=np.full(150, ""))
    other = with_values(seen("c"), "label", p0="nevus")
    with pytest.raises(TrainingError, match=r"label of 1 image: 0\.jpg is 'melanoma' in .*'nevus'"):
        match_images({"a": bare, "b": seen("b"), "c": other})


def test_another_spelling_is_no_contradiction() -> None:
    two = seen("b")
    spelt = np.where(two.items.label == "melanoma", "MEL", "nevus")
    assert canonical_class("MEL") == canonical_class("melanoma")
    found, notes = match_images({"a": seen("a"), "b": changed(two, label=spelt)})
    assert set(found["b"].items.label) == {"melanoma", "nevus"}
    assert notes == ()


def test_what_the_first_file_does_not_say_is_from_the_next() -> None:
    one = with_values(with_values(seen("a"), "split", p4=""), "label", p0="", p2="")
    found, notes = match_images({"a": one, "b": seen("b")})
    for name in ("a", "b"):
        for column in ("label", "split"):
            np.testing.assert_array_equal(
                getattr(found[name].items, column), getattr(seen("b").items, column)
            )
    assert notes == (
        "The label of 2 images is from b, since a says nothing of it (such as 0.jpg).",
        "The split of 1 image is from b, since a says nothing of it (such as 4.jpg).",
    )


def test_an_image_in_two_splits_of_one_file_alone_is_refused() -> None:
    two = seen("b")
    twice = changed(
        two, **{name: np.append(values, values[:1]) for name, values in vars(two.items).items()}
    )
    twice = with_values(twice, "split", p150="test")
    with pytest.raises(TrainingError, match=r"0\.jpg is 'train' in a and 'train' and 'test' in b"):
        match_images({"a": seen("a"), "b": twice})
    with pytest.raises(TrainingError, match=r"0\.jpg is nothing in a and 'train' and 'test' in b"):
        match_images({"a": with_values(seen("a"), "split", p0=""), "b": twice})


def test_groups_may_have_other_names_but_not_other_images() -> None:
    one = with_values(seen("a"), "group", p0="x", p1="x", p2="y")
    two = with_values(seen("b"), "group", p0="y", p1="y", p2="z", p3="y", p4="x")
    found, notes = match_images({"a": one, "b": two})
    assert found["b"].items.group[:6].tolist() == ["x", "x", "y", "x", "x in b", ""]
    assert notes == (
        "The group of 2 images is from b, since a says nothing of it (such as 3.jpg).",
    )
    for places in ({"p0": "u", "p1": "v"}, {"p0": "u", "p1": "u", "p2": "u"}):
        with pytest.raises(TrainingError, match=r"contradict each other on the group of .*; "):
            match_images({"a": one, "b": with_values(seen("b"), "group", **places)})


def test_files_that_can_not_be_compared_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"a and b were made by the same network"):
        match_images({"a": seen("a"), "b": seen("a", seed=3)})
    others = changed(seen("b"), sha256=np.array([f"{n + 999:064x}" for n in range(150)]))
    with pytest.raises(TrainingError, match=r"no image is in all of a, b"):
        match_images({"a": seen("a"), "b": others})


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("")
    (tmp_path / "b.h5").symlink_to(tmp_path / "a.h5")
    for other in (tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "." / "a.h5"):
        with pytest.raises(TrainingError, match=r"a\.h5 is given 2 times"):
            name_files([tmp_path / "a.h5", other])


def test_names_tell_files_apart() -> None:
    assert list(name_files([Path("x/a.h5"), Path("x/a.hdf5")])) == ["a.h5", "a.hdf5"]
    assert list(name_files([Path("x/y/a.h5"), Path("z/y/a.h5"), Path("b.h5")])) == [
        "x/y/a",
        "z/y/a",
        f"{Path('b.h5').resolve().parent.parent.name}/{Path('b.h5').resolve().parent.name}/b",
    ]
