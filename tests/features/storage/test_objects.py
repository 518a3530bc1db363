"""Objects of a real S3 server: read whole, listed by pages, written at once; and its faults."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from features.errors import StorageError
from features.storage import filesystems, listing
from features.storage.fetching import fetch, fetch_folder
from features.storage.listing import is_listed, learn, list_below, states_of
from features.storage.objects import look_up, put_file, put_new, read_object, remove
from features.storage.stores import s3 as stores_s3
from tests.features.storage.clouds import DENIED, Fault, Proxy
from tests.features.storage.servers import BUCKET, call

Put = Callable[[str, bytes], str]
LIMIT = 10**6


def test_an_object_is_read_by_one_request(s3: Proxy, put: Put) -> None:
    place = put("a folder/münchen & co.jpg", b"pixels")
    s3.asked.clear()
    found = read_object(place, LIMIT)
    assert found.data == b"pixels"
    assert found.state == look_up(place)
    assert [method for method, _ in s3.asked] == ["GET", "HEAD"]


@pytest.mark.parametrize("kind", ["status", "cut"])
def test_what_passes_is_waited_for(s3: Proxy, put: Put, kind: str) -> None:
    place = put("a.jpg", bytes(range(256)) * 400)
    s3.asked.clear()
    s3.faults.append(Fault("GET", "a.jpg", kind, times=1))
    assert read_object(place, LIMIT).data == bytes(range(256)) * 400
    assert s3.count("GET", "a.jpg") == 2


def test_what_does_not_pass_is_given_up_in_a_sentence(
    s3: Proxy, put: Put, monkeypatch: pytest.MonkeyPatch, anew: Callable[[], None]
) -> None:
    monkeypatch.setattr(filesystems, "TRIES", 2)
    anew()
    place = put("a.jpg", bytes(10_000))
    s3.faults.append(Fault("GET", "a.jpg", "cut", times=99))
    with pytest.raises(StorageError, match=r"s3://pictures/a\.jpg gave no good answer, how"):
        read_object(place, LIMIT)
    s3.faults[:] = [Fault("GET", "a.jpg", "status", times=99)]
    with pytest.raises(StorageError, match="gave no good answer") as refused:
        read_object(place, LIMIT)
    assert refused.value.kind == "unreachable"


def test_a_silent_server_is_given_up(
    s3: Proxy, put: Put, monkeypatch: pytest.MonkeyPatch, anew: Callable[[], None]
) -> None:
    place = put("a.jpg", b"pixels")
    monkeypatch.setattr(filesystems, "TRIES", 1)
    monkeypatch.setattr(filesystems, "SILENT_SECONDS", 0.2)
    anew()
    s3.faults.append(Fault("GET", "a.jpg", "slow", times=99, seconds=3))
    started = time.monotonic()
    with pytest.raises(StorageError, match="gave no good answer"):
        read_object(place, LIMIT)
    assert time.monotonic() - started < 2.5


def test_what_is_missing_refused_or_too_large_is_told_apart(s3: Proxy, put: Put) -> None:
    place = put("a.jpg", b"pixels")
    with pytest.raises(StorageError, match="there is nothing at s3://pictures/b") as missing:
        read_object(f"s3://{BUCKET}/b.jpg", LIMIT)
    assert missing.value.kind == "missing"
    with pytest.raises(StorageError, match="more than") as large:
        read_object(place, 3)
    assert large.value.kind == "too_large"
    with pytest.raises(StorageError, match="there is no bucket other") as nowhere:
        list_below("s3://other/images")
    assert nowhere.value.kind == "no_bucket"
    s3.faults.append(Fault("GET", "list-type", "status", status=403, body=DENIED))
    with pytest.raises(StorageError, match=r"is refused .*check the credentials") as refused:
        list_below(f"s3://{BUCKET}/images")
    assert refused.value.kind == "refused"


def test_without_credentials_it_is_said_where_they_are_looked_for(
    s3: Proxy, monkeypatch: pytest.MonkeyPatch, anew: Callable[[], None]
) -> None:
    with monkeypatch.context() as without:
        without.delenv("AWS_ACCESS_KEY_ID")
        without.delenv("AWS_SECRET_ACCESS_KEY")
        anew()
        with pytest.raises(StorageError, match=r"refused.*AWS_ACCESS_KEY_ID") as refused:
            list_below(f"s3://{BUCKET}/images")
    anew()
    assert refused.value.kind == "refused"


def test_a_listing_comes_by_pages_with_what_tells_a_change(
    s3: Proxy, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores_s3, "PAGE", 2)
    for name in ("b.jpg", "a.jpg", "train/c.jpg", "train/d.jpg", "e.jpg"):
        put(f"images/{name}", name.encode())
    put("images-of-others/f.jpg", b"f")
    put("images/empty/", b"")
    s3.asked.clear()
    found = list_below(f"s3://{BUCKET}/images")
    assert found.names == ["a.jpg", "b.jpg", "e.jpg", "train/c.jpg", "train/d.jpg"]
    assert s3.count("GET", "list-type") == 3
    before = states_of(f"s3://{BUCKET}/images", found.names)
    assert len(set(before)) == 5
    assert 0 not in before
    s3.asked.clear()
    put("images/a.jpg", b"other")
    listing._LISTED.clear()
    after = states_of(f"s3://{BUCKET}/images", [*found.names, "gone.jpg"])
    assert [one == other for one, other in zip(before, after, strict=False)] == [False, *[True] * 4]
    assert after[-1] == 0
    assert s3.count("HEAD", "") == 6


def test_a_copy_is_kept_while_the_object_stays_as_it_is(s3: Proxy, put: Put) -> None:
    place = put("weights/net.h5", b"one")
    first = fetch(place)
    assert (first.name, first.read_bytes()) == ("net.h5", b"one")
    s3.asked.clear()
    assert fetch(place) == first
    assert s3.count("GET", "net.h5") == 0
    put("weights/net.h5", b"two")
    assert fetch(place).read_bytes() == b"two"
    right = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    assert fetch(f"{place}#sha256={right}").read_bytes() == b"two"
    with pytest.raises(StorageError, match="not the file that was meant"):
        fetch(f"{place}#sha256={'0' * 64}")


def test_a_copy_of_a_folder_follows_it(s3: Proxy, put: Put) -> None:
    for name in ("a.h5", "a.json", "b.h5"):
        put(f"shards/{name}", name.encode())
    folder = fetch_folder(f"s3://{BUCKET}/shards")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        name: name.encode() for name in ("a.h5", "a.json", "b.h5")
    }
    put("shards/a.h5", b"anew")
    call("delete_object", Bucket=BUCKET, Key="shards/b.h5")
    s3.asked.clear()
    assert fetch_folder(f"s3://{BUCKET}/shards") == folder
    assert {file.name for file in folder.iterdir()} == {"a.h5", "a.json"}
    assert (folder / "a.h5").read_bytes() == b"anew"
    assert [path for method, path in s3.asked if method == "GET" and "/shards/" in path] == [
        "/pictures/shards/a.h5"
    ]
    with pytest.raises(StorageError, match="nothing lies below"):
        fetch_folder(f"s3://{BUCKET}/nothing")


def test_a_file_is_written_at_once_with_its_hash(s3: Proxy, tmp_path: Path) -> None:
    file = tmp_path / "f.h5"
    file.write_bytes(bytes(100_000))
    s3.asked.clear()
    put_file(file, f"s3://{BUCKET}/out/f.h5", sha256="12ab")
    assert [method for method, _ in s3.asked] == ["PUT", "HEAD"]
    found = call("head_object", Bucket=BUCKET, Key="out/f.h5")
    assert found["Metadata"] == {"sha256": "12ab"}
    assert found["ContentLength"] == 100_000


def test_the_web_is_read_and_neither_listed_nor_written(web: tuple[str, Path]) -> None:
    url, folder = web
    (folder / "a b.jpg").write_bytes(b"pixels")
    assert read_object(f"{url}/a b.jpg", LIMIT).data == b"pixels"
    assert fetch(f"{url}/a b.jpg").read_bytes() == b"pixels"
    with pytest.raises(StorageError, match="there is nothing at"):
        read_object(f"{url}/b.jpg", LIMIT)
    with pytest.raises(StorageError, match=r"can't be listed.*give a table or a list"):
        list_below(f"{url}/images")
    with pytest.raises(StorageError, match="can be read and not written"):
        put_file(folder / "a b.jpg", f"{url}/c.jpg")


def test_of_two_who_write_where_nothing_lies_one_is_told_that_it_did_not(
    s3: Proxy, put: Put
) -> None:
    place = f"s3://{BUCKET}/claim"
    # The other one comes between the look and the writing.
    s3.faults.append(Fault("PUT", "claim", "slow", before=lambda: put("claim", b"other")))
    assert not put_new(b"mine", place)
    assert read_object(place, 10).data == b"other"
    assert not put_new(b"mine", place)
    remove(place)
    remove(place)
    assert put_new(b"mine", place)
    assert read_object(place, 10).data == b"mine"


def test_what_a_listing_tells_is_not_asked_for_one_by_one(
    s3: Proxy, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores_s3, "PAGE", 8)
    monkeypatch.setattr(listing, "_NAMES_A_PAGE", 4)
    for number in range(20):
        put(f"{'one' if number % 2 else 'two'}/{number:02}.jpg", b"x")
    names = [f"{'one' if number % 2 else 'two'}/{number:02}.jpg" for number in range(20)]
    base = f"s3://{BUCKET}"
    # Two folders were listed, and it is asked for what is in both.
    for folder in ("one", "two"):
        list_below(f"{base}/{folder}")
    s3.asked.clear()
    learn(base, names)
    marks = states_of(base, names)
    assert (0 in marks, s3.asked) == (False, [])
    assert (is_listed(f"{base}/one/01.jpg"), is_listed(f"{base}/one/99.jpg")) == (True, False)
    assert is_listed(f"{base}/three/01.jpg") is None
    # A table named all of them, and nothing was listed: three pages of eight.
    listing._LISTED.clear()
    learn(base, names)
    assert (states_of(base, names), len(s3.asked)) == (marks, 3)
    # What was not asked for may be there all the same.
    assert is_listed(f"{base}/one/99.jpg") is None
    # Of many keys a few are wanted: each is asked for, after a page of them.
    listing._LISTED.clear()
    s3.asked.clear()
    learn(base, names[:3])
    assert states_of(base, names[:3]) == marks[:3]
    assert (s3.count("GET", ""), s3.count("HEAD", "")) == (1, 2)
