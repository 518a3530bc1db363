"""What a million keys of a bucket cost: listed page by page, their hashes remembered by etag.

A server on this machine answers as S3 does, with pages of a thousand made-up keys; it has a
process of its own, whose time is not counted. `python -m benchmarks.scale.keys` needs the extra
`s3`.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from features.datasets.folders import find_images
from features.extraction.remembered import Remembered
from features.images.reading import remote_state
from features.storage.addresses import as_place
from features.storage.listing import states_of

PLACE = "s3://archive/images"
PAGE = 1_000


class Bucket(BaseHTTPRequestHandler):
    """A bucket with as many keys as the server was made with."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer ListObjectsV2 with the page that the token names."""
        asked = parse_qs(urlsplit(self.path).query)
        first = int(asked.get("continuation-token", ["0"])[0])
        keys: int = self.server.keys  # type: ignore[attr-defined]
        last = min(first + PAGE, keys)
        entries = "".join(
            f"<Contents><Key>images/{'train' if at % 5 else 'test'}/"
            f"{'melanoma' if at % 6 == 0 else 'nevus'}/ISIC_{at:07d}.jpg</Key>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{at:032x}&quot;</ETag>"
            "<Size>98765</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for at in range(first, last)
        )
        more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < keys else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/'
            f'doc/2006-03-01/"><Name>archive</Name><Prefix>images/</Prefix><MaxKeys>{PAGE}</MaxKeys>'
            f"<KeyCount>{last - first}</KeyCount><IsTruncated>{str(last < keys).lower()}"
            f"</IsTruncated>{more}{entries}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(keys: int, port: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.keys = keys  # type: ignore[attr-defined]
    port.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def bucket(keys: int) -> Iterator[None]:
    """Have a bucket with so many keys at `PLACE`."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(keys, there))
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{here.recv()}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        yield
    finally:
        server.terminate()
        server.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    keys = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as work, bucket(keys):
        os.environ["LESION_CACHE"] = work
        lines = list(measure(keys, Path(work)))
    print("\n".join(lines))


def measure(keys: int, work: Path) -> Iterator[str]:
    """Plan a run, remember what it reads, and plan another; a line of the table for each."""
    yield f"| {keys:,} keys | on the clock, s | processor, s | memory at most, MB |"
    yield "| --- | ---: | ---: | ---: |"
    step = _Steps()
    place = Path(as_place(PLACE))
    found = find_images([place])
    names = [item.path for item in found.items]
    assert len(names) == keys, f"{len(names)} of {keys} were listed"
    yield step.line("listed, and read for labels and splits")
    with Remembered(place) as remembered:
        for start in range(0, keys, 10_000):
            some = names[start : start + 10_000]
            for name, mark in zip(some, states_of(place, some), strict=True):
                state = remote_state(mark)
                assert state is not None
                remembered.keep(name, state, hashlib.sha256(name.encode()).hexdigest())
    yield step.line("hashes remembered")
    with Remembered(place) as remembered:
        known = sum(1 for sha256 in remembered.hashes(names) if sha256)
    assert known == keys, f"{known} of {keys} were known again"
    yield step.line("known again by their etags, from the listing")
    size = sum(file.stat().st_size for file in (work / "hashes").iterdir())
    yield f"\nRemembered hashes take {size / keys:.0f} bytes a key on the disk."


class _Steps:
    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def line(self, what: str) -> str:
        clock, processor = time.perf_counter(), time.process_time()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
        taken = f"{clock - self._clock:.1f} | {processor - self._processor:.1f}"
        self._clock, self._processor = clock, processor
        return f"| {what} | {taken} | {memory:,.0f} |"


if __name__ == "__main__":
    main()
