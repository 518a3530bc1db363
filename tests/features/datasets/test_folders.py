from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.datasets.folders import Item, find_images
from features.datasets.tables import LabelTable
from features.datasets.vocabulary import flag, is_missing
from features.errors import DatasetError

Make = Callable[..., Path]


def labels(folder: Path) -> dict[str, tuple[str, str]]:
    return {item.path: (item.split, item.label) for item in find_images(folder).items}


def test_the_kaggle_layout_is_read_in_any_case(folder_of_images: Make) -> None:
    folder = folder_of_images(
        "Train/melanoma/a.jpg",
        "Train/NotMelanoma/b.JPG",
        "VALIDATION/Melanoma/c.png",
        "val/notmelanoma/e.jpg",
        "test/melanoma/deeper/d.jpg",
    )
    (folder / "Train" / "notes.csv").write_text("x")
    assert labels(folder) == {
        "Train/melanoma/a.jpg": ("train", "melanoma"),
        "Train/NotMelanoma/b.JPG": ("train", "NotMelanoma"),
        "VALIDATION/Melanoma/c.png": ("valid", "melanoma"),
        "val/notmelanoma/e.jpg": ("valid", "NotMelanoma"),
        "test/melanoma/deeper/d.jpg": ("test", "melanoma"),
    }
    assert find_images(folder).ignored == 1


def test_one_class_is_spelt_as_it_comes_first(folder_of_images: Make) -> None:
    folder = folder_of_images("test/MELANOMA/a.jpg", "train/melanoma/b.jpg")
    assert {item.label for item in find_images(folder).items} == {"MELANOMA"}


def test_splits_may_lie_deeper_as_in_an_unpacked_archive(folder_of_images: Make) -> None:
    folder = folder_of_images("isic/data/train/nevus/a.jpg", "isic/data/valid/nevus/b.jpg")
    assert set(labels(folder).values()) == {("train", "nevus"), ("valid", "nevus")}


def test_a_plain_tree_has_classes_and_no_splits(folder_of_images: Make) -> None:
    folder = folder_of_images("nevus/a.jpg", "melanoma/b.jpg", "melanoma/more/c.jpg")
    assert set(labels(folder).values()) == {("", "nevus"), ("", "melanoma")}


def test_a_flat_folder_and_a_flat_split_are_unlabelled(folder_of_images: Make) -> None:
    assert set(labels(folder_of_images("a.jpg", "b.jpg")).values()) == {("", "")}
    split = folder_of_images("train/a.jpg", "test/b.jpg", root="splits")
    assert set(labels(split).values()) == {("train", ""), ("test", "")}


def test_hidden_files_are_no_images(folder_of_images: Make) -> None:
    folder = folder_of_images("x/a.jpg", "__MACOSX/x/._a.jpg", ".cache/b.jpg", "x/._a.jpg")
    assert list(labels(folder)) == ["x/a.jpg"]


def test_a_link_that_leads_back_ends(folder_of_images: Make) -> None:
    folder = folder_of_images("x/a.jpg")
    (folder / "x" / "again").symlink_to(folder, target_is_directory=True)
    assert list(labels(folder)) == ["x/a.jpg"]


def test_no_folder_and_no_images_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no folder"):
        find_images(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"no images found.*1 other file.*\.jpg"):
        find_images(tmp_path)


def test_a_mark_says_that_images_are_drawn(folder_of_images: Make) -> None:
    folder = folder_of_images("train/x/a.jpg")
    assert not find_images(folder).synthetic
    (folder / "SYNTHETIC.txt").write_text("drawn")
    assert find_images(folder).synthetic
    assert find_images(folder / "train").synthetic


def table(folder: Path, text: str, **columns: object) -> LabelTable:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return LabelTable(path, **columns)


def by_name(folder: Path, *tables: LabelTable) -> dict[str, Item]:
    return {Path(item.path).stem: item for item in find_images(folder, tables).items}


ISIC_2017 = "image_id,melanoma,seborrheic_keratosis\na,1.0,0.0\nb,0.0,1.0\nc,0.0,0.0\n"


