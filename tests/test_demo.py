"""The demo, run as a user runs it: real commands, a real server, real HTTP."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEMO = [sys.executable, str(ROOT / "scripts" / "demo.py")]
TINY = ["--train", "24", "--valid", "8", "--test", "8", "--size", "96", "--input-size", "75"]

pytestmark = pytest.mark.slow


def run_demo(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, "--out", str(out), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def listening_port(text: str) -> int:
    found = re.search(r"-m service .* --port (\d+)", text)
    assert found, text
    return int(found.group(1))


def nothing_listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    done = run_demo(out, *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


def test_every_command_is_shown_and_the_answer_stands_next_to_the_truth(
    first: tuple[Path, str],
) -> None:
    out, text = first
    commands = [line for line in text.splitlines() if line.startswith("$ ")]
    order = [
        "features.datasets.drawn",
        "extract_features.py",
        "fit_classifier.py",
        "-m service",
        "curl",
    ]
    positions = [next(n for n, line in enumerate(commands) if name in line) for name in order]
    assert positions == sorted(positions)
    answers = re.findall(
        r"truth:  (\w+), a synthetic \(drawn\) image from the test split\n"
        r" +answer: (suspicious|not suspicious|cannot tell); "
        r"probability of melanoma ([01]\.\d+), threshold",
        text,
    )
    assert [truth for truth, _, _ in answers] == ["melanoma", "NotMelanoma"]
    assert all(0 <= float(probability) <= 1 for _, _, probability in answers)
    assert str(out / "bundle" / "report.html") in text
    assert (out / "bundle" / "report.html").is_file()
    assert f"make serve BUNDLE={out / 'bundle'}" in text


def test_it_says_what_the_numbers_are_worth(first: tuple[Path, str]) -> None:
    out, text = first
    assert "All images are synthetic (drawn, no photographs)" in text
    assert "decision support, not a diagnosis" in text
    used_untrained = (out / "features-untrained.h5").exists()
    assert ("The network is untrained, so none of these numbers means anything." in text) == (
        used_untrained
    )
    assert used_untrained != (out / "features.h5").exists()


def test_server_is_gone_afterwards(first: tuple[Path, str]) -> None:
    assert nothing_listens(listening_port(first[1]))


def test_a_failing_step_ends_the_demo_with_its_message_and_code(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").touch()
    done = run_demo(tmp_path, *TINY)
    assert done.returncode == 1
    assert "exists and is not an empty folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert "extract_features.py" not in done.stdout


def test_a_second_run_keeps_what_there_is_and_stopping_it_stops_its_server(
    first: tuple[Path, str],
) -> None:
    out, _ = first
    before = {path: path.stat().st_mtime_ns for path in (out / "images").rglob("*.jpg")}
    told = ""
    with subprocess.Popen(
        [*DEMO, "--out", str(out), *TINY],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            told += line
            if "-m service --bundle" in line and line.startswith("$"):
                port = listening_port(line)
                break
        else:
            pytest.fail("the demo ended before it started the service: " + told)
        time.sleep(1)
        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()
        assert demo.wait(timeout=30) == 128 + signal.SIGTERM
    assert nothing_listens(port)
    assert "features.datasets.drawn" not in told
    assert "0 embedded, 40 known before" in told
    assert before == {path: path.stat().st_mtime_ns for path in (out / "images").rglob("*.jpg")}
