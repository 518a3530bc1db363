"""Serving side by side: a plain Flask and Keras app, this project, and the engine by itself.

Reads real images and weights from the folder that LESION_TEST_DATA names. Servers are asked over
sockets, one after the other on the same machine; ratios are what counts, since machines differ.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.machine import describe
from features.cache.contents import read_features
from features.embedding.extractor import Extractor, rebuild_extractor
from features.images.decoding import decode

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "serving.md"
BOUNDARY = "benchmark-7f3a"
SECONDS = 20.0


@dataclass(frozen=True)
class Load:
    """What clients saw."""

    seconds: float
    accepted: list[float]
    refused: list[float]

    @property
    def rate(self) -> float:
        """Answered images per second."""
        return len(self.accepted) / self.seconds

    def percentile(self, percent: float) -> float:
        """Latency of accepted requests in milliseconds."""
        return float(np.percentile(self.accepted, percent)) * 1e3


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]
    start: float

    def ask(self, image: bytes) -> int:
        """Post an image; give the status."""
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode() + image
        body += f"\r\n--{BOUNDARY}--\r\n".encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        try:
            connection.request("POST", "/api/v1/classify", body, kind)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether it takes requests."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def memory(self) -> float:
        """Give the resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1e3


@contextlib.contextmanager
def serving(words: Sequence[object], **variables: str) -> Iterator[Server]:
    """Start a server and wait until it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"PLAIN_PORT": str(port), **variables}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *(str(word).format(port=port) for word in words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        server = Server(port, process, 0)
        while not server.ready():
            if process.poll() is not None:
                sys.exit(f"the server ended with status {process.returncode}")
            time.sleep(0.02)
        yield Server(port, process, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(
    server: Server, images: Sequence[bytes], clients: int, *, seconds: float = 0, requests: int = 0
) -> Load:
    """Ask with several clients at once, for some seconds or some requests in all."""
    accepted: list[float] = []
    refused: list[float] = []
    counter = iter(range(requests)) if requests else None
    lock = threading.Lock()
    end = time.perf_counter() + seconds if seconds else float("inf")

    def work(number: int) -> None:
        while time.perf_counter() < end:
            with lock:
                turn = number if counter is None else next(counter, None)
            if turn is None:
                return
            number += clients
            begin = time.perf_counter()
            status = server.ask(images[turn % len(images)])
            took = time.perf_counter() - begin
            if status not in (200, 503):
                raise RuntimeError(f"status {status}")
            (accepted if status == 200 else refused).append(took)
            if status == 503:
                time.sleep(0.1)

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(time.perf_counter() - began, accepted, refused)


def engine_pass(extractor: Extractor, image: bytes) -> float:
    """Time one image through the engine alone, in milliseconds."""
    scales = [scale[None] for scale in decode(image, *extractor.spec.frames).frames]
    times = []
    for _ in range(40):
        begin = time.perf_counter()
        extractor.embed(*scales)
        times.append(time.perf_counter() - begin)
    return float(np.median(times[5:])) * 1e3


def engine_rate(extractor: Extractor, images: Sequence[bytes]) -> float:
    """Count the images per second of the engine alone, given many at once."""
    decoded = [decode(image, *extractor.spec.frames).frames for image in images[:64]]
    stacked = [np.stack(scale) for scale in zip(*decoded, strict=True)]
    extractor.embed(*stacked)
    begin, done = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS / 2:
        extractor.embed(*stacked)
        done += len(decoded)
    return done / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, help="made with --recipe fast; default: made now")
    parser.add_argument("--requests", type=int, default=10_000, help="for the memory over time")
    parser.add_argument("--write", action="store_true", help="into docs/serving.md")
    options = parser.parse_args()
    given = os.environ.get("LESION_TEST_DATA")
    if not given:
        sys.exit("give the folder of real images in LESION_TEST_DATA")
    shared = Path(given).resolve()
    weights = next((shared / "weights").glob("inception_v3*.h5"))
    photographs = shared / "data" / "isic2017_256"
    with tempfile.TemporaryDirectory() as folder:
        text = measure(Path(folder), weights, photographs, options)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- serving -->\n).*(<!-- /serving -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda found: found[1] + text + found[2], page), "utf-8")


def measure(work: Path, weights: Path, photographs: Path, options: argparse.Namespace) -> str:
    features = options.features
    if features is None:
        features = work / "features.h5"
        command("extract_features.py", photographs, "--weights", weights, "--out", features,
                "--recipe", "fast")  # fmt: skip
    command("fit_classifier.py", features, "--out", work / "bundle", "--weights", weights,
            "--heads", "logistic_regression")  # fmt: skip
    cached = read_features(features)
    train = cached.items.take(cached.items.split == "train")
    head = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=5000))
    head.fit(cached.embedded(train), train.label == "melanoma")
    joblib.dump(head, work / "head.joblib")
    images = [path.read_bytes() for path in sorted((photographs / "valid").rglob("*.jpg"))[:64]]
    plain_words = ["-m", "benchmarks.plain_service"]
    plain_variables = {"PLAIN_WEIGHTS": str(weights), "PLAIN_HEAD": str(work / "head.joblib")}
    own_words = ["-m", "service", "--bundle", work / "bundle", "--port", "{port}"]

    with serving(plain_words, **plain_variables) as server:
        plain_start = server.start
        load(server, images, 1, requests=5)
        plain_one = load(server, images, 1, requests=100)
        plain_many = load(server, images, 16, seconds=SECONDS)
        plain_memory = server.memory()
    with serving(own_words):
        pass
    with serving(own_words) as server:
        start = server.start
        load(server, images, 1, requests=5)
        one = load(server, images, 1, requests=100)
        many = load(server, images, 16, seconds=SECONDS)
        flood = load(server, images, 200, seconds=SECONDS)
        before = server.memory()
        load(server, images, 16, requests=options.requests // 2)
        middle = server.memory()
        load(server, images, 16, requests=options.requests // 2)
        after = server.memory()
    alone = engine_pass(rebuild_extractor(cached.spec, weights, serving=True), images[0])
    most = engine_rate(rebuild_extractor(cached.spec, weights), images)
    refused = [1e3 * each for each in flood.refused] or [float("nan")]
    share = len(flood.refused) / max(1, len(flood.refused) + len(flood.accepted))
    rows = [
        ("cold start to ready", f"{plain_start:.1f} s", f"{start:.1f} s"),
        ("p50 latency, one client, 256-pixel image", f"{plain_one.percentile(50):.0f} ms",
         f"{one.percentile(50):.0f} ms, {one.percentile(50) / alone:.2f} passes of the engine"),
        ("p95 latency", f"{plain_one.percentile(95):.0f} ms", f"{one.percentile(95):.0f} ms"),
        ("images/s with 16 clients", f"{plain_many.rate:.1f}",
         f"{many.rate:.1f}, {many.rate / most:.0%} of the engine's own {most:.1f}"),
        ("p95 latency with 16 clients", f"{plain_many.percentile(95):.0f} ms",
         f"{many.percentile(95):.0f} ms"),
        ("memory", f"{plain_memory:.0f} MB", f"{before:.0f} MB"),
        (f"memory after {options.requests // 2} and {options.requests} more requests", "-",
         f"{middle:.0f} MB, {after:.0f} MB"),
        ("200 clients at once", "-",
         f"{share:.0%} get 503, half of those within {np.median(refused):.0f} ms; the others "
         f"wait {flood.percentile(50):.0f} ms (p50), {flood.percentile(95):.0f} ms (p95), "
         f"{flood.rate:.1f} images/s"),
    ]  # fmt: skip
    return "\n".join(
        [
            f"Machine: {describe()}. One pass of the engine takes {alone:.0f} ms for one image.",
            "",
            "| | Flask + Keras `predict` | this project, `fast` |",
            "| --- | --- | --- |",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )


def command(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{words[0]} failed: {done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
