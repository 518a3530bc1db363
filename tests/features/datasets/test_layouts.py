"""What is read of the names of folders: splits, classes, and what is neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from features.datasets.folders import Choices, find_images
from features.datasets.plan import lines, summarise
from features.errors import DatasetError

Make = Callable[..., Path]


def read(folder: Path, **choices: object) -> dict[str, tuple[str, str]]:
    found = find_images(folder, choices=Choices(**choices) if choices else None)
    return {item.path: (item.split, item.label) for item in found.items}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (
            ["train/melanoma/a.jpg", "valid/nevus/b.jpg", "holdout/melanoma/c.jpg"],
            [("train", "melanoma"), ("valid", "nevus"), ("test", "melanoma")],
        ),
        (
            ["train/melanoma/a.jpg", "dev/nevus/b.jpg", "held-out/melanoma/c.jpg"],
            [("train", "melanoma"), ("valid", "nevus"), ("test", "melanoma")],
        ),
        (
            ["training_set/nevus/a.jpg", "test_set/melanoma/b.jpg"],
            [("train", "nevus"), ("test", "melanoma")],
        ),
        (
            ["trainset/nevus/a.jpg", "TestData/melanoma/b.jpg", "imgs_val/nevus/c.jpg"],
            [("train", "nevus"), ("test", "melanoma"), ("valid", "nevus")],
        ),
        (
            ["train_images/nevus/a.jpg", "Validation Data/melanoma/b.jpg"],
            [("train", "nevus"), ("valid", "melanoma")],
        ),
        (
            ["train/train/nevus/a.jpg", "test/test/melanoma/b.jpg"],
            [("train", "nevus"), ("test", "melanoma")],
        ),
        (
            [
                *("ISIC-2017_Training_Data/a.jpg", "ISIC-2017_Validation_Data/b.jpg"),
                "ISIC-2017_Test_v2_Data/c.jpg",
            ],
            [("train", ""), ("valid", ""), ("test", "")],
        ),
        (
            ["ISIC2018_Task3_Training_Input/a.jpg", "ISIC2018_Task3_Test_Input/b.jpg"],
            [("train", ""), ("test", "")],
        ),
        (
            ["melanoma/train/a.jpg", "melanoma/test/b.jpg", "nevus/train/c.jpg"],
            [("train", "melanoma"), ("test", "melanoma"), ("train", "nevus")],
        ),
        (
            ["images/melanoma/valid/a.jpg", "images/naevus/train/b.jpg"],
            [("valid", "melanoma"), ("train", "naevus")],
        ),
        (
            ["train_melanoma/a.jpg", "train_benign/b.jpg", "test_melanoma/c.jpg"],
            [("train", "melanoma"), ("train", "benign"), ("test", "melanoma")],
        ),
        (
            ["HAM10000_images_part_1/a.jpg", "HAM10000_images_part_2/b.jpg"],
            [("", ""), ("", "")],
        ),
        (["2023/a.jpg", "2024/b.jpg"], [("", ""), ("", "")]),
        (
            ["2024/melanoma/a.jpg", "2023/nevus/b.jpg", "2023-11-02/nevus/c.jpg"],
            [("", "melanoma"), ("", "nevus"), ("", "nevus")],
        ),
        (["part_a/a.jpg", "part_b/b.jpg"], [("", ""), ("", "")]),
        (["IMD002/IMD002.bmp", "IMD003/IMD003.bmp"], [("", ""), ("", "")]),
        (
            ["patient_01/melanoma/1.jpg", "patient_02/nevus/1.jpg"],
            [("", "melanoma"), ("", "nevus")],
        ),
        (
            ["clinicA/melanoma/1.jpg", "clinicB/nevus/2.jpg", "clinicB/melanoma/3.jpg"],
            [("", "melanoma"), ("", "nevus"), ("", "melanoma")],
        ),
        (["unknown/a.jpg", "melanoma/b.jpg", "NA/c.jpg"], [("", ""), ("", "melanoma"), ("", "")]),
        (["0/a.jpg", "1/b.jpg"], [("", "0"), ("", "1")]),
        (["train/0/a.jpg", "valid/1/b.jpg"], [("train", "0"), ("valid", "1")]),
        (["run7/train/nevus/a.jpg", "run7/val/mel/b.jpg"], [("train", "nevus"), ("valid", "mel")]),
        (["test/train/nevus/a.jpg", "test/val/mel/b.jpg"], [("train", "nevus"), ("valid", "mel")]),
        (
            ["train/nevus/a.jpg", "valid/mel/b.jpg", "evaluation/mel/c.jpg"],
            [("train", "nevus"), ("valid", "mel"), ("test", "mel")],
        ),
        (["train/nevus/a.jpg", "eval/mel/c.jpg"], [("train", "nevus"), ("test", "mel")]),
        (["evaluation/nevus/a.jpg", "evaluation/mel/c.jpg"], [("test", "nevus"), ("test", "mel")]),
        (
            ["Trainingsdaten/nevus/a.jpg", "Validierung/mel/b.jpg", "Testdatensatz/mel/c.jpg"],
            [("train", "nevus"), ("valid", "mel"), ("test", "mel")],
        ),
        (
            ["entraînement/nevus/a.jpg", "validation/mel/b.jpg", "test/mel/c.jpg"],
            [("train", "nevus"), ("valid", "mel"), ("test", "mel")],
        ),
        (
            ["nevus/entrenamiento/a.jpg", "mel/validación/b.jpg", "mel/prueba/c.jpg"],
            [("train", "nevus"), ("valid", "mel"), ("test", "mel")],
        ),
        (["训练/痣/a.jpg", "测试/黑色素瘤/b.jpg"], [("train", "痣"), ("test", "黑色素瘤")]),
        (["train_pos/a.jpg", "test_neg/b.jpg"], [("train", "pos"), ("test", "neg")]),
        (["Jan 2020/mel/a.jpg", "Feb 2021/nv/b.jpg"], [("", "mel"), ("", "nv")]),
        (["Jan 2020/a.jpg", "Dec 2019/b.jpg"], [("", ""), ("", "")]),
        (["dataset/melanoma/a.jpg", "dataset/nevus/b.jpg"], [("", "melanoma"), ("", "nevus")]),
        (["my_lesions/melanoma/a.jpg", "my_lesions/x/b.jpg"], [("", "melanoma"), ("", "x")]),
    ],
)
def test_names_are_understood(
    folder_of_images: Make, paths: list[str], expected: list[tuple[str, str]]
) -> None:
    assert read(folder_of_images(*paths)) == dict(zip(paths, expected, strict=True))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/mel/a.jpg", "valid/nevus/b.jpg", "extra/mel/c.jpg"], "'extra' beside it is none"),
        (["train/mel/a.jpg", "test/nevus/b.jpg", "melanoma/c.jpg"], "'melanoma' beside it is none"),
        (
            ["melanoma/train/a.jpg", "melanoma/test/b.jpg", "nevus/c.jpg"],
            "'nevus' beside it is non",
        ),
        (
            ["train/mel/a.jpg", "val/mel/b.jpg", "test/nevus/b.jpg", "eval/mel/c.jpg"],
            "'eval' may be the validation or the test split",
        ),
        (["train_aug/nevus/a.jpg", "test/mel/b.jpg"], "'train_aug' names a split and something"),
        (["train/test/mel/a.jpg", "train/nevus/b.jpg"], "name two splits, train and test"),
        (["train_and_valid/mel/a.jpg", "test/mel/b.jpg"], "'train_and_valid' names several splits"),
        (["berlin_train/a.jpg", "berlin_test/b.jpg"], "'berlin_t.*' names a split and something"),
        (["trainA/melanoma/a.jpg", "testB/nevus/b.jpg"], "'t.*[AB]' names a split and something"),
        (["1/a.jpg", "2/b.jpg", "3/c.jpg"], "'1' and '2' may be classes or not"),
        (["benign/nevus/a.jpg", "malignant/melanoma/b.jpg"], "two classes: say --class-level"),
        (["north/good/a.jpg", "south/good/b.jpg"], "north/good and south/good may be classes"),
        ([f"name {chr(97 + n // 26)}{chr(97 + n % 26)}/{n}.jpg" for n in range(40)], "40 folders"),
    ],
)
def test_what_may_mean_two_things_is_refused_in_a_sentence(
    folder_of_images: Make, paths: list[str], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        find_images(folder_of_images(*paths))
    assert "\n" not in str(caught.value)


def test_a_person_settles_a_doubt(folder_of_images: Make) -> None:
    folder = folder_of_images("train/mel/a.jpg", "valid/nevus/b.jpg", "extra/mel/c.jpg")
    assert read(folder, roles={"extra": "test"})["extra/mel/c.jpg"] == ("test", "mel")
    assert list(read(folder, roles={"ext*": "skip"})) == ["train/mel/a.jpg", "valid/nevus/b.jpg"]
    nested = folder_of_images("benign/nevus/a.jpg", "malignant/mel/b.jpg", root="nested")
    assert set(read(nested, class_level="outer").values()) == {("", "benign"), ("", "malignant")}
    assert set(read(nested, class_level="inner").values()) == {("", "nevus"), ("", "mel")}
    many = [f"train/kind {chr(97 + n // 26)}{chr(97 + n % 26)}/{n}.jpg" for n in range(40)]
    several = folder_of_images(*many, root="many")
    assert {label for _, label in read(several, roles={"kind*": "class"}).values()} == {
        path.split("/")[1] for path in many
    }
    assert set(read(several, roles={"kind*": "none"}).values()) == {("train", "")}
    with pytest.raises(DatasetError, match="no folder with images is called 'other'"):
        read(folder, roles={"other": "skip"})
    with pytest.raises(DatasetError, match="extra=some, expected one of train"):
        read(folder, roles={"extra": "some"})


def test_what_servers_and_programs_leave_is_no_image(folder_of_images: Make) -> None:
    folder = folder_of_images(
        *("melanoma/a.jpg", "melanoma/@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/b.jpg"),
        *("$RECYCLE.BIN/c.jpg", "nevus/.thumbnails/d.jpg", "nevus/Thumbnails/d.jpg", "nevus/d.jpg"),
        *("lost+found/e.jpg", "System Volume Information/f.jpg", "__MACOSX/nevus/._d.jpg"),
        *("_Thumbnails/h.jpg", "Previews.lrdata/i.jpg", "RECYCLE.BIN/j.jpg"),
        *("@Recently-Snapshot/g.jpg", "nevus/SYNOPHOTO_THUMB_B.jpg", "~snapshot/melanoma/a.jpg"),
    )
    found = find_images(folder)
    assert [item.path for item in found.items] == ["melanoma/a.jpg", "nevus/d.jpg"]
    told = {left.path for left in found.left_out}
    assert {"melanoma/@eaDir", "#recycle", "$RECYCLE.BIN", "nevus/SYNOPHOTO_THUMB_B.jpg"} <= told
    assert any("file server" in line for line in lines(summarise(found)))


def test_masks_and_the_like_are_left_out_and_told(folder_of_images: Make) -> None:
    folder = folder_of_images(
        *("images/X.jpg", "masks/X.png", "images/Y.jpg", "images/Y_superpixels.png"),
        *("ISIC-2017_Training_Part1_GroundTruth/X_segmentation.png", "images/Z_lesion.jpg"),
        *("images/X-mask.png", "images/Y_attribute_globules.png", "images/X_mask_2.png"),
    )
    found = find_images(folder)
    # Nothing is called Z, so that Z_lesion is a picture of its own.
    assert [item.path for item in found.items] == [
        "images/X.jpg",
        "images/Y.jpg",
        "images/Z_lesion.jpg",
    ]
    assert len(found.left_out) == 6
    truths = folder_of_images("a.jpg", "gt/a.png", "labels/b.jpg", root="truths")
    assert [item.path for item in find_images(truths).items] == ["a.jpg", "labels/b.jpg"]
    alone = find_images(folder / "masks")
    assert [item.path for item in alone.items] == ["X.png"]


def test_one_picture_in_two_formats_stays_together(folder_of_images: Make) -> None:
    found = find_images(folder_of_images("melanoma/X.jpg", "melanoma/X.png", "nevus/Y.jpg"))
    groups = {item.path: item.group for item in found.items}
    assert groups["melanoma/X.jpg"] == groups["melanoma/X.png"] != ""
    assert groups["nevus/Y.jpg"] == ""
    assert any("in two formats" in note for note in found.notes)
    apart = folder_of_images("jpg/nevus/X.jpg", "png/nevus/X.png", "jpg/nevus/Y.jpg", root="apart")
    groups = {item.path: item.group for item in find_images(apart).items}
    assert groups["jpg/nevus/X.jpg"] == groups["png/nevus/X.png"] != ""
    assert groups["jpg/nevus/Y.jpg"] == ""


def test_one_picture_in_two_sizes_stays_together(folder_of_images: Make) -> None:
    folder = folder_of_images(
        *("224x224/nevus/X.jpg", "512px/nevus/X.jpg", "mel/Y.jpg", "mel/preview/Y.jpg"),
        *("2019/mel/Z.jpg", "2020/mel/Z.jpg"),
    )
    groups = {item.path: item.group for item in find_images(folder).items}
    assert groups["224x224/nevus/X.jpg"] == groups["512px/nevus/X.jpg"] != ""
    assert groups["mel/Y.jpg"] == groups["mel/preview/Y.jpg"] != ""
    # Years are no sizes, and cameras begin anew to count.
    assert groups["2019/mel/Z.jpg"] == groups["2020/mel/Z.jpg"] == ""


def test_folders_beside_the_classes_are_told(folder_of_images: Make) -> None:
    found = find_images(folder_of_images("tr/mel/a.jpg", "te/nv/b.jpg", "tr/nv/c.jpg"))
    assert {(item.split, item.label) for item in found.items} == {("", "mel"), ("", "nv")}
    assert any("'te' and 'tr'" in note and "if they are splits" in note for note in found.notes)
    assert found.folders["tr"].startswith("nothing")
    below = find_images(folder_of_images("mel/arm/a.jpg", "nv/leg/b.jpg", root="below"))
    assert any("'arm' and 'leg'" in note for note in below.notes)


def test_several_folders_are_one_data_set(folder_of_images: Make, tmp_path: Path) -> None:
    folder_of_images("train/melanoma/a.jpg", "valid/nevus/b.jpg", root="isic")
    folder_of_images("nevus/a.jpg", root="own")
    isic = tmp_path / "isic"
    found = find_images([isic / "train", isic / "valid"])
    assert found.root == isic
    told = [(item.path, item.split, item.label) for item in found.items]
    assert told == [
        ("train/melanoma/a.jpg", "train", "melanoma"),
        ("valid/nevus/b.jpg", "valid", "nevus"),
    ]
    both = find_images([isic / "train", tmp_path / "own"], choices=Choices({"own": "train"}))
    assert [(item.path, item.label) for item in both.items] == [
        ("isic/train/melanoma/a.jpg", "melanoma"),
        ("own/nevus/a.jpg", "nevus"),
    ]
    # The same folder twice is one.
    assert len(find_images([isic, isic / "train"]).items) == 2


def test_what_is_given_twice_is_listed_once(folder_of_images: Make) -> None:
    folder = folder_of_images("mel/a.jpg", "nv/b.jpg")
    for given in ([folder, folder / "mel/a.jpg"], [folder / "mel", folder], [folder, folder]):
        found = find_images(given)
        assert [(item.path, item.group) for item in found.items] == [
            ("mel/a.jpg", ""),
            ("nv/b.jpg", ""),
        ]


def test_a_lone_folder_tells_its_split_by_its_name(folder_of_images: Make) -> None:
    folder = folder_of_images("test/melanoma/a.jpg", "train/nevus/b.jpg")
    assert read(folder / "test") == {"melanoma/a.jpg": ("test", "melanoma")}
    official = folder_of_images("a.jpg", root="ISIC-2017_Test_v2_Data")
    assert read(official) == {"a.jpg": ("test", "")}


def test_classify_lists_the_same_images_as_extraction(folder_of_images: Make) -> None:
    from models.__main__ import _image_files

    folder = folder_of_images(
        *("a.jpg", "b/@eaDir/a.jpg", "__MACOSX/a.jpg", "b/c.PNG", "masks/a.png", "notes.txt"),
        *(".hidden/d.jpg", "b/.e.jpg", "#recycle/f.jpg", "g.jfif", "c_segmentation.png"),
    )
    outside = folder_of_images("linked.jpg", root="outside")
    (folder / "link").symlink_to(outside, target_is_directory=True)
    (folder / "dead.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    extracted = {str(folder / item.path) for item in find_images(folder).items}
    listed = {str(path) for path in _image_files([folder])}
    assert listed == extracted
    names = {Path(path).name for path in listed}
    assert names == {"a.jpg", "c.PNG", "linked.jpg", "dead.jpg", "g.jfif"}


def test_masks_are_known_by_what_stands_before_the_name(folder_of_images: Make) -> None:
    folder = folder_of_images("X.jpg", "mask_X.png", "seg-X.png", "mask_Z.png", "Masken/X.png")
    assert [item.path for item in find_images(folder).items] == ["X.jpg", "mask_Z.png"]


def test_classes_that_are_no_diagnosis_are_told_beside_some(folder_of_images: Make) -> None:
    found = find_images(folder_of_images("mel/a.jpg", "nv/b.jpg", "rejected/c.jpg"))
    assert [item.label for item in found.items] == ["mel", "nv", "rejected"]
    assert any("'rejected' was taken for a class beside 'mel'" in note for note in found.notes)
    plain = find_images(folder_of_images("good/a.jpg", "bad/b.jpg", root="plain"))
    assert plain.notes == ()
