from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import read_features
from features.cache.shards.places import require_place_for_shards
from features.datasets.folders import Dataset, find_images
from features.embedding.extractor import Extractor, load_extractor
from features.errors import CacheError, CacheMismatch
from features.extraction import extract
from features.extraction.shards import Shard, ShardResult, into_shards, is_done, run_shard
from features.extraction.shards.local import FolderShards, run_shards
from features.extraction.shards.running import (
    ShardBusy,
    publish,
    require_same_options,
)
from tests.pictures import image_bytes

Make = Callable[..., Path]
OF = 4


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("inception_v3", "untrained", input_size=75)


@pytest.fixture
def images(folder_of_images: Make) -> Path:
    return folder_of_images(
        *(f"train/{'melanoma' if n % 2 else 'nevus'}/{n}.jpg" for n in range(16))
    )


def plan(images: Path, extractor: Extractor, of: int = OF) -> tuple[Dataset, list[Shard]]:
    found = find_images(images)
    return found, into_shards(found.items, extractor.spec.fingerprint, root=found.root, of=of)


def make(images: Path, extractor: Extractor, out: Path, **more: object) -> list[ShardResult]:
    found, shards = plan(images, extractor)
    return list(run_shards(shards, FolderShards(out), extractor, found, **more))


def content(folder: Path) -> dict[str, bytes]:
    return {place.name: place.read_bytes() for place in folder.iterdir() if place.is_file()}


