"""Addresses are told from paths, and secrets in them are refused and never shown."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from features.errors import StorageError
from features.storage import filesystems
from features.storage.addresses import (
    RemotePath,
    address_of,
    as_place,
    full_name,
    is_remote,
    without_secrets,
)
from features.storage.objects import look_up
from features.storage.options import PLACE

HIDDEN = "wJalrXUtnFEMI"
WITH_SECRETS = (
    f"s3://AKIAABCDEFGHIJKLMNOP:{HIDDEN}@bucket/images",
    f"https://me:{HIDDEN}@host/a.zip",
    f"https://bucket.s3.amazonaws.com/a.zip?X-Amz-Expires=60&X-Amz-Signature={HIDDEN}",
    f"https://account.blob.core.windows.net/c/a.zip?sv=2024&sig={HIDDEN}",
    f"https://storage.googleapis.com/b/a.zip?GoogleAccessId=x&Signature={HIDDEN}",
    f"https://host/a.zip?access_token={HIDDEN}",
)


def test_a_path_of_an_address_keeps_its_slashes() -> None:
    place = as_place("s3://bucket/images")
    assert isinstance(place, RemotePath)
    assert str(place / "train/1.jpg") == "s3://bucket/images/train/1.jpg"
    assert os.path.join(place, "1.jpg") == "s3://bucket/images/1.jpg"
    assert (place.name, str(place.parent)) == ("images", "s3://bucket")
    assert str(pickle.loads(pickle.dumps(place))) == str(place)  # noqa: S301
    assert is_remote(Path("s3://bucket/images"))
    assert full_name(Path("s3://bucket/images")) == "s3://bucket/images"
    assert full_name("images") == str(Path.cwd() / "images")
    assert as_place("images") == Path("images")
    assert not is_remote("C:/images")
    assert not is_remote("s3/images")


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_a_secret_is_refused_and_never_shown(text: str) -> None:
    for way in (address_of, as_place):
        with pytest.raises(StorageError, match="has a secret in it") as refused:
            way(text)
        assert HIDDEN not in str(refused.value)
    assert HIDDEN not in without_secrets(f"GET {text} failed")

    @click.command()
    @click.argument("place", type=PLACE)
    def command(place: Path) -> None:
        click.echo(place)

    shown = CliRunner().invoke(command, [text])
    assert shown.exit_code == 2
    assert HIDDEN not in shown.output
    # Also as `Path` writes it, with one slash.
    with pytest.raises(StorageError):
        address_of(Path(text))


def test_what_is_no_secret_is_left_in() -> None:
    for text in ("https://host/a.zip?versionId=12", "s3://bucket/a@b.jpg", "az://container/x=1"):
        assert str(address_of(text)) == text


def test_a_hash_behind_an_address_is_taken_apart() -> None:
    found = address_of(f"s3://bucket/a#1.h5#sha256={'AB' * 32}")
    assert (str(found), found.sha256) == ("s3://bucket/a#1.h5", "ab" * 32)
    with pytest.raises(StorageError, match="64 hexadecimal digits"):
        address_of("s3://bucket/a.h5#sha256=12ab")


def test_other_kinds_of_addresses_are_refused() -> None:
    with pytest.raises(StorageError, match=r"begins with ftp://, expected s3://"):
        as_place("ftp://host/images")


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [
        ("s3://bucket/a.h5", "s3fs", "s3"),
        ("gs://bucket/a.h5", "gcsfs", "gcs"),
        ("az://container/a.h5", "adlfs", "azure"),
        ("https://host/a.h5", "aiohttp", "https"),
    ],
)
def test_a_package_that_is_missing_is_named_with_how_to_get_it(
    address: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystems._filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        StorageError, match=rf"{package}.*pip install 'lesion-classifier\[{extra}\]'"
    ):
        look_up(address)
