from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import Features
from features.errors import LesionError
from models.errors import TrainingError
from models.patients.encoding import usable
from models.patients.tables import Metadata, read_metadata
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.models.data.cached import cluster_features

FEATURES = cluster_features(300)
QUICK = ["logistic_regression"]


def table(path: Path, rows: list[str], header: str = "image_id,age_approximate,sex") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def telling(features: Features, path: Path) -> Path:
    """Age tells the class; sex doesn't, and is missing for every fifth; the last 10 have no row."""
    rng = np.random.default_rng(0)
    rows = []
    for number, label in enumerate(features.items.label[:-10]):
        age = int(np.clip(rng.normal(70 if label == "melanoma" else 40, 12), 1, 90))
        sex = "unknown" if number % 5 == 0 else ("male", "Female")[number % 2]
        rows.append(f"{number},{age},{sex}")
    return table(path, rows)


def read(*paths: Path) -> Metadata:
    return read_metadata(paths, FEATURES.items.path.tolist())


def test_the_baseline_is_judged_on_the_same_images_and_never_chosen(tmp_path: Path) -> None:
    known = read(telling(FEATURES, tmp_path / "m.csv"))
    assert known.columns == ("age", "sex")
    found = compare_heads(FEATURES, Options(heads=QUICK, folds=3), metadata=known)
    assert list(found.heads) == [*QUICK, "metadata", "fusion"]
    one, other = found.heads[QUICK[0]], found.heads["metadata"]
    for split, judged in other.evaluations.items():
        np.testing.assert_array_equal(judged.labels, one.evaluations[split].labels)
    # Age tells more than these embeddings do, and is not served all the same.
    assert other.evaluations["cross-validation"].auc.value > 0.9  # type: ignore[union-attr]
    assert found.chosen == QUICK[0]
    pairs = [
        test.split
        for test in found.tests
        if (test.first, test.second) == ("Logistic regression", "Metadata alone")
    ]
    assert pairs == ["cross-validation", "valid", "test"]
    assert any("Metadata is known of" in note for note in found.notes)
    with pytest.raises(TrainingError, match="no head is called 'metadata'"):
        compare_heads(FEATURES, Options(heads=QUICK, head="metadata"), metadata=known)


def test_metadata_changes_nothing_for_the_heads(tmp_path: Path) -> None:
    known = read(telling(FEATURES, tmp_path / "m.csv"))
    with_it = compare_heads(FEATURES, Options(heads=QUICK, folds=3), metadata=known).best
    without = compare_heads(FEATURES, Options(heads=QUICK, folds=3)).best
    for split, judged in without.evaluations.items():
        np.testing.assert_array_equal(judged.scores, with_it.evaluations[split].scores)
    assert without.decision.threshold == with_it.decision.threshold


def test_subgroups_add_up_and_say_when_they_are_few(tmp_path: Path) -> None:
    known = read(telling(FEATURES, tmp_path / "m.csv"))
    found = compare_heads(FEATURES, Options(heads=QUICK, folds=3), metadata=known)
    for split, judged in found.best.evaluations.items():
        for variable in ("age", "sex"):
            rows = [g for g in found.subgroups if (g.split, g.variable) == (split, variable)]
            assert sum(row.n for row in rows) == judged.n
            assert sum(row.positives for row in rows) == judged.positives
            assert rows[-1].value == "unknown"
            for row in rows:
                assert row.few == (min(row.positives, row.n - row.positives) < 10)
                assert (row.sensitivity is None) == (row.positives == 0)
    sexes = {g.value for g in found.subgroups if g.variable == "sex"}
    assert sexes == {"male", "female", "unknown"}
    ages = [
        g.value for g in found.subgroups if g.variable == "age" and g.split == "cross-validation"
    ]
    assert ages == ["under 30", "30 to 44", "45 to 59", "60 to 74", "75 and over", "unknown"]