def by_path(*files: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for file in files:
        features = read_features(file)
        items = features.items
        for at, path in enumerate(items.path.tolist()):
            assert path not in found
            about = (items.sha256[at], items.label[at], items.split[at], items.width[at])
            found[path] = (*about, features.embedded(items)[at].tobytes())
    return found


def test_shards_hold_what_one_file_would_and_a_second_time_changes_nothing(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    found, shards = plan(images, extractor)
    results = make(images, extractor, out)
    assert [result.number for result in results] == [1, 2, 3, 4]
    assert [result.rows for result in results] == [len(shard.items) for shard in shards]
    assert not any(result.was_done for result in results)
    extract(found, extractor, tmp_path / "whole.h5")
    assert by_path(*sorted(out.glob("*.h5"))) == by_path(tmp_path / "whole.h5")
    before = content(out)
    assert len(before) == 2 * OF
    again = make(images, extractor, out)
    assert all(result.was_done for result in again)
    assert [result.rows for result in again] == [result.rows for result in results]
    assert content(out) == before
    left = {place.name for place in (out / ".unfinished").iterdir()}
    assert all(name.endswith(".lock") for name in left)


def test_only_what_was_touched_is_made_again_and_nothing_is_embedded_twice(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    make(images, extractor, out)
    before = content(out)
    (images / "train" / "nevus" / "new.jpg").write_bytes(image_bytes(99))
    _, shards = plan(images, extractor)
    (touched,) = (s for s in shards if any(item.path.endswith("new.jpg") for item in s.items))
    assert [is_done(out, shard) for shard in shards] == [shard != touched for shard in shards]
    results = make(images, extractor, out)
    assert [result.was_done for result in results] == [shard != touched for shard in shards]
    outcome = results[touched.number - 1].outcome
    assert outcome is not None
    assert (outcome.embedded, outcome.known) == (1, len(touched.items) - 1)
    changed = {name for name, data in content(out).items() if data != before[name]}
    assert changed == {f"{touched.name}.h5", f"{touched.name}.json"}


@pytest.mark.parametrize("lost", ["mark", "file", "damaged file", "damaged mark", "other mark"])
def test_a_shard_is_done_by_a_mark_that_fits_and_by_nothing_else(
    images: Path, extractor: Extractor, tmp_path: Path, lost: str
) -> None:
    out = tmp_path / "shards"
    make(images, extractor, out)
    before = content(out)
    found, shards = plan(images, extractor)
    file, mark = (out / f"{shards[1].name}.{kind}" for kind in ("h5", "json"))
    if lost == "mark":
        mark.unlink()
    elif lost == "file":
        file.unlink()
    elif lost == "damaged file":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    elif lost == "damaged mark":
        mark.write_bytes(mark.read_bytes()[:100])
    else:
        mark.write_bytes((out / f"{shards[2].name}.json").read_bytes())
    assert [is_done(out, shard) for shard in shards] == [True, False, True, True]
    result = run_shard(shards[1], out, extractor, found)
    assert result.outcome is not None
    # What lies there whole is taken up, and what doesn't is embedded anew.
    anew = result.rows if "file" in lost else 0
    assert (result.outcome.embedded, result.rows) == (anew, len(shards[1].items))
    assert is_done(out, shards[1])
    kept = {f"{shards[1].name}.h5", f"{shards[1].name}.json"}
    assert {n: d for n, d in content(out).items() if n not in kept} == {
        n: d for n, d in before.items() if n not in kept
    }


def test_the_mark_says_what_the_shard_is(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    (images / "train" / "nevus" / "broken.jpg").write_bytes(b"no image")
    make(images, extractor, out)
    _, shards = plan(images, extractor)
    marks = [json.loads((out / f"{shard.name}.json").read_text()) for shard in shards]
    for mark, shard in zip(marks, shards, strict=True):
        features = read_features(out / f"{shard.name}.h5")
        assert mark["fingerprint"] == extractor.spec.fingerprint
        assert (mark["number"], mark["of"], mark["key"]) == (shard.number, OF, shard.key)
        assert mark["rows"] == mark["items"] == len(features.embeddings)
        assert mark["bytes"] == (out / f"{shard.name}.h5").stat().st_size
        assert mark["images"] == str(images)
        assert mark["dtype"] == "float32"
    assert sum(mark["failures"] for mark in marks) == 1
    assert sum(mark["rows"] for mark in marks) == 16


def test_labels_that_change_are_written_without_embedding(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    make(images, extractor, out)
    found = find_images(images)
    relabelled = tuple(replace(item, label=item.label.upper()) for item in found.items)
    others = into_shards(relabelled, extractor.spec.fingerprint, root=found.root, of=OF)
    results = list(run_shards(others, FolderShards(out), extractor, found))
    assert sum(result.outcome.embedded for result in results if result.outcome) == 0
    assert {about[1] for about in by_path(*out.glob("*.h5")).values()} == {"MELANOMA", "NEVUS"}


def test_what_is_gone_is_kept_until_it_is_pruned(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    make(images, extractor, out)
    (images / "train" / "nevus" / "0.jpg").unlink()
    kept = make(images, extractor, out)
    assert (sum(r.rows for r in kept), sum(not r.was_done for r in kept)) == (16, 1)
    assert all(result.was_done for result in make(images, extractor, out))
    pruned = make(images, extractor, out, prune=True)
    assert (sum(r.rows for r in pruned), sum(not r.was_done for r in pruned)) == (15, 1)


def test_shards_of_other_options_are_refused_and_nothing_is_touched(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    found, shards = plan(images, extractor)
    run_shard(shards[0], out, extractor, found)
    before = content(out)
    other = Extractor(replace(extractor.spec, precision="bf16"), lambda size: None)
    theirs = into_shards(found.items, other.spec.fingerprint, root=found.root, of=OF)
    with pytest.raises(CacheMismatch, match=r"00001-of-00004.h5 was made.*precision fp32 against"):
        run_shard(theirs[1], out, other, found)
    with pytest.raises(CacheMismatch, match="is one of 4 shards, and this run is to make 8: say 4"):
        run_shard(plan(images, extractor, 8)[1][0], out, extractor, found)
    with pytest.raises(CacheMismatch, match="holds float32, this run asks for float16"):
        run_shard(shards[1], out, extractor, found, dtype="float16")
    (out / f"{shards[0].name}.json").unlink()
    with pytest.raises(CacheMismatch, match="precision fp32 against bf16"):
        run_shard(theirs[0], out, other, found)
    assert content(out) == {f"{shards[0].name}.h5": before[f"{shards[0].name}.h5"]}


def test_the_start_of_a_run_of_another_number_of_shards_is_not_left_lying(
    extractor: Extractor, tmp_path: Path
) -> None:
    (tmp_path / ".unfinished" / "shard-00002-of-00008.h5.blocks").mkdir(parents=True)
    assert require_same_options(tmp_path, 8, extractor.spec) == "float32"
    with pytest.raises(CacheMismatch, match="start of one of 8 shards, and this run is to make 4"):
        require_same_options(tmp_path, 4, extractor.spec)


def test_how_embeddings_are_stored_follows_the_other_shards(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    found, shards = plan(images, extractor)
    run_shard(shards[0], tmp_path / "out", extractor, found, dtype="float16")
    assert require_same_options(tmp_path / "out", OF, extractor.spec) == "float16"
    run_shard(shards[1], tmp_path / "out", extractor, found)
    mark = json.loads((tmp_path / "out" / f"{shards[1].name}.json").read_text())
    assert mark["dtype"] == "float16"


def test_a_second_process_at_a_shard_is_refused_or_waits(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    found, shards = plan(images, extractor)
    (out / ".unfinished").mkdir(parents=True)
    with (out / ".unfinished" / f"{shards[1].name}.lock").open("w") as held:
        # As a process of its own does.
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ShardBusy, match="another process is making shard 2 of 4 in"):
            run_shard(shards[1], out, extractor, found)
        order = []
        freed = threading.Timer(0.2, fcntl.flock, (held, fcntl.LOCK_UN))
        for result in run_shards(shards, FolderShards(out), extractor, found):
            order.append(result.number)
            if len(order) == OF - 1:
                freed.start()
    assert order == [1, 3, 4, 2]
    assert all(is_done(out, shard) for shard in shards)


def test_a_shard_made_on_another_disk_is_copied_whole(
    images: Path, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:  # noqa: S108
        pytest.skip("needs a second disk")
    found, shards = plan(images, extractor)
    run_shard(shards[0], tmp_path / "out", extractor, found)
    work = Path("/dev/shm") / f"lesion-work-{os.getpid()}"  # noqa: S108
    try:
        run_shard(shards[1], tmp_path / "out", extractor, found, work=work)
        assert is_done(tmp_path / "out", shards[1])
        assert not [place for place in work.iterdir() if place.suffix != ".lock"]
    finally:
        for place in work.iterdir():
            place.unlink()
        work.rmdir()


def test_a_full_disk_is_one_sentence_and_loses_nothing_that_was_done(
    images: Path, extractor: Extractor, small_disk: Path
) -> None:
    # Of the disk's 512 kB each shard takes 270, and some more while it is made.
    out = small_disk / "shards"
    (small_disk / "ballast").unlink()
    results: list[ShardResult] = []
    found, shards = plan(images, extractor)
    with pytest.raises(CacheError, match=r"can't be written \(the disk is full\)"):
        results.extend(run_shards(shards, FolderShards(out), extractor, found, dtype="float16"))
    assert [result.number for result in results] == [1]
    assert [is_done(out, shard) for shard in shards] == [True, False, False, False]
    mount = shutil.which("mount") or "mount"
    subprocess.run([mount, "-o", "remount,size=8m", str(small_disk)], check=True)
    again = make(images, extractor, out)
    assert [result.was_done for result in again] == [True, False, False, False]
    assert sum(result.rows for result in again) == 16
    embedded = [result.outcome.embedded for result in again if result.outcome]
    # What of the second was embedded before the disk was full is taken up.
    assert sum(embedded) < 16 - results[0].rows


def test_places_where_shards_can_t_be_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "features.h5", tmp_path / "none" / "shards", tmp_path):
        (tmp_path / "picture.jpg").touch()
        with pytest.raises(CacheError) as caught:
            require_place_for_shards(place)
        assert str(caught.value).endswith(
            {
                "features.h5": f"give one, such as --out {tmp_path / 'features'}",
                "shards": "make that, or choose another place",
            }.get(place.name, "choose a folder of their own for them")
        )
    require_place_for_shards(tmp_path / "shards")
    assert (tmp_path / "shards").is_dir()


def test_publishing_replaces_in_one_step(tmp_path: Path) -> None:
    work, place = tmp_path / "work", tmp_path / "place"
    for folder in (work, place):
        folder.mkdir()
        (folder / "a.h5").write_bytes(folder.name.encode())
    publish(work / "a.h5", place)
    assert ((place / "a.h5").read_bytes(), (work / "a.h5").exists()) == (b"work", False)


def test_numbers_are_equal_bit_for_bit_whatever_the_number_of_shards(
    images: Path, extractor: Extractor, tmp_path: Path
) -> None:
    found = find_images(images)
    for of in (1, 3):
        shards = into_shards(found.items, extractor.spec.fingerprint, root=found.root, of=of)
        list(run_shards(shards, FolderShards(tmp_path / str(of)), extractor, found))
    one, three = (by_path(*(tmp_path / str(of)).glob("*.h5")) for of in (1, 3))
    assert one == three
    assert len(np.unique([about[-1] for about in one.values()])) == 16
