from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from features.audit.findings import Audit, Group, audit
from features.cache.contents import Failure, Features, read_features
from features.datasets.folders import find_images
from features.embedding.extractor import load_extractor
from features.errors import CacheError
from features.extraction import extract
from tests.features.audit.audited import Change, drawn, features_of, images_of, plant


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("drawn") / "images", train=16, valid=6)


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "images"))


def group_with(found: Audit, path: Path) -> Group | None:
    return next(
        (
            group
            for group in found.groups
            if any(member.path.endswith(path.name) for member in group.members)
        ),
        None,
    )


def names(group: Group | None) -> set[str]:
    assert group is not None
    return {Path(member.path).name for member in group.members}


def test_different_lesions_are_no_copies(plain: Path) -> None:
    found = audit(features_of(plain))
    assert found.groups == ()
    assert found.seen == found.distinct == found.images == 22
    assert not found.names.any()
    assert found.notes == ()
    assert set(found.marks) == {"untrained", "synthetic"}


ALTERED: dict[str, Change] = {
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned freely": lambda image: image.rotate(25, Image.Resampling.BICUBIC),
    "cropped": lambda image: image.crop((8, 4, 120, 116)),
    "smaller": lambda image: image.resize((80, 80)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_copy_is_found_across_splits(folder: Path, kind: str) -> None:
    original = images_of(folder, "train")[0]
    copy = plant(original, folder / "valid" / original.parent.name / "copy.jpg", ALTERED[kind])
    found = audit(features_of(folder))
    assert [names(group) for group in found.groups] == [{original.name, copy.name}]
    (group,) = found.leaks
    assert (group.splits, group.exact, group.contradicts) == (("train", "valid"), False, False)
    assert group.similarity is not None
    assert 0.65 <= group.similarity <= 1


def test_the_same_file_with_two_labels_is_a_contradiction(folder: Path) -> None:
    original = images_of(folder, "train")[0]
    other = next(place for place in (folder / "train").iterdir() if place != original.parent)
    shutil.copy(original, other / "again.jpg")
    found = audit(features_of(folder))
    (group,) = found.contradictions
    assert (group.exact, group.crosses, len(group.labels)) == (True, False, 2)
    assert names(group) == {original.name, "again.jpg"}
    assert found.images == found.distinct + 1


def test_groups_are_named_alike_when_audited_again_with_more_images(folder: Path) -> None:
    original = images_of(folder, "train")[0]
    plant(original, original.parent / "copy.jpg", ALTERED["mirrored"])
    before = audit(features_of(folder))
    other = images_of(folder, "train")[5]
    plant(other, other.parent / "another.jpg", ALTERED["turned"])
    after = audit(features_of(folder))
    assert len(before.groups), len(after.groups) == (1, 2)
    assert group_with(after, Path("copy.jpg")) == group_with(before, Path("copy.jpg"))


def test_the_same_file_gives_the_same_findings(folder: Path) -> None:
    original = images_of(folder, "train")[0]
    plant(original, original.parent / "copy.jpg", ALTERED["turned freely"])
    features = features_of(folder)
    first, second = audit(features), audit(features)
    assert json.dumps(first.as_dict()) == json.dumps(second.as_dict())
    np.testing.assert_array_equal(first.names, second.names)


def test_without_pictures_close_embeddings_count_and_it_is_said(folder: Path) -> None:
    original = images_of(folder, "train")[0]
    copy = plant(
        original, folder / "valid" / original.parent.name / "copy.jpg", lambda image: image
    )
    features = replace(features_of(folder), images=str(folder / "gone"))
    found = audit(features)
    assert found.seen == 0
    assert "only embeddings were compared" in found.notes[0]
    assert copy.name in names(group_with(found, original))
    assert group_with(found, original).similarity is None  # type: ignore[union-attr]


def test_a_changed_or_missing_image_is_compared_by_embedding(folder: Path) -> None:
    features = features_of(folder)
    first, second = images_of(folder, "train")[:2]
    first.unlink()
    second.write_bytes(second.read_bytes() + b" ")
    found = audit(features)
    assert found.seen == found.distinct - 2
    assert found.notes[0].startswith("2 of 22 images could not be examined")


def test_another_folder_can_be_named(plain: Path, tmp_path: Path) -> None:
    features = replace(features_of(plain), images="/nowhere")
    assert audit(features, plain).seen == 22
    with pytest.raises(CacheError, match="there is no folder"):
        audit(features, tmp_path / "missing")


def test_nothing_to_audit_is_an_error(plain: Path) -> None:
    features = features_of(plain)
    gone = replace(features.items, path=np.full(len(features.items), ""))
    with pytest.raises(CacheError, match="no images"):
        audit(replace(features, items=gone))
    features.embeddings[3, 0] = np.nan
    with pytest.raises(CacheError, match="not finite"):
        audit(features)


def test_one_image_alone_is_audited(tmp_path: Path) -> None:
    place = tmp_path / "one" / "train" / "nevus" / "a.jpg"
    place.parent.mkdir(parents=True)
    Image.new("RGB", (90, 90), (200, 150, 120)).save(place)
    found = audit(features_of(tmp_path / "one"))
    assert (found.images, found.groups, found.oddities) == (1, (), ())


def test_broken_tiny_and_empty_images_are_listed(folder: Path) -> None:
    plant(
        images_of(folder, "train")[0], folder / "train" / "tiny.jpg", lambda x: x.resize((20, 30))
    )
    Image.new("RGB", (128, 128), (190, 150, 130)).save(folder / "train" / "blank.jpg")
    features = replace(
        features_of(folder),
        failures=(Failure("", "train/bad.jpg", "truncated", "its end is missing"),),
    )
    kinds = {(trouble.path, trouble.kind) for trouble in audit(features).troubles}
    assert kinds == {
        ("train/bad.jpg", "truncated"),
        ("train/tiny.jpg", "tiny"),
        ("train/blank.jpg", "empty"),
    }


def test_blank_images_are_not_taken_for_copies_of_each_other(folder: Path) -> None:
    for shade in (120, 190):
        blank = Image.new("RGB", (128, 128), (shade, 150, 130))
        blank.save(folder / "train" / f"blank{shade}.jpg")
    assert audit(features_of(folder)).groups == ()


def test_an_image_unlike_the_rest_stands_out_though_it_has_a_copy(plain: Path) -> None:
    features = spread(features_of(plain), outliers=2)
    odd = {oddity.member.path for oddity in audit(features).oddities}
    assert odd == set(features.items.path[:2])
    assert audit(spread(features_of(plain), outliers=0)).oddities == ()


def spread(features: Features, outliers: int) -> Features:
    rng = np.random.default_rng(0)
    embeddings = (np.array([1.0] + [0.0] * 31) + 0.05 * rng.normal(size=(32, 32))).astype(
        np.float32
    )
    embeddings[:outliers] = -1 + 0.001 * rng.normal(size=(outliers, 32))
    return replace(
        features, embeddings=embeddings, spec=replace(features.spec, dim=32), images="/nowhere"
    )


@pytest.mark.real_data
@pytest.mark.slow
def test_known_repeats_of_the_official_data_are_found(
    real_data: Path, real_weights: Path, tmp_path: Path
) -> None:
    source = real_data / "data" / "isic2017_256"
    repeats = [
        ("ISIC_0012127", "ISIC_0012970"),
        ("ISIC_0012290", "ISIC_0013594"),
        ("ISIC_0012756", "ISIC_0013184"),
        ("ISIC_0012672", "ISIC_0012673"),
        ("ISIC_0000171", "ISIC_0015124"),
    ]
    known = {name for pair in repeats for name in pair}
    files = sorted(source.rglob("ISIC_*.jpg"))
    for file in [path for path in files if path.stem in known] + files[300:345]:
        target = tmp_path / "images" / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    cache = tmp_path / "features.h5"
    extractor = load_extractor("inception_v3", real_weights, recipe="fast")
    extract(find_images(tmp_path / "images"), extractor, cache)
    found = audit(read_features(cache))
    met = {
        tuple(sorted(Path(member.path).stem for member in group.members)) for group in found.groups
    }
    assert met == set(repeats)
    assert {group.splits for group in found.leaks} == {("train", "valid")}
    assert len(found.leaks) == 2