def test_isic_ground_truth_is_read_as_it_is(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("a.jpg", "b.jpg", "c.jpg")
    found = by_name(folder, table(tmp_path, ISIC_2017))
    assert [found[name].label for name in "abc"] == ["melanoma", "seborrheic_keratosis", "other"]


def test_one_column_of_zero_and_one_names_two_classes(
    folder_of_images: Make, tmp_path: Path
) -> None:
    folder = folder_of_images("a.jpg", "b.jpg", "c.jpg")
    found = by_name(folder, table(tmp_path, ISIC_2017, label_columns=["melanoma"]))
    assert [found[name].label for name in "abc"] == ["melanoma", "not melanoma", "not melanoma"]


def test_names_splits_and_groups_come_from_columns(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("all/a.jpg", "all/b.jpg", "all/c.jpg")
    text = "﻿dx,file,part,lesion\nmel, a.jpg ,Training,L1\nnv,b.jpg,val,L2\n"
    columns = {"label_columns": ["dx"], "split_column": "part", "group_column": "lesion"}
    dataset = find_images(folder, [table(tmp_path, text, **columns)])
    assert dataset.items == (
        Item("all/a.jpg", "mel", "train", "L1"),
        Item("all/b.jpg", "nv", "valid", "L2"),
        Item("all/c.jpg", "", "", ""),
    )
    assert any("1 of 3 images is in no table" in note for note in dataset.notes)


def test_several_tables_add_up(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("train/a.jpg", "valid/b.jpg")
    first = table(tmp_path, "id,melanoma\na,1\n")
    second = LabelTable(tmp_path / "second.csv")
    second.path.write_text("id,melanoma\nb,0\n")
    found = by_name(folder, first, second)
    assert (found["a"].split, found["a"].label) == ("train", "melanoma")
    assert (found["b"].split, found["b"].label) == ("valid", "not melanoma")


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (
            "id,melanoma\nx1,1\nx2,0\n",
            {},
            r"no id in .* \(2 rows\) fits any of the images.*'x1', 'x2'.*'a.jpg'.*--id-column",
        ),
        (
            "id,melanoma\na,1\n",
            {"id_column": "name"},
            "no column 'name': its columns are id, melan",
        ),
        ("id,kind\na,round\n", {}, "no column of 0 and 1.*kind with --label-column"),
        ("id,mel,nv\na,1,1\n", {}, "a is both mel and nv"),
        ("id,mel,nv\na,1,maybe\n", {"label_columns": ["mel", "nv"]}, "other values than 0 and 1"),
        ("id,dx\na,mel,extra\n", {"label_columns": ["dx"]}, "line 2: got 3 values, expected 2"),
        ("id,dx\na\n", {"label_columns": ["dx"]}, "line 2: got 1 values, expected 2"),
        ("id,dx\n", {}, "no rows below its header"),
        ("", {}, "no rows below its header"),
        ("id,id\na,b\n", {}, "two columns of the same name"),
        ("id,m,part\na,1,somewhere\n", {"split_column": "part"}, "got split 'somewhere'"),
    ],
)
def test_a_table_that_does_not_fit_is_told_in_a_sentence(
    folder_of_images: Make, tmp_path: Path, text: str, columns: dict[str, object], message: str
) -> None:
    folder = folder_of_images("a.jpg", "b.jpg")
    with pytest.raises(DatasetError, match=message) as caught:
        find_images(folder, [table(tmp_path, text, **columns)])
    assert "\n" not in str(caught.value)


def test_a_missing_table_and_a_binary_one_are_told(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("a.jpg")
    with pytest.raises(DatasetError, match="can't be read"):
        find_images(folder, [LabelTable(tmp_path / "none.csv")])
    with pytest.raises(DatasetError, match="not a CSV table in UTF-8"):
        find_images(folder, [LabelTable(folder / "a.jpg")])


@given(
    st.lists(
        st.tuples(
            st.text("abc_-é1", min_size=1),
            # Python 3.10 can't write NUL into a table.
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(
                str.strip
            ),
        ),
        min_size=1,
        unique_by=lambda row: row[0],
    )
)
def test_any_class_name_survives_the_table(rows: list[tuple[str, str]]) -> None:
    import csv
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "class"])
            writer.writerows(rows)
        names = {row[0] for row in rows}
        table = LabelTable(path, "id", ["class"])
        found = table.rows(lambda text: text if text in names else None).rows
    told = {row.id: row.label for row in found}
    expected = {name: label for name, label in rows if not is_missing(name)}
    labels = {label for label in expected.values() if not is_missing(label)}
    if all(flag(label) is not None for label in labels):
        labels = {"class", "not class"}
        assert set(told.values()) <= {*labels, ""}
    else:
        assert told == {
            name: "" if is_missing(label) else label for name, label in expected.items()
        }


@pytest.mark.real_data
def test_the_official_isic_files_fit_the_kaggle_folders(real_data: Path) -> None:
    folder = real_data / "data" / "isic2017_256"
    tables = [
        LabelTable(folder / f"ISIC-2017_{part}_Part3_GroundTruth.csv", label_columns=["melanoma"])
        for part in ("Training", "Validation")
    ]
    from_tables = {
        item.path: item.label == "melanoma" for item in find_images(folder, tables).items
    }
    from_folders = {item.path: item.label == "melanoma" for item in find_images(folder).items}
    assert from_tables == from_folders
    assert len(from_tables) == 2150
    assert sum(from_tables.values()) == 404
