"""Which image a row of a table is of: never two, and never one that may be another's."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.datasets.folders import find_images
from features.errors import DatasetError
from tests.features.datasets.joining.labelled import Make, labels, refused, split_folders, table


@pytest.mark.parametrize(
    "place", ["{}/labels.csv", "{}_labels.csv", "../{}.csv", "../gt/{}/t.csv", "../{}_gt/t.csv"]
)
def test_a_table_for_each_split_labels_its_own_images(folder_of_images: Make, place: str) -> None:
    folder = split_folders(folder_of_images)
    train = table(folder / place.format("train"), "id,melanoma", "0001,1", "0002,0", "0003,1")
    # 0003 and 0004 are in no folder of this split.
    valid = table(
        folder / place.format("valid"), "id,melanoma", "0001,0", "0002,1", "0003,0", "0004,1"
    )
    for tables in ((train, valid), (valid, train)):
        assert labels(folder, *tables) == {
            "train/images/0001.jpg": "melanoma",
            "train/images/0002.jpg": "not melanoma",
            "train/images/0003.jpg": "melanoma",
            "valid/images/0001.jpg": "not melanoma",
            "valid/images/0002.jpg": "melanoma",
            "test/images/0001.jpg": "",
            "test/images/0004.jpg": "",
        }


def test_a_table_of_no_split_is_refused_where_names_repeat(folder_of_images: Make) -> None:
    folder = split_folders(folder_of_images)
    told = refused(folder, table(folder / "all.csv", "id,melanoma", "0001,1"))
    assert "has 1 id for several images each" in told
    assert "'0001' fits 'test/images/0001.jpg' and 'train/images/0001.jpg'" in told


def test_ids_with_folders_find_their_own(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("a/1.jpg", "b/1.jpg", "b/2.jpg")
    rows = ("image,target", "a/1.jpg,1", "b/1.jpg,0", "a/2.jpg,1")
    # Nothing lies at a/2.jpg: b/2.jpg is another image.
    expected = {"a/1.jpg": "target", "b/1.jpg": "not target", "b/2.jpg": ""}
    assert labels(folder, table(tmp_path / "t.csv", *rows)) == expected


def test_names_that_repeat_in_class_folders_are_refused(folder_of_images: Make) -> None:
    folder = folder_of_images("benign/1.jpg", "malignant/1.jpg", "malignant/2.jpg")
    told = refused(folder, table(folder / "t.csv", "id,target", "1,0", "1,1", "2,1"))
    assert "'1' fits 'benign/1.jpg' and 'malignant/1.jpg'" in told
    with_folders = table(folder / "t.csv", "id,target", "benign/1,0", "malignant/1,1", "benign/2,0")
    assert labels(folder, with_folders) == {
        "benign/1.jpg": "not target",
        "malignant/1.jpg": "target",
        "malignant/2.jpg": "",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("IMG_é.jpg", "IMG_é", "img_É.JPG", "IMG_é.png", "IMG_é.jpg".replace("é", "e\u0301")),
        *("images/IMG_é.jpg", "./images/IMG_é.jpg", "../images/IMG_é.jpg", "/data/x/IMG_é.jpg"),
        *(r"C:\data\images\IMG_é.jpg", r"images\IMG_é.jpg", "file:///data/images/IMG_é.jpg"),
    ],
)
def test_an_image_may_be_called_in_many_ways(
    folder_of_images: Make, tmp_path: Path, name: str
) -> None:
    folder = folder_of_images("IMG_é.jpg", "other.jpg")
    found = labels(folder, table(tmp_path / "t.csv", "name,melanoma", f"{name},1", "other,0"))
    assert found == {"IMG_é.jpg": "melanoma", "other.jpg": "not melanoma"}


def test_names_that_differ_in_case_alone_are_two(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("a.jpg", "A.jpg")
    found = labels(folder, table(tmp_path / "t.csv", "name,melanoma", "a,1", "A,0"))
    assert found == {"a.jpg": "melanoma", "A.jpg": "not melanoma"}


def test_formats_beside_each_other_are_told_apart_by_their_ending(
    folder_of_images: Make, tmp_path: Path
) -> None:
    folder = folder_of_images("jpg/X.jpg", "png/X.png", "jpg/Y.jpg")
    told = refused(folder, table(tmp_path / "t.csv", "image,melanoma", "X,1", "Y,0"))
    assert "'X' fits 'jpg/X.jpg' and 'png/X.png'" in told
    found = labels(folder, table(tmp_path / "t.csv", "image,melanoma", "X.png,1", "Y.jpg,0"))
    assert found == {"jpg/X.jpg": "", "png/X.png": "melanoma", "jpg/Y.jpg": "not melanoma"}


def test_masks_get_no_label(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("images/X.jpg", "masks/X.png", "images/Y.jpg")
    found = labels(folder, table(tmp_path / "t.csv", "image,melanoma", "X,1", "Y,0"))
    assert found == {"images/X.jpg": "melanoma", "images/Y.jpg": "not melanoma"}


@pytest.mark.parametrize(
    ("rows", "columns", "advice"),
    [
        (("id,dx", "1,mel", "2,nv"), {}, "leading zeros are missing"),
        (("id,lesion,dx", "0001,7,mel"), {"id_column": "lesion"}, "the column id fits 1: take it"),
        (("id,dx", "other,mel"), {}, "give the table of these images, or name another column"),
    ],
)
def test_the_advice_fits_the_cause(
    folder_of_images: Make,
    tmp_path: Path,
    rows: tuple[str, ...],
    columns: dict[str, str],
    advice: str,
) -> None:
    folder = folder_of_images("0001.jpg", "0002.jpg")
    assert advice in refused(folder, table(tmp_path / "t.csv", *rows, **columns))


def test_flags_are_no_names(folder_of_images: Make, tmp_path: Path) -> None:
    folder = folder_of_images("1.jpg", "2.jpg")
    told = refused(folder, table(tmp_path / "t.csv", "id,melanoma", "x_1,1", "x_2,0"))
    assert "(2 rows) fits any of the images" in told
    assert "'x_1', 'x_2'" in told


def test_the_plan_names_where_everything_comes_from(folder_of_images: Make) -> None:
    folder = split_folders(folder_of_images)
    rows = table(folder / "all.csv", "id,melanoma,lesion_id", "0003,1,L1", "0001,0,L2")
    found = find_images(folder, [rows], settled=False)
    third = next(item for item in found.items if item.path == "train/images/0003.jpg")
    assert (third.label_from, third.split_from) == ("all.csv, line 2", "folder train")
    assert third.group_from == "all.csv, line 2, lesion_id"
    assert found.tables[0].ambiguous[0][0] == "0001"
    assert len(found.problems) == 1


FILES = [
    f"{folder}{name}{ending}"
    for folder in ("", "a/", "b/", "a/b/", "train/", "valid/a/")
    for name in ("1", "2", "x")
    for ending in (".jpg", ".png")
]


@settings(deadline=None)
@given(
    there=st.sets(st.sampled_from(FILES), min_size=1, max_size=8),
    truth=st.lists(
        st.sampled_from(["round", "flat", "oval"]), min_size=len(FILES), max_size=len(FILES)
    ),
    styles=st.lists(
        st.sampled_from(["path", "absolute", "name", "stem", "upper", "none"]),
        min_size=len(FILES),
        max_size=len(FILES),
    ),
    gone=st.sets(st.sampled_from(FILES), max_size=3),
)
def test_no_image_ever_gets_the_label_of_another(
    there: set[str], truth: list[str], styles: list[str], gone: set[str]
) -> None:
    labels_of = dict(zip(FILES, truth, strict=True))
    written = {
        "path": lambda path: path,
        "absolute": lambda path: rf"C:\pictures\{path}".replace("/", "\\"),
        "name": lambda path: Path(path).name,
        "stem": lambda path: Path(path).stem,
        "upper": lambda path: path.upper(),
    }
    rows = [
        (written[style](path), labels_of[path])
        for path, style in zip(FILES, styles, strict=True)
        if path in there and style != "none"
    ]
    # What is not there is named by its path, as are some that are: else nobody could tell.
    placed = [path for path in there if "/" in path]
    if placed:
        rows += [(path, labels_of[path]) for path in (placed[0], *(gone - there)) if "/" in path]
    if not rows:
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        for path in there:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
        lines = [f"{name},{label}" for name, label in rows]
        try:
            found = labels(folder, table(Path(place, "t.csv"), "image,dx", *lines))
        except DatasetError:
            return
    for path, label in found.items():
        assert label in ("", labels_of[path]), path


@pytest.mark.parametrize(
    ("files", "rows", "expected"),
    [
        (["a/1.jpg", "b/1.png"], ["a/1.jpg,round", "b/1.jpg,flat"], ["round", ""]),
        (["a/1.jpg", "b/2.jpg"], ["b/2.jpg,round", "c/a/1.jpg,flat"], ["", "round"]),
        (["c/a/1.jpg", "b/2.jpg"], ["b/2.jpg,round", "a/1.jpg,flat"], ["", "round"]),
        (["a/1.png", "b/1.png"], ["a/1.jpg,round", "b/1.jpg,flat"], ["round", "flat"]),
        (["c/a/1.jpg", "c/b/2.jpg"], ["b/2.jpg,round", "a/1.jpg,flat"], ["flat", "round"]),
        (["a/1.jpg", "b/2.jpg"], ["c/b/2.jpg,round", "c/a/1.jpg,flat"], ["flat", "round"]),
        (["a/1.jpg", "b/2.jpg"], ["b/2.jpg,round", "/c/a/1.jpg,flat"], ["flat", "round"]),
    ],
    ids=[
        "ending",
        "above",
        "below",
        "all converted",
        "all from below",
        "all from above",
        "one absolute",
    ],
)
def test_ids_of_files_that_are_not_there_are_not_taken_for_their_neighbours(
    folder_of_images: Make, tmp_path: Path, files: list[str], rows: list[str], expected: list[str]
) -> None:
    found = labels(folder_of_images(*files), table(tmp_path / "t.csv", "image,dx", *rows))
    assert [found[path] for path in files] == expected


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (("1.0", "2.0"), ("1.jpg", "2.jpg")),
        (("a.dicom", "b.hif"), ("a.png", "b.png")),
        (("file:///data/a%20b.jpg", "file:///data/b.jpg"), ("a b.jpg", "b.jpg")),
        (("https://x.org/i/a.jpg?size=1", "https://x.org/i/b.jpg#x"), ("a.jpg", "b.jpg")),
        (("a%20b.jpg", "b.jpg"), ("a%20b.jpg", "b.jpg")),
        (("D:\\Test\\a.JPG", "\\\\server\\x\\b.JPG"), ("a.jpg", "b.jpg")),
    ],
)
def test_ids_as_programs_write_them(
    folder_of_images: Make, ids: tuple[str, ...], names: tuple[str, ...]
) -> None:
    folder = folder_of_images(*names)
    rows = table(folder.parent / "t.csv", "image,label", f"{ids[0]},mel", f"{ids[1]},nv")
    assert labels(folder, rows) == dict(zip(names, ("mel", "nv"), strict=True))


def test_a_number_with_a_point_is_not_taken_for_another_file(folder_of_images: Make) -> None:
    folder = folder_of_images("1.0.jpg", "1.jpg", "10.jpg")
    rows = table(folder.parent / "t.csv", "image,label", "1.0,mel", "1,nv", "10.00,nv")
    assert labels(folder, rows) == {"1.0.jpg": "mel", "1.jpg": "nv", "10.jpg": "nv"}
