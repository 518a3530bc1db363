"""Stores in the cloud, as they are to those who ask: real servers on this machine."""

from __future__ import annotations

import functools
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from features.storage import filesystems, listing
from features.storage.addresses import address_of
from features.storage.listing import list_below
from features.storage.objects import remove
from tests.features.storage.clouds import Proxy

__all__ = ["BUCKET", "anew", "azure", "call", "google", "other", "proxy", "put", "s3", "web"]

BUCKET = "pictures"
# Everybody's: Azurite knows no other.
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@pytest.fixture(scope="session")
def proxy() -> Iterator[Proxy]:
    pytest.importorskip("s3fs", reason="needs s3fs (the extra s3)")
    server = pytest.importorskip("moto.server", reason="needs moto, the S3 server of the tests")
    pytest.importorskip("flask_cors", reason="needs flask-cors, for moto's server")
    moto = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    with Proxy(moto.get_host_and_port()[1]) as before_it:
        yield before_it
        before_it.shutdown()
    moto.stop()


@pytest.fixture
def s3(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """The proxy before an S3 server that has one empty bucket, which the environment leads to."""
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "the-secret-key-of-the-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "LESION_CACHE": str(tmp_path / "kept"),
    }.items():
        monkeypatch.setenv(name, value)
    proxy.reset()
    listing._LISTED.clear()
    call("create_bucket", Bucket=BUCKET)
    yield proxy
    proxy.reset()
    for page in call("list_objects_v2", Bucket=BUCKET).get("Contents", ()):
        call("delete_object", Bucket=BUCKET, Key=page["Key"])


@pytest.fixture
def anew(s3: Proxy) -> Iterator[Callable[[], None]]:
    """Connects anew, with the settings there are now; afterwards all do."""
    yield forget
    forget()


@pytest.fixture
def put(s3: Proxy) -> Callable[[str, bytes], str]:
    """Write an object beside the code that is tested; gives its address."""

    def write(key: str, data: bytes) -> str:
        call("put_object", Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"

    return write


def call(method: str, **values: Any) -> Any:
    """Ask the store itself something."""
    from features.storage.addresses import Address

    return filesystems.filesystem(Address("s3", BUCKET)).call_s3(method, **values)


def forget() -> None:
    """Forget connections and listings, as another process would not have them."""
    filesystems._filesystem.cache_clear()
    listing._LISTED.clear()


@pytest.fixture(scope="session")
def google() -> Iterator[Proxy]:
    """The proxy before a server that does as Google Cloud Storage, but for pages and conditions."""
    pytest.importorskip("gcsfs", reason="needs gcsfs (the extra gcs)")
    emulator = pytest.importorskip(
        "gcp_storage_emulator.server", reason="needs gcp-storage-emulator, Google's of the tests"
    )
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    with Proxy(server._api._httpd.server_address[1]) as before_it:
        yield before_it
        before_it.shutdown()
    server.stop()


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy before Azurite, Microsoft's own server for tests (`npm install -g azurite`)."""
    pytest.importorskip("adlfs", reason="needs adlfs (the extra azure)")
    if (program := shutil.which("azurite-blob")) is None:
        pytest.skip("needs azurite-blob, Azure's server of the tests, on the PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--inMemoryPersistence", "--silent", "--loose", "--skipApiVersionCheck"]
    place = tmp_path_factory.mktemp("azurite")
    server = subprocess.Popen([program, "--blobPort", str(port), *words], cwd=place)
    try:
        for _ in range(200):
            assert server.poll() is None
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        with Proxy(port) as before_it:
            yield before_it
            before_it.shutdown()
    finally:
        # What it has is in memory; asked to end, it waits for connections to close.
        server.kill()
        server.wait()


@pytest.fixture(params=["gs", "az"])
def other(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[str, Proxy]]:
    """An empty bucket of a store that is not S3, by its address, and the proxy before it."""
    scheme: str = request.param
    proxy: Proxy = request.getfixturevalue("google" if scheme == "gs" else "azure")
    proxy.reset()
    monkeypatch.setenv("LESION_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURE_KEY};"
        f"BlobEndpoint={proxy.url}/devstoreaccount1;",
    )
    forget()
    place = f"{scheme}://{BUCKET}"
    if scheme == "az":
        made = filesystems.filesystem(address_of(place))
        if not made.exists(BUCKET):
            made.mkdir(BUCKET)
    proxy.reset()
    yield place, proxy
    proxy.reset()
    for name in list_below(place).names:
        remove(f"{place}/{name}")
    forget()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server, by its address and the folder that it shows."""
    pytest.importorskip("aiohttp", reason="needs aiohttp (the extra https)")
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with server:
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
