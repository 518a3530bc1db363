"""Shards at an address of a real S3 server: put whole, marked last, taken up by other machines."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from features.audit.command import audit
from features.cache.commands import inspect, verify
from features.cache.contents import read_features
from features.datasets.folders import Dataset, find_images
from features.embedding.extractor import Extractor
from features.errors import CacheError, LesionError, StorageError
from features.extraction.shards import Shard, into_shards
from features.extraction.shards.cloud import CloudShards, state_for
from features.extraction.shards.local import run_shards
from features.extraction.shards.running import ShardBusy, ShardResult
from features.storage import listing
from features.storage.addresses import as_place
from features.storage.fetching import named
from features.storage.objects import read_object
from features.storage.options import FEATURES
from tests.features.extraction.test_loop import SPEC, Mean
from tests.features.storage.clouds import DENIED, Fault, Proxy
from tests.features.storage.servers import BUCKET, call
from tests.pictures import image_bytes

PLACE = f"s3://{BUCKET}/features"
OF = 4


@pytest.fixture
def images(put: Callable[[str, bytes], str]) -> str:
    for number in range(12):
        put(f"images/{number}.jpg", image_bytes(number))
    return f"s3://{BUCKET}/images"


def planned(images: str) -> tuple[Dataset, list[Shard]]:
    found = find_images(as_place(images))
    parts = into_shards(
        found.items, SPEC.fingerprint, root=found.root, of=OF, state=state_for(found)
    )
    return found, parts


def run(images: str) -> list[ShardResult]:
    found, parts = planned(images)
    extractor = Extractor(SPEC, lambda size: Mean(16))
    return list(run_shards(parts, CloudShards(as_place(PLACE)), extractor, found))


def keys() -> set[str]:
    found = call("list_objects_v2", Bucket=BUCKET, Prefix="features/").get("Contents", ())
    return {each["Key"].rpartition("/")[2] for each in found}


def test_shards_are_put_whole_and_what_is_done_costs_nothing(
    s3: Proxy, images: str, put: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    made = run(images)
    assert sum(result.rows for result in made) == 12
    shards = [f"shard-{number:05d}-of-{OF:05d}" for number in range(1, OF + 1)]
    names = {f"{shard}.{kind}" for shard in shards for kind in ("h5", "json")}
    assert keys() == names
    puts = [path for method, path in s3.asked if method == "PUT" and "/features/" in path]
    assert len(puts) == 2 * OF
    assert [path.endswith(".json") for path in puts] == [False, True] * OF
    # On another machine.
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "other machine"))
    s3.asked.clear()
    assert all(result.was_done for result in run(images))
    assert s3.count("PUT", "") == s3.count("GET", ".jpg") == s3.count("GET", ".h5") == 0
    # An image that changes costs its shard; the others of it are not embedded again.
    put("images/3.jpg", image_bytes(50))
    again = run(images)
    (changed,) = [result for result in again if not result.was_done]
    assert changed.outcome is not None
    assert changed.outcome.embedded == 1
    # A file that is not the one of its mark is made again.
    put(f"features/shard-00001-of-{OF:05d}.h5", b"damaged")
    assert [result.was_done for result in run(images)] == [False, True, True, True]
    assert all(result.was_done for result in run(images))


def test_a_folder_of_shards_in_the_cloud_is_read_as_one_file(s3: Proxy, images: str) -> None:
    run(images)
    shown = CliRunner().invoke(inspect, [PLACE])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"^images +12\b", shown.output, re.MULTILINE), shown.output
    checked = CliRunner().invoke(verify, [f"{PLACE}/"])
    assert checked.exit_code == 0, checked.output
    features = read_features(FEATURES.convert(PLACE, None, None))
    assert len(features.items) == 12
    assert features.images == images
    s3.asked.clear()
    FEATURES.convert(PLACE, None, None)
    assert s3.count("GET", "shard-") == 0


def test_a_run_that_ends_between_file_and_mark_is_taken_up(s3: Proxy, images: str) -> None:
    s3.faults.append(
        Fault("PUT", f"shard-00002-of-{OF:05d}.json", "status", status=403, body=DENIED)
    )
    with pytest.raises(StorageError, match=r"is refused.*is put next time"):
        run(images)
    assert f"shard-00002-of-{OF:05d}.json" not in keys()
    again = run(images)
    assert again[0].was_done
    assert sum(result.outcome.embedded for result in again[:2] if result.outcome) == 0
    assert len(keys()) == 2 * OF


def test_a_folder_of_something_else_is_refused(
    s3: Proxy, images: str, put: Callable[[str, bytes], str]
) -> None:
    with pytest.raises(CacheError, match=r"holds other files \(such as 0.jpg\)"):
        CloudShards(as_place(images))
    with pytest.raises(StorageError, match="can be read and not written"):
        CloudShards(as_place("https://host/features"))


def others(folder: Path) -> set[str]:
    return {
        path.name for path in folder.iterdir() if path.name[0] != "." and path.suffix != ".json"
    }


def test_two_processes_of_a_machine_make_different_shards_beside_each_other(
    s3: Proxy, images: str
) -> None:
    found, parts = planned(images)
    extractor = Extractor(SPEC, lambda size: Mean(16))
    made: list[ShardResult] = []

    def meanwhile() -> None:
        second = CloudShards(as_place(PLACE))
        with pytest.raises(ShardBusy, match="another process is making shard 1 of 4"):
            second.make(parts[0], extractor, found)
        made.append(second.make(parts[1], extractor, found))
        # One that was brought up to date before is told what was done since.
        made.append(second.make(parts[1], extractor, found))

    late = CloudShards(as_place(PLACE))
    s3.faults.append(Fault("PUT", "shard-00001-of-00004.h5", "slow", before=meanwhile))
    first = CloudShards(as_place(PLACE))
    made.append(first.make(parts[0], extractor, found))
    assert [(each.number, each.was_done) for each in made] == [(2, False), (2, True), (1, False)]
    for number in (0, 1):
        assert late.make(parts[number], extractor, found).was_done
    assert {name.partition("-of-")[0] for name in keys()} == {"shard-00001", "shard-00002"}
    assert others(first.folder) == set()
    assert sum(result.rows for result in run(images)) == 12
    checked = CliRunner().invoke(verify, [PLACE])
    assert checked.exit_code == 0, checked.output


def test_a_second_process_does_not_put_an_old_mark_in_place_of_one_that_is_being_made(
    s3: Proxy, images: str, put: Callable[[str, bytes], str]
) -> None:
    run(images)
    put("images/3.jpg", image_bytes(50))
    listing._LISTED.clear()
    s3.faults.append(
        Fault("PUT", ".h5", "slow", before=lambda: CloudShards(as_place(PLACE)), times=1)
    )
    assert sum(not result.was_done for result in run(images)) == 1
    assert all(result.was_done for result in run(images))
    checked = CliRunner().invoke(verify, [PLACE])
    assert checked.exit_code == 0, checked.output


def test_what_is_said_of_a_copy_names_the_address(
    s3: Proxy, images: str, put: Callable[[str, bytes], str], tmp_path: Path
) -> None:
    run(images)

    def told(command: click.Command, *words: str) -> tuple[str, str]:
        done = CliRunner().invoke(command, words)
        said = done.output + named(str(done.exception or ""))
        assert str(tmp_path / "kept") not in said
        return said, json.loads(done.output)["file"] if words[-1] == "--json" else ""

    assert told(verify, PLACE)[0] == f"{PLACE}: every byte is as it was written\n"
    assert re.search(rf"^file +{PLACE} \(", told(inspect, PLACE)[0], re.MULTILINE)
    for command in (verify, inspect):
        assert told(command, PLACE, "--json")[1] == PLACE
    found = tmp_path / "audit.json"
    told(audit, PLACE, "--groups", "none", "--json", str(found))
    assert json.loads(found.read_text(encoding="utf-8"))["file"] == PLACE
    one = f"{PLACE}/shard-00002-of-00004.h5"
    assert told(verify, one)[0] == f"{one}: every byte is as it was written\n"
    before = read_object(one, 10**8).data
    put(one.partition(f"{BUCKET}/")[2], before[:-1] + bytes([before[-1] ^ 1]))
    assert f"{one} was altered after it was written" in told(verify, one)[0]
    assert (
        f"{PLACE} was altered after it was written (damaged: shard-00002" in told(verify, PLACE)[0]
    )
    # What lies beside a copy is of this machine.
    copy = str(FEATURES.convert(one, None, None))
    assert named(f"{copy}; {copy}.csv, {copy}") == f"{one}; {copy}.csv, {one}"


@pytest.mark.parametrize("free", [12_000, 60_000])
def test_a_full_disk_of_this_machine_is_told_and_what_was_put_stays(
    s3: Proxy,
    images: str,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
) -> None:
    (small_disk / "more").write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
    monkeypatch.setenv("LESION_CACHE", str(small_disk / "kept"))
    with pytest.raises(LesionError, match=r"(No space left on device|the disk is full)"):
        run(images)
    there = {name for name in keys() if name.endswith(".json")}
    for name in ("more", "ballast"):
        (small_disk / name).unlink()
    again = run(images)
    assert sum(result.was_done for result in again) == len(there)
    assert sum(result.rows for result in again) == 12
    assert len(keys()) == 2 * OF
