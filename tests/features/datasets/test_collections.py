"""Published collections as they are downloaded: the real names of folders, files and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from features.datasets.folders import Dataset, find_images
from features.datasets.tables import LabelTable
from tests.conftest import ROOT

Make = Callable[..., Path]


@dataclass(frozen=True)
class Example:
    """A tiny look-alike: files, tables, and what must be read of each image."""

    name: str
    files: tuple[str, ...]
    expected: Mapping[str, tuple[str, str, str]]
    labels: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)
    collection: str = ""


ISIC_2019 = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
EXAMPLES = [
    Example(
        "ISIC 2016",
        (
            *("ISBI2016_ISIC_Part3_Training_Data/ISIC_0000000.jpg",),
            *("ISBI2016_ISIC_Part3_Training_Data/ISIC_0000004.jpg",),
            *("ISBI2016_ISIC_Part3_Test_Data/ISIC_0000003.jpg",),
            *("ISBI2016_ISIC_Part3_Test_Data/ISIC_0000012.jpg",),
        ),
        {
            "ISBI2016_ISIC_Part3_Training_Data/ISIC_0000000.jpg": ("train", "benign", ""),
            "ISBI2016_ISIC_Part3_Training_Data/ISIC_0000004.jpg": ("train", "malignant", ""),
            "ISBI2016_ISIC_Part3_Test_Data/ISIC_0000003.jpg": ("test", "malignant", ""),
            "ISBI2016_ISIC_Part3_Test_Data/ISIC_0000012.jpg": ("test", "benign", ""),
        },
        (
            "ISBI2016_ISIC_Part3_Training_GroundTruth.csv",
            "ISBI2016_ISIC_Part3_Test_GroundTruth.csv",
        ),
        tables={
            "ISBI2016_ISIC_Part3_Training_GroundTruth.csv": (
                "ISIC_0000000,benign\nISIC_0000004,malignant\n"
            ),
            "ISBI2016_ISIC_Part3_Test_GroundTruth.csv": "ISIC_0000003,1.0\nISIC_0000012,0.0\n",
        },
    ),
    Example(
        "ISIC 2017",
        (
            "ISIC-2017_Training_Data/ISIC_0000000.jpg",
            "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png",
            "ISIC-2017_Validation_Data/ISIC_0001769.jpg",
            "ISIC-2017_Test_v2_Data/ISIC_0012086.jpg",
            "ISIC-2017_Test_v2_Data/ISIC_0012086_superpixels.png",
            "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png",
        ),
        {
            "ISIC-2017_Training_Data/ISIC_0000000.jpg": ("train", "melanoma", ""),
            "ISIC-2017_Validation_Data/ISIC_0001769.jpg": ("valid", "seborrheic_keratosis", ""),
            "ISIC-2017_Test_v2_Data/ISIC_0012086.jpg": ("test", "other", ""),
        },
        tuple(
            f"ISIC-2017_{part}_Part3_GroundTruth.csv"
            for part in ("Training", "Validation", "Test_v2")
        ),
        tables={
            "ISIC-2017_Training_Part3_GroundTruth.csv": (
                "image_id,melanoma,seborrheic_keratosis\nISIC_0000000,1.0,0.0\n"
            ),
            "ISIC-2017_Validation_Part3_GroundTruth.csv": (
                "image_id,melanoma,seborrheic_keratosis\nISIC_0001769,0.0,1.0\n"
            ),
            "ISIC-2017_Test_v2_Part3_GroundTruth.csv": (
                "image_id,melanoma,seborrheic_keratosis\nISIC_0012086,0.0,0.0\n"
            ),
        },
        collection="ISIC 2017",
    ),
    Example(
        "ISIC 2018",
        (
            "ISIC2018_Task3_Training_Input/ISIC_0024306.jpg",
            "ISIC2018_Task3_Training_Input/ISIC_0024310.jpg",
            "ISIC2018_Task3_Validation_Input/ISIC_0034321.jpg",
        ),
        {
            "ISIC2018_Task3_Training_Input/ISIC_0024306.jpg": ("train", "NV", "HAM_0000550"),
            "ISIC2018_Task3_Training_Input/ISIC_0024310.jpg": ("train", "MEL", "HAM_0003301"),
            "ISIC2018_Task3_Validation_Input/ISIC_0034321.jpg": ("valid", "", ""),
        },
        ("ISIC2018_Task3_Training_GroundTruth.csv",),
        ("ISIC2018_Task3_Training_LesionGroupings.csv",),
        {
            "ISIC2018_Task3_Training_GroundTruth.csv": (
                "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
                "ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
                "ISIC_0024310,1.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
            ),
            "ISIC2018_Task3_Training_LesionGroupings.csv": (
                "image,lesion_id,diagnosis_confirm_type\n"
                "ISIC_0024306,HAM_0000550,follow_up\nISIC_0024310,HAM_0003301,histopathology\n"
            ),
        },
        collection="ISIC 2018",
    ),
    Example(
        "ISIC 2019",
        (
            "ISIC_2019_Training_Input/ISIC_0000000.jpg",
            "ISIC_2019_Training_Input/ISIC_0000001_downsampled.jpg",
            "ISIC_2019_Test_Input/ISIC_0034321.jpg",
            "ISIC_2019_Test_Input/ISIC_0034322.jpg",
        ),
        {
            "ISIC_2019_Training_Input/ISIC_0000000.jpg": ("train", "NV", "MSK4_0011169"),
            "ISIC_2019_Training_Input/ISIC_0000001_downsampled.jpg": ("train", "MEL", ""),
            "ISIC_2019_Test_Input/ISIC_0034321.jpg": ("test", "SCC", ""),
            "ISIC_2019_Test_Input/ISIC_0034322.jpg": ("test", "", ""),
        },
        ("ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Test_GroundTruth.csv"),
        ("ISIC_2019_Training_Metadata.csv",),
        {
            "ISIC_2019_Training_GroundTruth.csv": (
                f"{ISIC_2019}\nISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
                "ISIC_0000001_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
            ),
            "ISIC_2019_Test_GroundTruth.csv": (
                f"{ISIC_2019},score_weight,validation_weight\n"
                "ISIC_0034321,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,1.0,0.0\n"
                "ISIC_0034322,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0\n"
            ),
            "ISIC_2019_Training_Metadata.csv": (
                "image,age_approx,anatom_site_general,lesion_id,sex\n"
                "ISIC_0000000,55.0,anterior torso,MSK4_0011169,female\n"
                "ISIC_0000001_downsampled,30.0,anterior torso,,female\n"
            ),
        },
        collection="ISIC 2019",
    ),
    Example(
        "SIIM-ISIC 2020",
        (
            "jpeg/train/ISIC_0015719.jpg",
            "jpeg/train/ISIC_0149568.jpg",
            "jpeg/test/ISIC_0052060.jpg",
        ),
        {
            "jpeg/train/ISIC_0015719.jpg": ("train", "benign", "IP_3075186"),
            "jpeg/train/ISIC_0149568.jpg": ("train", "malignant", "IP_0962375"),
            "jpeg/test/ISIC_0052060.jpg": ("test", "", ""),
        },
        ("train.csv",),
        tables={
            "train.csv": (
                "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
                "benign_malignant,target\n"
                "ISIC_0015719,IP_3075186,female,45.0,upper extremity,unknown,benign,0\n"
                "ISIC_0149568,IP_0962375,female,55.0,upper extremity,melanoma,malignant,1\n"
            )
        },
        collection="SIIM-ISIC 2020",
    ),
    Example(
        "ISIC 2024",
        ("train-image/image/ISIC_0015670.jpg", "train-image/image/ISIC_0082829.jpg"),
        {
            "train-image/image/ISIC_0015670.jpg": ("train", "benign", "IP_1235828"),
            "train-image/image/ISIC_0082829.jpg": ("train", "malignant", "IP_3249371"),
        },
        ("train-metadata.csv",),
        tables={
            "train-metadata.csv": (
                "isic_id,target,patient_id,age_approx,sex,anatom_site_general,"
                "clin_size_long_diam_mm,image_type,tbp_tile_type,tbp_lv_location,attribution,copyright_license,lesion_id,"
                "iddx_full,iddx_1,mel_mitotic_index,tbp_lv_dnn_lesion_confidence\n"
                "ISIC_0015670,0,IP_1235828,60.0,male,lower extremity,3.04,TBP tile: close-up,"
                "3D: white,Right Leg,MSK,CC-BY,,Benign,Benign,,97.5\n"
                "ISIC_0082829,1,IP_3249371,55.0,female,head/neck,5.1,TBP tile: close-up,3D: XP,"
                "Head & Neck,MSK,CC-BY,IL_1,Malignant,Malignant,,98.0\n"
            )
        },
        collection="ISIC 2024",
    ),
    Example(
        "HAM10000",
        ("HAM10000_images_part_1/ISIC_0027419.jpg", "HAM10000_images_part_2/ISIC_0031633.jpg"),
        {
            "HAM10000_images_part_1/ISIC_0027419.jpg": ("", "bkl", "HAM_0000118"),
            "HAM10000_images_part_2/ISIC_0031633.jpg": ("", "mel", "HAM_0001466"),
        },
        ("HAM10000_metadata.csv",),
        tables={
            "HAM10000_metadata.csv": (
                "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
                "HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp\n"
                "HAM_0001466,ISIC_0031633,mel,histo,,male,ear\n"
            )
        },
        collection="HAM10000",
    ),
    Example(
        "PAD-UFES-20",
        ("imgs_part_1/PAT_1516_1765_530.png", "imgs_part_2/PAT_46_881_939.png"),
        {
            "imgs_part_1/PAT_1516_1765_530.png": ("", "NEV", "PAT_1516"),
            "imgs_part_2/PAT_46_881_939.png": ("", "BCC", "PAT_46"),
        },
        ("metadata.csv",),
        tables={
            "metadata.csv": (
                "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,"
                "gender,skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,"
                "fitspatrick,region,diameter_1,diameter_2,diagnostic,itch,grew,hurt,changed,bleed,"
                "elevation,img_id,biopsed\n"
                "PAT_1516,1765,,,,,8,,,,,,,,ARM,,,NEV,FALSE,FALSE,FALSE,FALSE,FALSE,FALSE,"
                "PAT_1516_1765_530.png,FALSE\n"
                "PAT_46,881,False,False,POMERANIA,POMERANIA,55,False,FEMALE,True,True,True,True,3.0,"
                "NECK,6.0,5.0,BCC,TRUE,TRUE,FALSE,TRUE,TRUE,TRUE,PAT_46_881_939.png,TRUE\n"
            )
        },
        collection="PAD-UFES-20",
    ),
    Example(
        "Derm7pt",
        ("images/NEL/Nel026.jpg", "images/NEL/NEL027.JPG", "images/A1l/Aal012.jpg"),
        {
            "images/NEL/Nel026.jpg": ("", "", ""),
            "images/NEL/NEL027.JPG": ("", "basal cell carcinoma", "1"),
            "images/A1l/Aal012.jpg": ("", "melanoma (less than 0.76 mm)", "2"),
        },
        ("meta/meta.csv",),
        tables={
            "meta/meta.csv": (
                "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,"
                "regression_structures,dots_and_globules,blue_whitish_veil,vascular_structures,"
                "level_of_diagnostic_difficulty,elevation,location,sex,clinic,derm,case_id,notes,"
                "management\n"
                "1,basal cell carcinoma,0,absent,absent,absent,absent,absent,absent,absent,medium,"
                "nodular,abdomen,female,NEL/Nel026.jpg,NEL/NEL027.JPG,,,excision\n"
                "2,melanoma (less than 0.76 mm),5,"
                "absent,absent,absent,absent,absent,absent,absent,"
                "low,flat,back,male,A1l/missing.jpg,A1l/Aal012.jpg,,,excision\n"
            )
        },
        collection="Derm7pt",
    ),
    Example(
        "PH2",
        (
            "PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/IMD003.bmp",
            "PH2 Dataset images/IMD003/IMD003_lesion/IMD003_lesion.bmp",
            "PH2 Dataset images/IMD003/IMD003_roi/IMD003_R1_Label3.bmp",
            "PH2 Dataset images/IMD058/IMD058_Dermoscopic_Image/IMD058.bmp",
            "PH2 Dataset images/IMD058/IMD058_lesion/IMD058_lesion.bmp",
        ),
        {
            "PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/IMD003.bmp": (
                *("", "common nevus"),
                "",
            ),
            "PH2 Dataset images/IMD058/IMD058_Dermoscopic_Image/IMD058.bmp": ("", "melanoma", ""),
        },
        ("PH2_dataset.txt",),
        tables={
            "PH2_dataset.txt": (
                "||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry ||\n"
                "|| IMD003 ||                        ||        0           ||     0     ||\n"
                "|| IMD058 ||   Melanoma             ||        2           ||     2     ||\n"
            )
        },
        collection="PH2",
    ),
]


def read(example: Example, folder: Path) -> Dataset:
    for name, text in example.tables.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return find_images(
        folder,
        [LabelTable(folder / name) for name in example.labels]
        + [LabelTable(folder / name, labelled=False) for name in example.more],
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_a_collection_is_read_as_it_is_downloaded(folder_of_images: Make, example: Example) -> None:
    found = read(example, folder_of_images(*example.files, root="download"))
    told = {item.path: (item.split, item.label, item.group) for item in found.items}
    assert told == dict(example.expected)
    if example.collection:
        assert found.tables[0].collection == example.collection
    assert found.problems == ()


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_the_page_of_data_names_the_command(example: Example) -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "data.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    row = next(line for line in rows if line.startswith(f"| {example.name} "))
    for name in (*example.labels, *example.more):
        assert name in row
