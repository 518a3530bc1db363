"""Images, tables and feature files in the cloud: from a real S3 server with faults, and the web."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import extract_features
from features.cache.contents import Features, read_features
from features.datasets.folders import find_images
from features.datasets.tables import LabelTable
from features.embedding.extractor import Extractor
from features.errors import DatasetError, StorageError
from features.extraction import Outcome, extract
from features.extraction.shards.cloud import state_for
from features.storage import filesystems, listing
from features.storage.addresses import as_place
from features.storage.fetching import fetch
from features.storage.working_copy import WorkingCopy
from tests.features.extraction.test_loop import SPEC, Mean
from tests.features.storage.clouds import DENIED, Fault, Proxy
from tests.features.storage.servers import BUCKET, call
from tests.pictures import image_bytes

Put = Callable[[str, bytes], str]
ROOT = f"s3://{BUCKET}/images"


def embed(place: str | Path, out: Path, **more: object) -> Outcome:
    extractor = Extractor(SPEC, lambda size: Mean(16))
    return extract(find_images(as_place(place), **more), extractor, out)


def fill(put: Put, count: int = 6, start: int = 0) -> None:
    for number in range(start, start + count):
        put(
            f"images/train/{'nevus' if number % 2 else 'melanoma'}/{number}.jpg",
            image_bytes(number),
        )


def same(one: Features, other: Features) -> bool:
    by_path = [
        dict(zip(each.items.path.tolist(), each.embedded(each.items).tolist(), strict=True))
        for each in (one, other)
    ]
    return by_path[0] == by_path[1]


def test_a_folder_in_the_cloud_gives_what_one_on_the_disk_does(
    s3: Proxy,
    put: Put,
    tmp_path: Path,
) -> None:
    fill(put)
    for number in range(6):
        file = tmp_path / "images/train" / ("nevus" if number % 2 else "melanoma")
        file.mkdir(parents=True, exist_ok=True)
        (file / f"{number}.jpg").write_bytes(image_bytes(number))
    put("images/notes.txt", b"no image")
    put("images/odd//x.jpg", image_bytes(99))
    found = find_images(as_place(ROOT))
    assert [left.path for left in found.left_out] == ["odd//x.jpg", "notes.txt"]
    out, here = tmp_path / "away.h5", tmp_path / "here.h5"
    assert (embed(ROOT, out).embedded, embed(tmp_path / "images", here).embedded) == (6, 6)
    away = read_features(out)
    assert same(away, read_features(here))
    assert away.images == ROOT
    assert away.items.label.tolist() == read_features(here).items.label.tolist()


def test_an_unchanged_key_is_not_read_again(s3: Proxy, put: Put, tmp_path: Path) -> None:
    fill(put)
    out = tmp_path / "features.h5"
    embed(ROOT, out)
    put("images/train/nevus/1.jpg", image_bytes(50))
    fill(put, 1, start=6)
    s3.asked.clear()
    again = embed(ROOT, out)
    assert (again.embedded, again.known) == (2, 5)
    read = {path.rpartition("/")[2] for method, path in s3.asked if ".jpg" in path}
    assert read == {"1.jpg", "6.jpg"}
    assert s3.count("HEAD", "") == 0


def test_planning_asks_for_no_image_of_several_folders_or_of_a_table(
    s3: Proxy, put: Put, tmp_path: Path
) -> None:
    for number in range(12):
        put(f"{'north' if number % 2 else 'south'}/{number}.jpg", image_bytes(number))
    names = [f"s3://{BUCKET}/{'north' if n % 2 else 'south'}/{n}.jpg" for n in range(12)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    folders = [as_place(f"s3://{BUCKET}/{folder}") for folder in ("north", "south")]
    extractor = Extractor(SPEC, lambda size: Mean(16))
    for number, images in enumerate((folders, tmp_path / "list.txt")):
        out = tmp_path / f"{number}.h5"
        assert extract(find_images(images), extractor, out).embedded == 12
        listing._LISTED.clear()
        s3.asked.clear()
        found = find_images(images)
        state = state_for(found)
        assert len({state(f"{found.root}/{item.path}") for item in found.items}) == 12
        assert extract(found, extractor, out).known == 12
        # Of a table one image is asked for, to see whether any can be read.
        assert s3.count("HEAD", "") == number
        assert s3.count("GET", ".jpg") == 0
        assert len(s3.asked) <= 2


def test_an_archive_tells_whether_what_is_in_it_changed(s3: Proxy, put: Put) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.jpg", image_bytes(number))
    place = put("set.zip", packed.getvalue())

    def states() -> set[str]:
        listing._LISTED.clear()
        found = find_images(as_place(place))
        state = state_for(found)
        return {state(f"{found.root}/{item.path}") for item in found.items}

    (before,) = states()
    assert before.startswith("etag ")
    assert states() == {before}
    put("set.zip", packed.getvalue() + b" ")
    assert states() != {before}


def test_faults_cost_no_image_but_the_one_that_is_gone(
    s3: Proxy,
    put: Put,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(put)
    clean = tmp_path / "clean.h5"
    embed(ROOT, clean)
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "other"))
    gone = "images/train/melanoma/4.jpg"
    s3.faults += [
        Fault("GET", "/0.jpg", "status"),
        Fault("GET", "/1.jpg", "cut", times=2),
        Fault("GET", "/2.jpg", "slow", seconds=0.3),
        Fault(
            "GET", "/4.jpg", "slow", before=lambda: call("delete_object", Bucket=BUCKET, Key=gone)
        ),
    ]
    out = tmp_path / "features.h5"
    outcome = embed(ROOT, out)
    assert outcome.embedded == 5
    assert [failure.path for failure in outcome.failures] == ["train/melanoma/4.jpg"]
    assert "there is nothing at" in outcome.failures[0].reason
    put(gone, image_bytes(4))
    assert embed(ROOT, out).failures == ()
    assert same(read_features(out), read_features(clean))


def test_what_no_image_can_be_read_with_is_told_before_the_run(
    s3: Proxy,
    put: Put,
    web: tuple[str, Path],
) -> None:
    listed = put("list.txt", f"{ROOT}/a.jpg\n{ROOT}/b.jpg\n".encode())
    s3.faults.append(Fault("HEAD", "a.jpg", "status", times=9, status=403, body=DENIED))
    with pytest.raises(StorageError, match="is refused"):
        find_images(as_place(listed))
    with pytest.raises(StorageError, match="there is no bucket nowhere"):
        find_images(as_place("s3://nowhere/images"))
    with pytest.raises(DatasetError, match="no images found below s3://pictures/void"):
        find_images(as_place(f"s3://{BUCKET}/void"))
    with pytest.raises(StorageError, match=r"can't be listed, as nothing can by https"):
        find_images(as_place(f"{web[0]}/images"))
    with pytest.raises(DatasetError, match="places of several kinds"):
        find_images([as_place(listed.replace("list.txt", "images")), web[1]])


def test_archives_lists_and_tables_of_addresses_are_read(
    s3: Proxy,
    put: Put,
    web: tuple[str, Path],
    tmp_path: Path,
) -> None:
    fill(put, 4)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.jpg", image_bytes(number))
    url, folder = web
    (folder / "set.zip").write_bytes(packed.getvalue())
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(image_bytes(number))
    table = "isic_id,image_url,dx\n" + "".join(f"{n},{url}/{n}.jpg,nevus\n" for n in range(2))
    (folder / "set.csv").write_text(table)
    names = {
        put("set.zip", packed.getvalue()): 4,
        f"{url}/set.zip": 4,
        put("list.txt", b"images/train/melanoma/0.jpg\nimages/train/nevus/1.jpg\n"): 2,
        f"{url}/set.csv": 2,
    }
    for number, (place, images) in enumerate(names.items()):
        assert embed(place, tmp_path / f"{number}.h5").embedded == images, place
    labels = LabelTable(as_place(f"{url}/set.csv"))
    found = find_images(as_place(f"{url}/set.csv"), [labels])
    assert [(item.path, item.label) for item in found.items] == [
        ("0.jpg", "nevus"),
        ("1.jpg", "nevus"),
    ]


def test_a_signed_address_in_a_table_is_refused_without_being_shown(
    web: tuple[str, Path],
    tmp_path: Path,
) -> None:
    file = tmp_path / "set.csv"
    file.write_text(f"url,dx\n{web[0]}/0.jpg?X-Amz-Signature=12abcd,nevus\n")
    with pytest.raises(DatasetError, match="has a secret in it") as refused:
        find_images(file)
    assert "12abcd" not in str(refused.value)


def test_a_feature_file_is_put_by_one_request_and_added_to(
    s3: Proxy,
    put: Put,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(put, 4)
    place = as_place(f"s3://{BUCKET}/out/features.h5")
    copy = WorkingCopy(place)
    embed(ROOT, copy.path)
    copy.publish()
    assert s3.count("PUT", "features.h5") == 1
    assert len(read_features(fetch(place)).items) == 4
    # Another machine adds to it.
    fill(put, 2, start=4)
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "other machine"))
    other = WorkingCopy(place)
    assert embed(ROOT, other.path).embedded == 2
    # Meanwhile it is as it was for others; a put that fails keeps what was made for the next run.
    monkeypatch.setattr(filesystems, "TRIES", 1)
    s3.faults.append(Fault("PUT", "features.h5", "status", status=403, body=DENIED))
    with pytest.raises(StorageError, match=r"is refused.*is put there next time"):
        other.publish()
    assert len(read_features(fetch(place)).items) == 4
    again = WorkingCopy(place)
    assert embed(ROOT, again.path).embedded == 0
    again.publish()
    assert len(read_features(fetch(place)).items) == 6
    # The first machine's copy is old: it is fetched anew, and nothing of the other's is lost.
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "kept"))
    assert len(read_features(WorkingCopy(place).path).items) == 6
    late = WorkingCopy(place)
    put("out/features.h5", b"by somebody else")
    with pytest.raises(StorageError, match="written by somebody else meanwhile"):
        late.publish()


def test_the_command_takes_addresses_for_all_that_it_reads_and_writes(
    s3: Proxy, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(put, 4)
    labels = put("labels.csv", b"image,dx\n0,melanoma\n1,nevus\n2,melanoma\n3,nevus\n")
    monkeypatch.setattr(
        "features.embedding.extractor.load_extractor",
        lambda *_, **__: Extractor(SPEC, lambda size: Mean(16)),
    )

    def command(*words: str) -> Result:
        options = [ROOT, "--labels", labels, "--weights", "untrained", *words]
        return CliRunner().invoke(extract_features.main, options)

    out, shards = f"s3://{BUCKET}/features.h5", f"s3://{BUCKET}/shards"
    for embedded, known in ((4, 0), (0, 4)):
        done = command("--out", out)
        assert done.exit_code == 0, done.output
        assert f"{embedded} embedded, {known} known before, 0 failed: {out}" in done.output
    assert read_features(fetch(out)).items.label.tolist() == [
        "melanoma",
        "melanoma",
        "nevus",
        "nevus",
    ]
    for made, before in ((2, 0), (0, 2)):
        done = command("--out", shards, "--shards", "2")
        assert done.exit_code == 0, done.output
        assert f"{made} shards made, {before} done before, 2 of 2 there, 4 emb" in done.output
    refused = command("--out", "s3://key:wJalrXUtn@bucket/features.h5")
    assert refused.exit_code == 2
    assert "wJalrXUtn" not in refused.output
    refused = command("--out", "https://host/features.h5")
    assert (refused.exit_code, "can be read and not written" in refused.output) == (1, True)


def test_no_secret_is_in_the_feature_file(s3: Proxy, put: Put, tmp_path: Path) -> None:
    fill(put, 2)
    put("images/x.jpg", b"no picture")
    s3.faults.append(Fault("GET", "/0.jpg", "status", times=99, status=403, body=DENIED))
    out = tmp_path / "features.h5"
    assert len(embed(ROOT, out).failures) == 2
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"the-secret-key-of-the-tests" not in kept
    assert b"Signature" not in kept
    assert np.isfinite(read_features(out).embeddings[:]).all()
