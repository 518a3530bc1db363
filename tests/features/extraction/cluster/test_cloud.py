"""Images and shards in a bucket of a real S3 server, and the nodes of a cluster that reach it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale.machines import Machines
from features.cache.contents import read_features
from features.datasets.folders import find_images
from features.embedding.extractor import Extractor
from features.errors import ClusterError, StorageError
from features.extraction.cluster.ownership import owned
from features.extraction.cluster.word import hear, spoken
from features.extraction.cluster.worker import as_row
from features.extraction.shards import into_shards
from features.extraction.shards.cloud import CloudShards, CloudShardsOfProcess, state_for
from features.extraction.shards.local import run_shards
from features.storage.addresses import as_place
from features.storage.fetching import fetch_folder
from tests.conftest import Run
from tests.features.extraction.test_loop import SPEC, Mean
from tests.features.storage.clouds import DENIED, Fault, Proxy
from tests.features.storage.servers import BUCKET, call
from tests.pictures import image_bytes

PLACE = as_place(f"s3://{BUCKET}/features")
SHARDS = 4
OPTIONS = (
    *("--network", "mobilenet", "--weights", "untrained", "--recipe", "fast", "--size", "32"),
    *("--shards", str(SHARDS)),
)


def keys() -> set[str]:
    found = call("list_objects_v2", Bucket=BUCKET, Prefix="features/").get("Contents", ())
    return {each["Key"].rpartition("/")[2] for each in found}


def test_a_second_run_at_an_address_is_refused_and_a_dead_one_s_claim_is_taken_over(
    s3: Proxy, put: Callable[[str, bytes], str]
) -> None:
    with owned(PLACE, 2.0) as claim:
        told = rf"another run is at work in {PLACE} \(process {os.getpid()} on .+\)"
        with pytest.raises(ClusterError, match=told), owned(PLACE, 2.0):
            pass
        written = call("get_object", Bucket=BUCKET, Key="features/.cluster.lock")["Body"]
        assert written is not None
        assert claim.compromise is None
        # Another one took it over, as after a pause of this machine.
        put("features/.cluster.lock", b'{"token":"x","process":1,"host":"h","place":"p","time":0}')
        deadline = time.monotonic() + 5
        while claim.compromise is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert claim.compromise == "another run has it"
    # That one was never heard of again.
    assert keys() == {".cluster.lock"}
    begun = time.monotonic()
    with owned(PLACE, 1.0):
        assert time.monotonic() - begun >= 1.0
    assert keys() == set()


def test_a_word_at_an_address_is_read_where_it_can_be_and_answered(s3: Proxy) -> None:
    with spoken(PLACE) as word:
        assert len(hear(word)) == 32
        s3.faults.append(Fault("PUT", ".cluster.answer", "status", status=403, body=DENIED))
        with pytest.raises(StorageError, match=r"\.cluster\.answer is refused"):
            hear(word)
    assert hear(word) == ""
    assert keys() == set()


def test_processes_take_up_what_others_made_and_never_share_a_folder(
    s3: Proxy, put: Callable[[str, bytes], str]
) -> None:
    for number in range(8):
        put(f"images/{number}.jpg", image_bytes(number))
    found = find_images(as_place(f"s3://{BUCKET}/images"))
    parts = into_shards(
        found.items, SPEC.fingerprint, root=found.root, of=SHARDS, state=state_for(found)
    )
    sent = [part.with_key() for part in parts]
    assert [part.key for part in sent] == [part.key for part in parts]
    assert as_row(parts[0])["number"] == 1
    extractor = Extractor(SPEC, lambda size: Mean(16))
    one, other = CloudShardsOfProcess(PLACE), CloudShardsOfProcess(PLACE)
    assert one.folder != other.folder
    for process, part in zip((one, other, one, other), sent, strict=True):
        process.bring([part])
        assert not process.make(part, extractor, found).was_done
    s3.asked.clear()
    for part in sent:
        one.bring([part])
        assert one.make(part, extractor, found).was_done
    assert s3.count("PUT", "") == s3.count("GET", ".jpg") == s3.count("GET", ".h5") == 0
    assert s3.count("GET", "list-type") == 0
    assert all(each.was_done for each in run_shards(parts, CloudShards(PLACE), extractor, found))
    # What the other one changed is what this one goes on from.
    put("images/8.jpg", image_bytes(8))
    found = find_images(as_place(f"s3://{BUCKET}/images"))
    for part in into_shards(
        found.items, SPEC.fingerprint, root=found.root, of=SHARDS, state=state_for(found)
    ):
        other.bring([part])
        result = other.make(part, extractor, found)
        assert result.outcome is None or result.outcome.embedded == 1
    assert len(read_features(fetch_folder(PLACE)).items) == 9


@pytest.mark.slow
def test_a_cluster_s_nodes_read_and_write_a_bucket(
    s3: Proxy,
    put: Callable[[str, bytes], str],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray.data")
    here = tmp_path / "images"
    here.mkdir()
    for number in range(24):
        data = image_bytes(number)
        (here / f"{number}.jpg").write_bytes(data)
        put(f"images/{number}.jpg", data)

    def extracted(*words: object) -> tuple[int, str]:
        done = run("extract_features.py", *words, *OPTIONS)
        return done.returncode, done.stdout + done.stderr

    machines = Machines()
    try:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(extracted, here, "--out", tmp_path / "alone")
            machines.add()
            machines.add()
        assert first.result()[0] == 0
        alone = read_features(tmp_path / "alone")
        words = (f"s3://{BUCKET}/images", "--out", PLACE, "--cluster", machines.address)
        status, told = extracted(*words)
        assert status == 0, told
        assert re.search(rf"{SHARDS} shards made on [12] nodes?, 0 done before: 24 embed", told)
        assert keys() == {
            f"shard-{number:05d}-of-{SHARDS:05d}.{kind}"
            for number in range(1, SHARDS + 1)
            for kind in ("h5", "json")
        }
        features = read_features(fetch_folder(PLACE))
        assert sorted(features.items.path) == sorted(alone.items.path)
        for sha256, row in zip(features.items.sha256, features.items.row, strict=True):
            (at,) = np.flatnonzero(alone.items.sha256 == sha256)
            np.testing.assert_array_equal(
                features.embeddings[row], alone.embeddings[alone.items.row[at]]
            )
        s3.asked.clear()
        status, told = extracted(*words)
        assert status == 0, told
        assert f"0 shards made on no node, {SHARDS} done before" in told
        assert s3.count("PUT", "shard-") == s3.count("GET", ".jpg") == s3.count("GET", ".h5") == 0
        # A node that has no credentials.
        with monkeypatch.context() as there:
            there.delenv("AWS_ACCESS_KEY_ID")
            there.delenv("AWS_SECRET_ACCESS_KEY")
            machines.add()
        status, told = extracted(*words)
        assert status == 1
        assert re.search(r"error: node \S+ can't use the store: \S+ is refused \(.*\): check", told)
        assert "Traceback" not in told
    finally:
        machines.close()
