"""Tables as they come: separators, encodings, headers, missing values, known columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from features.datasets.folders import Item, find_images
from features.datasets.tables import LabelTable
from features.errors import DatasetError

Make = Callable[..., Path]


@pytest.fixture
def images(folder_of_images: Make) -> Path:
    return folder_of_images("a.jpg", "b.jpg", "c.jpg")


def read(folder: Path, text: str | bytes, name: str = "t.csv", **columns: object) -> list[Item]:
    path = folder.parent / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(find_images(folder, [LabelTable(path, **columns)]).items)


def labels(folder: Path, text: str | bytes, name: str = "t.csv", **columns: object) -> list[str]:
    return [item.label for item in read(folder, text, name, **columns)]


YES_AND_NO = ["melanoma", "not melanoma", ""]


@pytest.mark.parametrize(
    "text",
    [
        "id;melanoma\na;1,0\nb;0,0\n",
        "id\tmelanoma\na\t1\nb\t0\n",
        "id|melanoma\na|1\nb|0\n",
        "id,melanoma\na,1.00\nb,0.00\n",
        "id,melanoma\na,TRUE\nb,FALSE\n",
        "id,melanoma\na,yes\nb,No\n",
        'id,melanoma\n"a","1"\n"b","0"\n',
        "id,melanoma\r\na,1\r\n\r\nb,0\r\n",
        "id,melanoma\na,1\nb,0\nc,NA\n",
        "id,melanoma\na,1\nb,0\nc,-1\n",
        "id,melanoma\na,1\nb,0\nc,\n",
        "\ufeffid,melanoma\na,1\nb,0\n",
        "id;melanoma;note\na;1;Müller, vorn\nb;0;x\n".encode("cp1252"),
        "id;melanoma\na;1\nb;0\n".encode("utf-16"),
        "id,melanoma\na,1\nb,0\n".encode("utf-16-le"),
        "id,melanoma\na,1\nb,0\n".encode("utf-16-be"),
        "id,age,melanoma,sex\na,30,1,0\nb,40,0,1\n",
        "sep=;\nid;melanoma\na;1\nb;0\n",
        "id,melanoma\na,1\nid,melanoma\nb,0\n",
        "Bildname;melanoma;Alter\na;ja;30\nb;nein;40\n",
        "# made on 2020-01-01\nid,melanoma\na,1\nb,0\n",
        "Study 7\n\nid,melanoma\na,1\nb,0\n",
        "id,melanoma,,\na,1\nb,0\n",
        "id,melanoma\na,1,\nb,0,\n",
        "id;melanoma\na;1\nb;0\n".encode("utf-32"),
    ],
)
def test_flags_are_read_as_they_are_written(images: Path, text: str | bytes) -> None:
    assert labels(images, text) == YES_AND_NO


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("a,benign\nb,malignant\nc,benign\n", "t.csv", ["benign", "malignant", "benign"]),
        ("a.jpg;nevus\nb.jpg;mel\nc.jpg;nevus\n", "t.csv", ["nevus", "mel", "nevus"]),
        (
            "a,1.0\nb,0.0\nc,0.0\n",
            "ISBI2016_ISIC_Part3_Test_GroundTruth.csv",
            ["malignant", "benign", "benign"],
        ),
        ("a,1\nb,0\nc,0\n", "t.csv", ["1", "0", "0"]),
        ("a.jpg,round\nb.jpg,flat\nc.jpg,round\n", "t.csv", ["round", "flat", "round"]),
        ("0,a,mel\n1,b,nv\n", "t.csv", ["mel", "nv", ""]),
        ("images/a.jpg,round\nimages/b.jpg,flat\n", "t.csv", ["round", "flat", ""]),
    ],
)
def test_a_table_without_a_header_loses_no_image(
    images: Path, text: str, name: str, expected: list[str]
) -> None:
    assert labels(images, text, name) == expected


def test_a_first_line_of_an_image_that_is_not_there_is_data(folder_of_images: Make) -> None:
    folder = folder_of_images("ISIC_0000002.jpg", "ISIC_0000003.jpg")
    assert labels(folder, "ISIC_0000001,x1\nISIC_0000002,x2\nISIC_0000003,x1\n") == ["x2", "x1"]


def test_columns_without_names_have_numbers(images: Path) -> None:
    text = "x1,a,round,7\nx2,b,flat,8\n"
    with pytest.raises(DatasetError, match="column 3"):
        labels(images, text)
    assert labels(images, text, label_columns=["3"]) == ["round", "flat", ""]


def test_images_without_a_split_beside_others_are_told(images: Path) -> None:
    read(images, "id,dx,split\na,mel,train\nb,nv,test\nc,nv,NA\n")
    dataset = find_images(images, [LabelTable(images.parent / "t.csv")])
    assert [item.split for item in dataset.items] == ["train", "test", ""]
    assert any("1 labelled image has no split" in note for note in dataset.notes)


@pytest.mark.parametrize("word", ["nan", "NA", "unknown", "-1", "", "NULL", "n/a", "?", "-999"])
def test_what_is_missing_is_no_class_and_no_group(images: Path, word: str) -> None:
    text = f"id,dx,patient_id\na,mel,{word}\nb,nv,{word}\nc,{word},P3\n"
    found = read(images, text)
    assert [item.label for item in found] == ["mel", "nv", ""]
    assert [item.group for item in found] == ["", "", "P3"]
    dataset = find_images(images, [LabelTable(images.parent / "t.csv")])
    assert any("1 of 3 rows has no label" in note for note in dataset.notes)
    asked = read(images, text, group_column="patient_id", label_columns=["dx"])
    assert [item.group for item in asked] == ["", "", "P3"]


def test_a_missing_flag_is_not_a_no(images: Path) -> None:
    assert labels(images, "id,MEL,NV\na,1,0\nb,0,1\nc,0,nan\n") == ["MEL", "NV", ""]
    assert labels(images, "id,MEL,NV\na,1,nan\nb,0,1\nc,0,0\n") == ["MEL", "NV", "other"]


def test_a_lesion_stands_in_for_a_patient_who_is_not_known(images: Path) -> None:
    found = read(images, "id,dx,patient_id,lesion_id\na,mel,P1,L1\nb,nv,,L2\nc,nv,,\n")
    assert [item.group for item in found] == ["P1", "lesion id: L2", ""]


def test_a_second_table_gives_groups_and_splits(images: Path) -> None:
    truth, more = images.parent / "truth.csv", images.parent / "more.csv"
    truth.write_text("image,MEL,NV\na,1,0\nb,0,1\nc,0,1\n")
    more.write_text("image;lesion_id;split;age_approx\nc.jpg;L2;test;50\na.jpg;L1;train;40\n")
    found = find_images(images, [LabelTable(truth), LabelTable(more, labelled=False)])
    assert found.items == (
        Item("a.jpg", "MEL", "train", "L1"),
        Item("b.jpg", "NV", "", ""),
        Item("c.jpg", "NV", "test", "L2"),
    )
    # A column that only one of the tables has is looked for there.
    asked = [
        LabelTable(truth, group_column="lesion_id"),
        LabelTable(more, group_column="lesion_id", labelled=False),
    ]
    assert find_images(images, asked).items == found.items
    with pytest.raises(DatasetError, match="no column 'clinic'"):
        find_images(images, [LabelTable(truth, group_column="clinic"), asked[1]])


def test_groups_alone_leave_class_folders_as_they_are(folder_of_images: Make) -> None:
    folder = folder_of_images("melanoma/a.jpg", "nevus/b.jpg")
    groups = folder / "LesionGroupings.csv"
    groups.write_text("image,lesion_id,diagnosis_confirm_type\na,L1,x\nb,L1,y\n")
    found = find_images(folder, [LabelTable(groups, labelled=False)])
    assert [(item.label, item.group) for item in found.items] == [
        ("melanoma", "L1"),
        ("nevus", "L1"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,dx,diagnosis\na,mel,nevus\n",
            "several columns that may be the labels, dx and diagnos",
        ),
        ("id,melanoma,label\na,1,x\n", "several columns that may be the labels"),
        ("first,second,dx\na,b,mel\nb,a,nv\n", "names images in several columns, first and second"),
        ("id,dx,split\na,mel,train\nb,nv,test\n", None),
        ("name,dx,other\na,mel,b\nb,nv,a\n", None),
        ("a,1,0\nb,0,1\n", "several columns of 0 and 1 and no header that names their classes"),
    ],
)
def test_where_several_columns_may_be_meant_one_is_asked_for(
    images: Path, text: str, message: str | None
) -> None:
    if message is None:
        assert labels(images, text)[:2] == ["mel", "nv"]
        return
    with pytest.raises(DatasetError, match=message):
        labels(images, text)


def test_flags_do_not_name_images_that_are_called_so(folder_of_images: Make) -> None:
    folder = folder_of_images("0.jpg", "1.jpg", "2.jpg")
    assert labels(folder, "melanoma,number\n1,0\n0,1\n1,2\n") == [
        "melanoma",
        "not melanoma",
        "melanoma",
    ]


def test_an_excel_sheet_is_a_table(images: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ("A collection of pictures",),
        (),
        ("Image Name", "Common Nevus", "Atypical Nevus", "Melanoma", "Streaks"),
        ("a", "X", None, None, "P"),
        ("b", None, None, "X", "A"),
        ("c", None, "X", None, "A"),
    ):
        book.active.append(row)
    path = images.parent / "PH2_dataset.xlsx"
    book.save(path)
    found = find_images(images, [LabelTable(path)])
    assert [item.label for item in found.items] == ["Common Nevus", "Melanoma", "Atypical Nevus"]
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DatasetError, match="not an Excel file"):
        find_images(images, [LabelTable(path)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Words tell more than flags of nobody knows what.
        ("image,shift,befund\na,1,mel\nb,0,nv\n", ["mel", "nv", ""]),
        ("image,befund\na,positive\nb,negative\n", ["positive", "negative", ""]),
        ("image,result\na,pos\nb,Neg\nc,NA\n", ["pos", "Neg", ""]),
    ],
)
def test_a_column_of_classes_is_found_by_what_it_holds(
    images: Path, text: str, expected: list[str]
) -> None:
    assert labels(images, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "image,label,split\na,mel,train\nb,nv,Test set\nc,nv,val\n",
        "image,label,tvt\na,mel,train\nb,nv,test\nc,nv,valid\n",
        "image,label,dataset\na,mel,TRAINING\nb,nv,hold-out\nc,nv,dev\n",
        "image,label,split\na,mel,train\nb,nv,test\nc,nv,eval\n",
        "image,label,train,valid,test\na,mel,1,0,0\nb,nv,0,0,1\nc,nv,0,1,0\n",
        "image,label,is_train,is_test\na,mel,1,0\nb,nv,0,1\nc,nv,0,0\n",
    ],
)
def test_splits_are_found_by_what_columns_hold(images: Path, text: str) -> None:
    assert [item.split for item in read(images, text)] == ["train", "test", "valid"]


def test_who_is_not_trained_on_is_in_the_test(images: Path) -> None:
    text = "image,label,is_train\na,mel,1\nb,nv,0\nc,nv,\n"
    assert [item.split for item in read(images, text)] == ["train", "test", ""]
    # Whether a row is valid is no split, unless a person says so.
    text = "image,label,valid\na,mel,1\nb,nv,1\nc,nv,0\n"
    assert [item.split for item in read(images, text)] == ["", "", ""]
    found = read(images, text, split_column="valid")
    assert [item.split for item in found] == ["valid", "valid", "train"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,label,split\na,mel,train\nb,nv,test\nc,nv,unused\n", "got split 'unused'"),
        ("image,label,split\na,mel,train\nb,nv,test\nc,nv,train+val\n", "'train.val'"),
        ("image,label,split\na,mel,train\nb,nv,0\nc,nv,0\n", r"got split '0' .* \(2 rows\)"),
        ("image,label,split,set\na,mel,train,test\nb,nv,test,test\n", "split and set, which dif"),
        ("image,label,is_train,is_test\na,mel,1,1\nb,nv,0,1\n", "line 2 is in several splits"),
    ],
)
def test_splits_that_are_not_understood_are_refused(images: Path, text: str, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        read(images, text)


def test_columns_that_number_nothing_else_are_no_splits(images: Path) -> None:
    found = read(images, "image,label,split,set\na,mel,1,ISIC\nb,nv,2,HAM\nc,nv,2,HAM\n")
    assert [(item.label, item.split) for item in found] == [("mel", ""), ("nv", ""), ("nv", "")]


def test_one_patient_is_one_group_however_the_number_is_written(images: Path) -> None:
    found = read(images, "image,label,Patienten-ID\na,mel,12.0\nb,nv,12\nc,nv,\n")
    assert [item.group for item in found] == ["12", "12", ""]


def test_one_group_of_all_is_told(images: Path) -> None:
    path = images.parent / "t.csv"
    path.write_text("image,label,patient_id\na,mel,P\nb,nv,P\nc,nv,P\n")
    notes = find_images(images, [LabelTable(path)]).notes
    assert any("all images are in one group, 'P'" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image label\na mel\nb nv\n", "no column beside 'image label': .* , ; tab or"),
        ("image,note,note\na,1,2\n", "two columns of the same name, note"),
        (b"image,label\na,mel\0\nb,nv\n", "it holds zero bytes"),
    ],
)
def test_what_is_no_table_is_told(images: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        read(images, text)


def test_row_numbers_are_no_labels(folder_of_images: Make) -> None:
    folder = folder_of_images("a.jpg", "b.jpg")
    for text in (",image,shape\n0,a,round\n1,b,flat\n", "Nr,image,shape\n0,a,round\n1,b,flat\n"):
        with pytest.raises(DatasetError, match="shape with --label-column"):
            read(folder, text)
    assert labels(folder, ",image,melanoma\n0,a,1\n1,b,0\n") == ["melanoma", "not melanoma"]


def test_a_column_that_names_images_is_nothing_else(images: Path) -> None:
    for columns in ({"label_columns": ["image"]}, {"group_column": "image"}):
        with pytest.raises(DatasetError, match="the column image names the images"):
            read(images, "image,label\na,mel\nb,nv\n", **columns)
    assert labels(images, "image,Label\na,mel\nb,nv\n", label_columns=["label"])[0] == "mel"


def test_a_guessed_code_page_is_told(images: Path) -> None:
    path = images.parent / "t.csv"
    path.write_bytes("image;label\na;Nävus\nb;mel\n".encode("cp1252"))
    found = find_images(images, [LabelTable(path)])
    assert [item.label for item in found.items] == ["Nävus", "mel", ""]
    assert any("not in UTF-8 and was read as Windows-1252" in note for note in found.notes)


def test_the_sheet_that_is_a_table_is_read(images: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["Read me: this is the study"])
    for name, label in (("first", "mel"), ("second", "nv")):
        sheet = book.create_sheet(name)
        for row in (["image", "label"], ["a", label], ["b", "nv"]):
            sheet.append(row)
    # What a file is counts, not what its name ends in.
    path = images.parent / "t.csv"
    book.save(images.parent / "t.xlsx")
    (images.parent / "t.xlsx").rename(path)
    found = find_images(images, [LabelTable(path)])
    assert [item.label for item in found.items] == ["mel", "nv", ""]
    assert any("'first' was read, not 'second'" in note for note in found.notes)


def test_no_image_above_a_word_for_a_name_is_lost(images: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["a", "mel", "scan"], ["b", "nv", "photo"], ["c", "nv", "scan"]):
        book.active.append(row)
    path = images.parent / "t.xlsx"
    book.save(path)
    found = find_images(images, [LabelTable(path)])
    assert [item.label for item in found.items] == ["mel", "nv", "nv"]
