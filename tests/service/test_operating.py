"""Under load, while stopping, and while another bundle is taken."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.asking import Answer, Keys, Server, lesion_jpeg, listening, noise_png, until

Start = Callable[..., Server]
RELOAD = "/api/v1/reload"


def take(new: Path, place: Path) -> None:
    """Put another bundle in the place of one, as `fit_classifier.py --overwrite` does."""
    aside = place.with_name("replaced")
    place.rename(aside)
    shutil.copytree(new, place)
    shutil.rmtree(aside)


def spoil(bundle: Path) -> None:
    with (bundle / "head.linear.safetensors").open("r+b") as head:
        head.seek(100)
        head.write(b"!")


def served(server: Server, keys: Keys) -> str:
    answer = server.ask("GET", "/api/v1/model", None, keys.header("classify"))
    assert answer.status == 200
    found: str = answer.json["model"]["id"]
    return found


@pytest.fixture
def asking(keys: Keys) -> Iterator[Callable[[Server], list[Answer]]]:
    """Classify from four clients until the test is over; nothing may fail meanwhile."""
    over = threading.Event()
    answers: list[Answer] = []
    clients = ThreadPoolExecutor(4)
    image = lesion_jpeg(size=96)

    def ask(server: Server) -> None:
        while not over.is_set():
            answers.append(server.classify(("mole.jpg", image), **keys.header("classify")))

    running = []

    def begin(server: Server) -> list[Answer]:
        running.extend(clients.submit(ask, server) for _ in range(4))
        assert until(lambda: len(answers) > 8)
        return answers

    yield begin
    over.set()
    clients.shutdown()
    for each in running:
        each.result()
    assert {answer.status for answer in answers} == {200}


def test_another_bundle_is_taken_without_dropping_a_request(
    own_bundle: Path,
    other_bundle: Path,
    start: Start,
    keys: Keys,
    asking: Callable[[Server], list[Answer]],
) -> None:
    server = start(own_bundle, "--keys", str(keys.file))
    before = served(server, keys)
    answers = asking(server)
    take(other_bundle, own_bundle)
    assert served(server, keys) == before
    reload = server.ask("POST", RELOAD, None, keys.header("admin"))
    assert reload.status == 200
    assert reload.json["before"].startswith(before)
    assert reload.json["changed"]
    after = served(server, keys)
    assert reload.json["now"].startswith(after)
    assert after != before
    answered = len(answers)
    assert until(lambda: len(answers) > answered + 8)
    of_each = {answer.json["model"]["id"]: answer.json["results"][0] for answer in answers}
    assert of_each.keys() == {before, after}
    # The threshold of an answer is that of the bundle that it names.
    assert of_each[after]["threshold"] == 0.125
    assert of_each[before]["threshold"] != 0.125


def test_sighup_takes_a_bundle_and_an_altered_one_is_refused_with_the_reason(
    own_bundle: Path,
    other_bundle: Path,
    start: Start,
    keys: Keys,
    asking: Callable[[Server], list[Answer]],
) -> None:
    server = start(own_bundle, "--keys", str(keys.file))
    before = served(server, keys)
    asking(server)
    take(other_bundle, own_bundle)
    server.process.send_signal(signal.SIGHUP)
    assert until(lambda: served(server, keys) != before)
    now = served(server, keys)
    spoil(own_bundle)
    server.process.send_signal(signal.SIGHUP)
    assert until(lambda: "altered" in server.errors.read_text())
    refused = server.ask("POST", RELOAD, None, keys.header("admin"))
    assert (refused.status, refused.json["code"]) == (409, "bundle_refused")
    assert "altered" in refused.json["detail"]
    shutil.rmtree(own_bundle)
    gone = server.ask("POST", RELOAD, None, keys.header("admin"))
    assert (gone.status, gone.json["code"]) == (409, "bundle_refused")
    assert served(server, keys) == now
    metrics = server.ask("GET", "/metrics", None, keys.header("metrics")).text
    assert 'lesion_reloads_total{outcome="refused"} 3.0' in metrics
    assert 'lesion_reloads_total{outcome="taken"} 1.0' in metrics


def test_two_reloads_at_once_do_not_meet(own_bundle: Path, start: Start, keys: Keys) -> None:
    server = start(own_bundle, "--keys", str(keys.file))
    with ThreadPoolExecutor(8) as askers:
        answers = list(
            askers.map(lambda _: server.ask("POST", RELOAD, None, keys.header("admin")), range(8))
        )
    statuses = [answer.status for answer in answers]
    assert 200 in statuses
    assert set(statuses) <= {200, 409}
    for answer in answers:
        if answer.status == 409:
            assert answer.json["code"] == "reload_running"
    assert server.ask("POST", RELOAD, None, keys.header("admin")).status == 200


def test_over_capacity_the_answer_is_quick_and_health_is_told(bundle: Path, start: Start) -> None:
    server = start(bundle, "--threads", "1", "--max-upload-mb", "64")
    # Large enough to keep the only place taken for a while.
    large = [("large.png", noise_png(1500)) for _ in range(4)]
    refused: list[Answer] = []
    with ThreadPoolExecutor(12) as clients:
        running = [clients.submit(server.classify, *large) for _ in range(8)]
        while not all(run.done() for run in running):
            assert server.get("/healthz").status == 200
            assert server.get("/readyz").status == 200
        answers = [run.result() for run in running]
    refused = [answer for answer in answers if answer.status == 503]
    assert [a.status for a in answers if a.status != 503].count(200) == 8 - len(refused)
    assert len(refused) in range(1, 8)
    for answer in refused:
        assert answer.json["code"] == "busy"
        assert int(answer.headers["Retry-After"]) > 0
    assert 'lesion_refused_total{reason="busy"}' in server.get("/metrics").text


def test_who_waits_too_long_is_told(bundle: Path, start: Start) -> None:
    server = start(bundle, "--max-seconds", "1", "--max-images", "96", "--max-upload-mb", "64")
    many = [(f"{number}.jpg", lesion_jpeg(size=64)) for number in range(96)]
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda _: server.classify(*many), range(12)))
    late = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} <= {200, 503}
    for answer in late:
        assert answer.json["code"] == "too_late"
        assert answer.headers["Retry-After"]
    # What was given up is not computed, only what had begun.
    assert until(lambda: server.classify(*many[:1]).status == 200, 60)


def test_readiness_goes_first_and_requests_are_answered_until_the_port_closes(
    bundle: Path, start: Start, lesion: bytes
) -> None:
    server = start(bundle, "--drain-seconds", "4")
    server.process.terminate()
    assert until(lambda: server.get("/readyz").status == 503)
    assert server.get("/readyz").json["status"] == "stopping"
    assert server.get("/healthz").status == 200
    assert server.classify(("mole.jpg", lesion)).status == 200
    assert server.process.wait(30) == 0
    assert not listening(server.port)
    assert server.errors.read_text() == ""


def test_a_request_that_never_comes_to_its_end_is_cut_off(bundle: Path, start: Start) -> None:
    server = start(bundle, "--max-seconds", "2")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
        slow.sendall(b"POST /api/v1/classify HTTP/1.1\r\nHost: localhost\r\n")

        def cut_off() -> bool:
            try:
                slow.sendall(b"X-Slow: 1\r\n")
            except ConnectionError:
                return True
            return False

        assert until(cut_off, 40)
    assert server.get("/healthz").status == 200


def value(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count_what_happened(bundle: Path, start: Start, lesion: bytes) -> None:
    server = start(bundle)
    answers = [server.classify(("a.jpg", lesion), ("b.txt", b"words")) for _ in range(3)]
    server.get("/nothing/secret-name")
    metrics = server.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    text = metrics.text
    decision = answers[0].json["results"][0]["decision"]
    assert value(text, f'lesion_images_total{{outcome="{decision}"}}') == 3
    assert value(text, 'lesion_images_total{outcome="refused: not_an_image"}') == 3
    assert value(text, "lesion_probability_count") == 3
    probability = answers[0].json["results"][0]["probability"]
    assert value(text, "lesion_probability_sum") == pytest.approx(3 * probability, rel=1e-4)
    for stage in ("decode", "wait", "embed", "head"):
        assert value(text, f'lesion_stage_seconds_count{{stage="{stage}"}}') == 3
        assert value(text, f'lesion_stage_seconds_sum{{stage="{stage}"}}') > 0
    asked = 'lesion_requests_total{method="POST",route="/api/v1/classify",status="200"}'
    assert value(text, asked) == 3
    assert value(text, 'lesion_requests_total{method="any",route="none",status="404"}') == 1
    assert value(text, "lesion_ready") == 1
    assert value(text, "lesion_requests_in_flight") == 1
    assert 0 < value(text, "lesion_training_flagged_share") <= 1
    assert "secret-name" not in text


def test_json_logs_have_every_request_and_no_name_of_a_file(
    bundle: Path, start: Start, lesion: bytes
) -> None:
    server = start(bundle, env={**os.environ, "LESION_LOG": "json"})
    server.classify(("patient-name.jpg", lesion), **{"X-Request-ID": "ward-7"})
    server.classify(("patient-name.txt", b"words"))
    server.get("/patient-name.jpg?patient-name=1")
    server.stop()
    text = server.errors.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/api/v1/classify", 200),
        ("/api/v1/classify", 415),
        ("none", 404),
    ]
    assert lines[0]["request_id"] == "ward-7"
    assert all(line["milliseconds"] >= 0 and line["time"] and line["level"] for line in lines)
    assert "patient-name" not in text