def test_numbers_say_what_is_missing(tmp_path: Path) -> None:
    path = table(
        tmp_path / "m.csv",
        ["0.jpg,55,male,back", "images/1.jpg,,female,", "2,30,,head/neck", "3,85.0,male,back"],
        "name,age,gender,localization",
    )
    known = read(path)
    assert known.columns == ("age", "sex", "site")
    items = FEATURES.items
    parts = {"train": items.take(np.arange(4)), "test": items.take(np.arange(3, 6))}
    encoded, notes = known.encode(parts)
    # age, no age, female, male, no sex, back, head/neck, no site
    np.testing.assert_array_equal(
        encoded["train"],
        [
            [55, 0, 0, 1, 0, 1, 0, 0],
            [50, 1, 1, 0, 0, 0, 0, 1],
            [30, 0, 0, 0, 1, 0, 1, 0],
            [85, 0, 0, 1, 0, 1, 0, 0],
        ],
    )
    np.testing.assert_array_equal(encoded["test"][1], [50, 1, 0, 0, 1, 0, 0, 1])
    assert notes == [
        "Metadata is known of 1 of 3 test images; what is missing is a category of its own."
    ]


def test_several_tables_are_one(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", ["0,55,male", "1,40,male"])
    second = table(tmp_path / "b.csv", ["1,,M", "2,41,F"])
    known = read(first, second)
    assert known.rows["images/0.jpg"] == {"age": 55.0, "sex": "male"}
    assert known.rows["images/1.jpg"] == {"age": 40.0, "sex": "male"}
    assert known.rows["images/2.jpg"] == {"age": 41.0, "sex": "female"}
    third = table(tmp_path / "c.csv", ["1,41,female"])
    with pytest.raises(LesionError, match=r"images/1.jpg has age 40.0 by one row and 41.0 by anot"):
        read(first, third)


def test_a_sex_is_one_word_however_it_is_written(tmp_path: Path) -> None:
    words = ["M", "male", "männlich", "F", "Female", "w", "x", "x", "unknown", "-1"]
    known = read(table(tmp_path / "m.csv", [f"{n},50,{word}" for n, word in enumerate(words)]))
    told = [known.rows[f"images/{n}.jpg"]["sex"] for n in range(len(words))]
    assert told == ["male"] * 3 + ["female"] * 3 + [None] * 4
    assert known.notes == ("The sex 'x' was not understood and counts as not known: 2 rows.",)
    # A bundle that was fitted when categories were kept as they were written understands it, too.
    assert usable(
        {"sex": "male", "site": "head/neck"}, {"sex": ("f", "m"), "site": ("head & neck",)}
    ) == {
        "sex": "m",
        "site": "head & neck",
    }


def test_the_patient_of_another_image_is_never_taken(tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", ["1,30,male"])
    with pytest.raises(LesionError, match=r"'1' fits 'a/1.jpg' and 'b/1.jpg'"):
        read_metadata([path], ["a/1.jpg", "b/1.jpg"])
    train = table(tmp_path / "train_metadata.csv", ["1,30,male", "2,40,male"])
    known = read_metadata(
        [train], ["train/1.jpg", "valid/1.jpg", "valid/2.jpg"], ["train", "valid", "valid"]
    )
    assert known.rows == {"train/1.jpg": {"age": 30.0, "sex": "male"}}
    with_folders = table(
        tmp_path / "w.csv", ["a/1.jpg,30,male", "b/1.jpg,31,male", "c/1.jpg,32,male"]
    )
    found = read_metadata([with_folders], ["a/1.jpg", "b/1.jpg"])
    assert [row["age"] for row in found.rows.values()] == [30.0, 31.0]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "image,weight",
            "0,55",
            r"has no column of age, sex or site: its columns are image, weigh",
        ),
        ("image,age", "none_1,901", r"no id in .* fits an image"),
        ("image,age", "0,old", r"got age 'old', expected years"),
        ("image,age", "0,-3", r"got age '-3', expected years"),
        ("image,age", "0,nan3", r"got age 'nan3'"),
        ("image,age", "0,inf", r"got age 'inf'"),
    ],
)
def test_tables_that_tell_nothing_are_refused(
    header: str, row: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(LesionError, match=message):
        read(table(tmp_path / "m.csv", [row], header))


def test_metadata_of_other_images_alone_is_refused(tmp_path: Path) -> None:
    valid = int(np.flatnonzero(FEATURES.items.split == "valid")[0])
    known = read(table(tmp_path / "m.csv", [f"{valid},50,male"]))
    with pytest.raises(TrainingError, match="fits none of the training images"):
        compare_heads(FEATURES, Options(heads=QUICK, folds=3), metadata=known)
