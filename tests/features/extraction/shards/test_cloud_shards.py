"""Shards at an address of a real S3 server: put whole, marked last, taken up by other machines."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from features.cache.commands import inspect, verify
from features.cache.contents import read_features
from features.datasets.folders import Dataset, find_images
from features.embedding.extractor import Extractor
from features.errors import CacheError, StorageError
from features.extraction.shards import Shard, into_shards
from features.extraction.shards.cloud import CloudShards, state_for
from features.extraction.shards.local import run_shards
from features.extraction.shards.running import ShardResult
from features.storage.addresses import as_place
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
