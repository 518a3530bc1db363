"""Tables, folders and names that say different things: refused, unless one is more exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.datasets.folders import find_images
from features.datasets.vocabulary import same_class
from features.errors import DatasetError
from tests.features.datasets.joining.labelled import Make, labels, refused, split_folders, table


def test_a_column_of_splits_settles_which_is_meant(folder_of_images: Make) -> None:
    folder = split_folders(folder_of_images)
    found = labels(
        folder,
        table(
            folder / "all.csv",
            *(
                "id,melanoma,split",
                "0001,1,train",
                "0001,0,validation",
                "0001,1,test",
                "0003,1,train",
            ),
        ),
    )
    assert found["train/images/0001.jpg"] == "melanoma"
    assert found["valid/images/0001.jpg"] == "not melanoma"
    assert found["test/images/0001.jpg"] == "melanoma"
    assert found["test/images/0004.jpg"] == ""


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            ("a,0", "a,1"),
            "a.jpg is 'not melanoma' by t.csv, line 2 and 'melanoma' by t.csv, line 3",
        ),
        (("a,0", "a.jpg,1"), "a.jpg is 'not melanoma' by t.csv, line 2 and 'melanoma' by"),
        (("x/a.jpg,0", "y/a.jpg,1"), "a.jpg is 'not melanoma' by"),
    ],
)
def test_rows_that_differ_are_refused(
    folder_of_images: Make, tmp_path: Path, rows: tuple[str, ...], told: str
) -> None:
    folder = folder_of_images("a.jpg", "b.jpg")
    assert told in refused(folder, table(tmp_path / "t.csv", "id,melanoma", *rows))


def test_rows_that_agree_are_one(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("a.jpg", "b.jpg")
    rows = table(tmp_path / "t.csv", "id,dx,lesion_id", "a,mel,", "a.jpg,melanoma,L1", "b,nv,L2")
    found = find_images(folder, [rows])
    assert [(item.label, item.group) for item in found.items] == [("mel", "L1"), ("nv", "L2")]


def test_two_tables_that_differ_are_refused(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("a.jpg", "b.jpg")
    one = table(tmp_path / "one.csv", "id,melanoma", "a,0", "b,1")
    other = table(tmp_path / "other.csv", "id,melanoma", "a,1")
    assert "by one.csv, line 2 and 'melanoma' by other.csv, line 2" in refused(folder, one, other)


@pytest.mark.parametrize(
    ("folders", "column", "rows"),
    [
        (("melanoma", "NotMelanoma"), "melanoma", ("0", "1")),
        (("melanoma", "nevus"), "dx", ("nv", "mel")),
        (("benign", "malignant"), "dx", ("MEL", "NV")),
        (("benign", "malignant"), "target", ("1", "0")),
    ],
)
def test_a_table_against_its_folders_is_refused(
    folder_of_images: Make,
    tmp_path: Path,
    folders: tuple[str, str],
    column: str,
    rows: tuple[str, str],
) -> None:
    folder = folder_of_images(f"{folders[0]}/a.jpg", f"{folders[1]}/b.jpg")
    lines = (f"id,{column}", f"a,{rows[0]}", f"b,{rows[1]}")
    told = refused(folder, table(tmp_path / "t.csv", *lines))
    assert "of another class by the table than by the folder" in told
    right = table(tmp_path / "t.csv", f"id,{column}", f"a,{rows[1]}", f"b,{rows[0]}")
    assert "" not in labels(folder, right).values()
    wrong = table(tmp_path / "t.csv", *lines)
    trusted = labels(folder, wrong, trust="tables")
    if "benign" in folders:
        # The folders tell other classes than the table: both together would make three.
        with pytest.raises(DatasetError, match="tell other classes"):
            labels(folder, wrong, trust="folders")
    else:
        others = labels(folder, wrong, trust="folders")
        for path, label in others.items():
            assert same_class(label, path.split("/")[0])
            assert not same_class(trusted[path], label)


def test_a_finer_table_than_its_folders_is_no_contradiction(
    folder_of_images: Make, tmp_path: Path
) -> None:
    folder = folder_of_images("benign/a.jpg", "benign/b.jpg", "malignant/c.jpg")
    rows = table(tmp_path / "t.csv", "id,dx", "a,nv", "b,bkl", "c,mel")
    assert labels(folder, rows) == {
        "benign/a.jpg": "nv",
        "benign/b.jpg": "bkl",
        "malignant/c.jpg": "mel",
    }


def test_a_split_of_a_table_against_the_folder_is_refused(folder_of_images: Make) -> None:
    folder = split_folders(folder_of_images)
    rows = table(folder / "all.csv", "id,melanoma,split", "0003,1,test", "0004,0,test")
    told = refused(folder, rows)
    assert "train/images/0003.jpg is in the train split by folder train and in test by" in told


def test_a_table_of_another_split_fits_nothing(folder_of_images: Make) -> None:
    folder = split_folders(folder_of_images)
    told = refused(folder, table(folder / "valid.csv", "id,melanoma", "0003,1"))
    assert "1 fit images of other splits" in told
    assert "--id-column" not in told


def test_a_table_of_a_split_that_is_not_there_labels_nothing(folder_of_images: Make) -> None:
    folder = folder_of_images("train/0001.jpg", "valid/0002.jpg")
    told = refused(folder, table(folder / "test_labels.csv", "id,melanoma", "0001,1"))
    assert "the table's name says that it is of the test split: rename it" in told


def test_official_tables_tell_the_splits_of_a_flat_folder(
    folder_of_images: Make, tmp_path: Path
) -> None:
    folder = folder_of_images("a.jpg", "b.jpg", "c.jpg")
    train = table(tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv", "id,melanoma", "a,1")
    test = table(tmp_path / "ISIC-2017_Test_v2_Part3_GroundTruth.csv", "id,melanoma", "b,0")
    found = find_images(folder, [train, test])
    assert [item.split for item in found.items] == ["train", "test", ""]


def test_an_image_that_two_tables_put_into_two_splits_is_refused(folder_of_images: Make) -> None:
    folder = folder_of_images("a.jpg", "b.jpg")
    train = table(folder.parent / "labels_train.csv", "image,label", "a,mel", "b,nv")
    test = table(folder.parent / "labels-test.csv", "image,label", "b,nv")
    told = refused(folder, train, test)
    assert "b.jpg is in the train split by the name of labels_train.csv and in test by" in told
    # Lists of names alone, too.
    lists = [table(folder.parent / f"{name}.txt", "b", labelled=False) for name in ("val", "test")]
    assert "in the train split" in refused(folder, train, lists[0])
    assert "in the valid split" in refused(folder, *lists)


def test_splits_in_ids_count_where_files_tell_none(folder_of_images: Make) -> None:
    folder = folder_of_images("a.jpg", "b.jpg", "c.jpg")
    rows = table(
        folder.parent / "t.csv",
        "image,label",
        *("x\\train\\a.jpg,mel", "x\\test\\b.jpg,nv", "x\\other\\c.jpg,nv"),
    )
    found = {item.path: item.split for item in find_images(folder, [rows]).items}
    assert found == {"a.jpg": "train", "b.jpg": "test", "c.jpg": ""}
    # One word that all paths share may be the name of a user or a project.
    alone = table(folder.parent / "u.csv", "image,label", "/home/test/a.jpg,mel", "/home/test/b,nv")
    assert {item.split for item in find_images(folder, [alone]).items} == {""}
