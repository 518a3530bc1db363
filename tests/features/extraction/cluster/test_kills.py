"""Nodes, processes and the run itself are killed: nothing is lost, nothing is there twice."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.scale.machines import Machines, workers
from features.cache.checks.seal import is_intact
from features.cache.contents import read_features
from features.cache.shards.marks import Mark, fits, read_mark
from features.datasets.folders import Item, find_images
from features.embedding.extractor import load_extractor
from features.extraction import extract
from features.extraction.shards.planning import into_shards
from tests.conftest import ROOT
from tests.pictures import image_bytes

pytestmark = pytest.mark.slow

SHARDS = 36
IMAGES = 288
LOCKS = Path("/proc/locks")
OPTIONS = (
    *("--network", "mobilenet", "--weights", "untrained", "--recipe", "fast", "--size", "64"),
    *("--shards", str(SHARDS)),
)
Marks = dict[int, tuple[int, Mark]]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    pytest.importorskip("ray.data")
    found = Machines()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def nodes(machines: Machines) -> list[psutil.Process]:
    """Two nodes; a test that kills one adds another."""
    return [machines.add(), machines.add()]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(IMAGES):
        (folder / f"{seed % 2}").mkdir(exist_ok=True)
        file = folder / f"{seed % 2}" / f"{seed:04d}.jpg"
        file.write_bytes(image_bytes(seed, (1500, 1200) if seed % 4 == 0 else (80, 80)))
    (folder / "0" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image at all")
    return folder


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What one process makes of the images, by hash."""
    out = tmp_path_factory.mktemp("alone") / "alone.h5"
    extractor = load_extractor("mobilenet", "untrained", input_size=64)
    extract(find_images([images]), extractor, out)
    features = read_features(out)
    return dict(zip(features.items.sha256, features.embeddings[features.items.row], strict=True))


def started(images: Path, out: Path, machines: Machines) -> subprocess.Popen[str]:
    words = [sys.executable, "extract_features.py", str(images), "--out", str(out), *OPTIONS]
    return subprocess.Popen(
        [*words, "--cluster", machines.address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], expected: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=150)
    assert process.returncode == expected, output + errors
    assert "Traceback" not in errors, errors
    return output, errors


def marks(out: Path) -> Marks:
    """What is done, by number of the shard, with the time that it was done."""
    found = {}
    for place in sorted(out.glob("shard-*.json")):
        mark = read_mark(place)
        found[mark.number] = (place.stat().st_mtime_ns, mark)
    return found


def until(process: subprocess.Popen[str], happened: Callable[[], object]) -> object:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if found := happened():
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def require_whole(out: Path, alone: dict[str, np.ndarray], images: Path) -> None:
    """Every image is there once, with the numbers that one process finds, and every seal fits."""
    done = marks(out)
    assert sorted(done) == list(range(1, SHARDS + 1))
    paths: list[str] = []
    for _, mark in done.values():
        place = out / f"shard-{mark.number:05d}-of-{SHARDS:05d}.h5"
        assert fits(place, mark)
        assert is_intact(place)
        features = read_features(place)
        paths += features.items.path.tolist()
        for sha256, row in zip(features.items.sha256, features.items.row, strict=True):
            np.testing.assert_array_equal(features.embeddings[row], alone[sha256])
    wanted = {str(path.relative_to(images)) for path in images.rglob("*.jpg")}
    assert sorted(paths) == sorted(wanted - {"0/broken.jpg"})
    assert sum(mark.failures for _, mark in done.values()) == 1


def test_a_process_and_a_node_are_killed_and_one_joins_late(
    images: Path,
    alone: dict[str, np.ndarray],
    tmp_path: Path,
    machines: Machines,
    nodes: list[psutil.Process],
) -> None:
    out = tmp_path / "out"
    with started(images, out, machines) as process:
        until(process, lambda: len(marks(out)) >= 2 and all(map(workers, nodes)))
        nodes.pop().kill()
        late = machines.add()
        nodes.append(late)
        at = len(marks(out))
        (found,) = workers(nodes[0])
        found.kill()
        until(process, lambda: workers(late))
        output, errors = finished(process)
    assert at < SHARDS
    require_whole(out, alone, images)
    assert re.search(rf"^{SHARDS} shards made on [23] nodes, 0 done before: ", output, re.MULTILINE)
    assert f": {IMAGES} embeddings, 1 failed: " in output
    assert "note: 1 node was lost on the way" in errors
    assert "failed: 0/broken.jpg: " in errors
    assert "raylet" not in output + errors


@pytest.mark.usefixtures("nodes")
def test_a_second_run_is_refused_and_one_after_a_kill_does_what_was_missing(
    images: Path, alone: dict[str, np.ndarray], tmp_path: Path, machines: Machines
) -> None:
    out = tmp_path / "out"
    with started(images, out, machines) as process:
        until(process, lambda: (out / ".cluster.lock").exists())
        with started(images, out, machines) as second:
            _, errors = finished(second, 1)
        assert f"another run is at work in {out} (process {process.pid} on " in errors
        until(process, lambda: len(marks(out)) >= 3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = marks(out)
    assert 3 <= len(before) < SHARDS
    output, errors = finished(started(images, out, machines))
    # Nothing but the bar and what was said of the images.
    said = [line for line in re.split(r"[\r\n]+", errors) if line.strip() and "image" not in line]
    assert said == [], errors
    after = marks(out)
    require_whole(out, alone, images)
    kept = [number for number in before if after[number] == before[number]]
    made = re.search(r"(\d+) shards made on \d nodes?, (\d+) done before", output)
    assert made, output
    # A process of the killed run may have ended its shard after it.
    assert len(before) == len(kept) <= int(made[2])
    assert int(made[1]) == SHARDS - int(made[2])


@pytest.mark.skipif(not LOCKS.exists(), reason="Linux only")
@pytest.mark.usefixtures("nodes")
def test_a_shard_that_kills_its_process_three_times_is_named_and_the_others_are_done(
    images: Path, tmp_path: Path, machines: Machines
) -> None:
    out = tmp_path / "out"
    dataset = find_images([images])
    largest = max(
        into_shards(dataset.items, "", root=images, of=SHARDS), key=lambda each: _work(each.items)
    )
    lock = out / ".unfinished" / f"{largest.name}.lock"
    killed: set[int] = set()
    with started(images, out, machines) as process:
        while process.poll() is None:
            for holder in _holders(lock):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGKILL)
                    killed.add(holder)
            time.sleep(0.002)
        output, errors = finished(process, 1)
    assert len(killed) == 3
    assert sorted(marks(out)) == [n for n in range(1, SHARDS + 1) if n != largest.number]
    assert f"{SHARDS - 1} shards made" in output
    assert (
        f"error: 1 of {SHARDS} shards is not done (shard {largest.number}: it brought down 3 "
        "processes in turn); the others are: run the same command again to try it anew" in errors
    )


def _work(items: tuple[Item, ...]) -> int:
    return sum(int(Path(item.path).stem) % 4 == 0 for item in items if "broken" not in item.path)


def _holders(lock: Path) -> list[int]:
    """Name the processes that hold a lock."""
    try:
        inode = str(lock.stat().st_ino)
    except FileNotFoundError:
        return []
    held = [line.split() for line in LOCKS.read_text().splitlines()]
    return [int(words[4]) for words in held if "->" not in words and words[5].endswith(f":{inode}")]
