"""Google's and Azure's stores, by servers of this machine: the same is true of them as of S3."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import extract_features
from features.cache.commands import export, inspect, merge, verify
from features.cache.contents import read_features
from features.embedding.extractor import Extractor
from features.errors import StorageError
from features.storage import filesystems
from features.storage.addresses import without_secrets
from features.storage.fetching import fetch
from features.storage.listing import list_below, states_of
from features.storage.objects import (
    download,
    look_up,
    put_bytes,
    put_file,
    put_new,
    read_object,
    remove,
)
from tests.features.extraction.test_loop import SPEC, Mean
from tests.features.storage.clouds import Fault, Proxy
from tests.features.storage.servers import AZURE_KEY, forget
from tests.pictures import image_bytes

# Of aiohttp, about how gcsfs and Azure's client send what is large.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")

Other = tuple[str, Proxy]
LIMIT = 10**8


def test_objects_are_written_read_listed_and_taken_away(other: Other, tmp_path: Path) -> None:
    base, proxy = other
    place = f"{base}/a folder/münchen & co#1.txt"
    put_bytes(b"first", place)
    first = look_up(place)
    assert (read_object(place, LIMIT).data, read_object(place, LIMIT).state) == (b"first", first)
    put_bytes(b"other", place)
    assert look_up(place) != first
    assert put_new(b"mine", f"{base}/claim")
    assert not put_new(b"yours", f"{base}/claim")
    # Large enough to be sent in pieces, which appear together.
    file = tmp_path / "large"
    file.write_bytes(os.urandom(7_000_000))
    put_file(file, f"{base}/b/large", sha256="ab" * 32)
    assert look_up(f"{base}/b/large").sha256 == "ab" * 32
    download(f"{base}/b/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    with pytest.raises(StorageError, match="has more than the 1 MB"):
        read_object(f"{base}/b/large", 10**6)
    proxy.asked.clear()
    assert list_below(base).names == ["a folder/münchen & co#1.txt", "b/large", "claim"]
    # By pages, not folder by folder; and no state is asked for again.
    assert 0 not in states_of(base, ["a folder/münchen & co#1.txt", "b/large", "claim"])
    assert len(proxy.asked) == 1
    assert list_below(f"{base}/b/").names == ["large"]
    remove(place)
    remove(place)
    with pytest.raises(StorageError, match="there is nothing at"):
        look_up(place)


def test_listings_go_on_where_the_page_before_ended(
    other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, proxy = other
    if base.startswith("gs"):
        pytest.skip("the emulator gives no pages")
    monkeypatch.setattr("features.storage.stores.azure.PAGE", 2)
    for number in range(5):
        put_bytes(b"x", f"{base}/many/{number}")
    proxy.asked.clear()
    assert list_below(f"{base}/many").names == list("01234")
    assert len(proxy.asked) == 3


@pytest.mark.parametrize("kind", ["status", "cut"])
def test_what_passes_is_waited_for(other: Other, kind: str) -> None:
    base, proxy = other
    put_bytes(bytes(range(256)) * 400, f"{base}/a.jpg")
    proxy.faults.append(Fault("GET", "a.jpg", kind, times=1, body=b""))
    assert read_object(f"{base}/a.jpg", LIMIT).data == bytes(range(256)) * 400


def test_what_changes_while_it_is_read_is_read_again(other: Other, tmp_path: Path) -> None:
    base, proxy = other
    place, file = f"{base}/a.h5", tmp_path / "file"
    put_bytes(b"first", place)
    what = "alt=media" if base.startswith("gs") else "a.h5"
    proxy.faults.append(Fault("GET", what, "slow", before=lambda: put_bytes(b"second", place)))
    download(place, file)
    assert file.read_bytes() == b"second"
    if base.startswith("az"):
        # As it tells of a piece of what was replaced after the first.
        gone = b"<Error><Code>ConditionNotMet</Code><Message>odd</Message></Error>"
        proxy.faults[:] = [Fault("GET", "a.h5", "status", status=412, body=gone)]
        assert read_object(place, LIMIT).data == b"second"
        assert sum("a.h5" in path and method == "GET" for method, path in proxy.asked) == 3


def test_failures_are_a_sentence_each_and_tell_no_secret(
    other: Other,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    base, proxy = other
    scheme = base.partition(":")[0]
    monkeypatch.setattr(filesystems, "TRIES", 2)
    place, file = f"{base}/a.jpg", tmp_path / "file"
    file.write_bytes(b"file")
    told: list[str] = []

    def refused(kind: str, match: str) -> None:
        for work in (
            lambda: look_up(place),
            lambda: read_object(place, LIMIT),
            lambda: list_below(base),
            lambda: put_bytes(b"x", place),
            lambda: put_file(file, place),
        ):
            with pytest.raises(StorageError, match=match) as error:
                work()
            assert error.value.kind == kind
            told.append(str(error.value))

    put_bytes(b"pixels", place)
    for status in (401, 403):
        proxy.faults[:] = [
            Fault(method, "", "status", times=99, status=status, body=b"")
            for method in ("GET", "HEAD", "PUT", "POST")
        ]
        refused("refused", rf"^{scheme}://\S+ is refused \(.*: check the credentials \(\w+")
    proxy.faults.clear()
    if scheme == "az":
        right = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", right.replace("Eby8", "AAAA"))
        forget()
        refused("refused", r"is refused \(Auth\w+\): check the credentials \(AZURE_STORAGE")
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", right)
        forget()
    else:
        proxy.faults[:] = [
            Fault("GET", "", "status", times=99, status=400, body=b'{"error": {"message": "odd"}}')
        ]
        with pytest.raises(StorageError, match=r"can't be used \(odd\)"):
            look_up(place)
        proxy.faults.clear()
    assert not re.search(re.escape(AZURE_KEY[4:20]), " ".join(told) + caplog.text)
    assert "Traceback" not in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_containers_and_buckets_that_are_not_there_are_named(other: Other, tmp_path: Path) -> None:
    base, _ = other
    scheme = base.partition(":")[0]
    kind = "container" if scheme == "az" else "bucket"
    (tmp_path / "file").write_bytes(b"file")
    for work in (
        lambda: look_up(f"{scheme}://nowhere/x"),
        lambda: read_object(f"{scheme}://nowhere/x", LIMIT),
        lambda: list_below(f"{scheme}://nowhere/x"),
        lambda: put_file(tmp_path / "file", f"{scheme}://nowhere/x"),
    ):
        with pytest.raises(
            StorageError, match=rf"there is no {kind} nowhere for {scheme}://"
        ) as no:
            work()
        assert no.value.kind == "no_bucket"


def test_a_server_that_stays_away_is_told(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    base, proxy = other
    monkeypatch.setattr(filesystems, "TRIES", 2)
    proxy.faults.append(Fault("GET", "a.jpg", "status", times=99, body=b""))
    proxy.faults.append(Fault("HEAD", "a.jpg", "status", times=99, body=b""))
    with pytest.raises(StorageError, match=r"gave no good answer, however often.*\(HTTP 503\)"):
        read_object(f"{base}/a.jpg", LIMIT)
    assert len(proxy.asked) == 2


def test_the_whole_use_of_addresses(
    other: Other, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, proxy = other
    for number in range(8):
        put_bytes(image_bytes(number), f"{base}/images/{number}.jpg")
    put_bytes(b"no picture", f"{base}/images/8.jpg")
    rows = "".join(f"{number},{'nevus' if number % 2 else 'melanoma'}\n" for number in range(9))
    put_bytes(b"image,dx\n" + rows.encode(), f"{base}/labels.csv")
    monkeypatch.setattr(
        "features.embedding.extractor.load_extractor",
        lambda *_, **__: Extractor(SPEC, lambda size: Mean(16)),
    )

    def command(main: object, *words: str) -> str:
        done = CliRunner().invoke(main, words)  # type: ignore[arg-type]
        assert done.exit_code == 0, f"{done.output} {done.exception!r}"
        return done.output

    def extract(*words: str) -> str:
        options = [f"{base}/images", "--labels", f"{base}/labels.csv", "--weights", "untrained"]
        return command(extract_features.main, *options, *words)

    out, shards = f"{base}/features.h5", f"{base}/shards"
    assert f"8 embedded, 0 known before, 1 failed: {out}" in extract("--out", out)
    proxy.asked.clear()
    # What is known is told by the listing: no image is asked for but the one that failed.
    assert f"0 embedded, 8 known before, 1 failed: {out}" in extract("--out", out)
    assert sum(".jpg" in path and "8.jpg" not in path for _, path in proxy.asked) == 0
    assert "2 shards made, 0 done before" in extract("--out", shards, "--shards", "2")
    assert "0 shards made, 2 done before" in extract("--out", shards, "--shards", "2")
    for place in (out, shards):
        assert re.search(r"^images +8\b", command(inspect, place), re.MULTILINE)
        assert "every byte is as it was written" in command(verify, place)
    both = tmp_path / "both.h5"
    assert "8 were in several files" in command(merge, out, shards, "--out", str(both))
    copy = f"{base}/both.h5"
    for _ in range(2):
        assert f"are in {copy}; 8 were" in command(merge, out, shards, "--out", copy, "--overwrite")
    assert read_features(fetch(copy)).items.path.tolist() == [f"{n}.jpg" for n in range(8)]
    refused = CliRunner().invoke(export, [out, f"{base}/labels.csv"])
    assert f"{base}/labels.csv exists: give another name" in str(refused.exception)
    assert f"are in {base}/all.npz" in command(export, shards, f"{base}/all.npz")
    assert look_up(f"{base}/all.npz").size > 8 * 4 * 4
    assert read_features(fetch(out)).images == f"{base}/images"
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert AZURE_KEY.encode() not in kept


@pytest.mark.parametrize(
    ("package", "place", "settings", "told"),
    [
        (
            "gcsfs",
            "gs://clinic/a.h5",
            {"GOOGLE_APPLICATION_CREDENTIALS": "bad.json", "NO_GCE_CHECK": "true"},
            "GOOGLE_APPLICATION_CREDENTIALS names no file of credentials that can be used",
        ),
        ("adlfs", "az://clinic/a.h5", {}, "AZURE_STORAGE_CONNECTION_STRING"),
        (
            "adlfs",
            "az://clinic/a.h5",
            {"AZURE_STORAGE_CONNECTION_STRING": "nonsense Eby8vdM02x"},
            "Connection string is either blank or malformed",
        ),
    ],
)
def test_credentials_that_can_t_be_used_are_told_without_a_request(
    package: str,
    place: str,
    settings: dict[str, str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip(package)
    for name in list(os.environ):
        if name.startswith(("AZURE_STORAGE", "STORAGE_EMULATOR")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text('{"type": "service_account", "private_key": "Eby8vdM02x"}')
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    forget()
    with pytest.raises(StorageError, match="check the credentials") as refused:
        look_up(place)
    assert refused.value.kind == "refused"
    assert told in str(refused.value)
    assert "Eby8vdM02x" not in str(refused.value)
    forget()


def test_keys_in_what_azure_says_are_blotted_out() -> None:
    for text in (
        f"DefaultEndpointsProtocol=https;AccountName=me;AccountKey={AZURE_KEY};EndpointSuffix=x",
        "BlobEndpoint=https://me.blob.core.windows.net;SharedAccessSignature=sv=2024&sig=Eby8vdM02x",
        "https://me.blob.core.windows.net/c/b?sv=2024-11-04&ss=b&srt=co&sp=rl&sig=Eby8vdM02x%3D",
    ):
        assert "Eby8vdM02x" not in without_secrets(f"can't connect to {text}")
        assert "AccountName=me" in without_secrets(text) or "AccountName" not in text
