"""DICOM files of one patient stay together, and nobody can tell who it is."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import read_features
from features.datasets.folders import find_images
from features.embedding.extractor import load_extractor
from features.extraction import extract
from tests.features.images.codecs.dicoms import dicom

PATIENTS = ("Doe-1234", "Roe-5678")


@pytest.fixture
def dicoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LESION_SALT", "kept apart")
    rng = np.random.default_rng(2)
    for number in range(6):
        file = tmp_path / "images" / ("melanoma" if number % 2 else "nevus") / f"{number}.dcm"
        file.parent.mkdir(parents=True, exist_ok=True)
        samples = rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)
        patient = "" if number == 5 else PATIENTS[number // 3]
        file.write_bytes(dicom(samples, PatientID=patient))
    return tmp_path / "images"


def test_images_of_one_patient_are_a_group_without_its_name(dicoms: Path) -> None:
    found = find_images(dicoms)
    group = {Path(item.path).stem: item.group for item in found.items}
    assert group["0"] == group["1"] == group["2"] != ""
    assert group["3"] == group["4"] != group["0"]
    assert group["5"] == ""
    assert all(patient not in repr(found) for patient in PATIENTS)
    assert any("5 of 6 DICOM files name their patient (2 patients, kept" in n for n in found.notes)


def test_the_salt_decides_the_name(dicoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[str]:
        return {item.group for item in find_images(dicoms).items} - {""}

    first = names()
    assert names() == first
    monkeypatch.setenv("LESION_SALT", "another")
    assert not names() & first


def test_a_salt_is_made_once_and_only_its_owner_may_read_it(
    dicoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LESION_SALT")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    first = find_images(dicoms)
    (salt,) = (tmp_path / "home").rglob("salt")
    assert salt.stat().st_mode & 0o777 == 0o600
    assert len(salt.read_bytes()) == 32
    assert find_images(dicoms).items == first.items


def test_nothing_of_the_patient_is_in_the_feature_file(dicoms: Path, tmp_path: Path) -> None:
    (dicoms / "nevus/bad.dcm").write_bytes(dicom(np.zeros((9, 9, 3), np.uint8), Rows=500))
    out = tmp_path / "features.h5"
    extractor = load_extractor("inception_v3", "untrained", input_size=75)
    outcome = extract(find_images(dicoms), extractor, out)
    assert (outcome.embedded, len(outcome.failures)) == (6, 1)
    data = out.read_bytes()
    for patient in (*PATIENTS, "Doe^Jane", "Doe-1234-not-to-be-kept"):
        assert patient.encode() not in data
    assert len(set(read_features(out).items.group.tolist()) - {""}) == 2


def test_groups_are_found_in_an_archive(dicoms: Path, tmp_path: Path) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in dicoms.rglob("*.dcm"):
            opened.write(path, path.relative_to(dicoms))
    assert find_images(archive).items == find_images(dicoms).items
