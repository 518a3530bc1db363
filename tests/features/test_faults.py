"""What may go wrong during a run, done for real: kills, full disks, rivals, vanishing files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.cache.contents import Features, read_features
from features.cache.verification import verify
from features.datasets.folders import find_images
from features.errors import CacheError
from features.extraction import extract
from tests.conftest import ROOT
from tests.features.embedding.pooling_run import PoolingEngine, pooling_extractor
from tests.pictures import image_bytes

COUNT = 900
BLOCK = 64
PAUSE = "0.02"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "images"
    for seed in range(COUNT):
        place = folder / ("melanoma" if seed % 3 == 0 else "nevus")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{seed:04d}.jpg").write_bytes(image_bytes(seed, (48, 48)))
    return folder


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Features:
    out = tmp_path_factory.mktemp("undisturbed") / "features.h5"
    extract(find_images(images), pooling_extractor(), out)
    return read_features(out)


def start(images: Path, out: Path, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.features.embedding.pooling_run", str(images), str(out)],
        cwd=ROOT,
        env={**os.environ, "POOLING_PAUSE": PAUSE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60
) -> bool:
    """Wait until something holds; False if the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    return True


def kill(process: subprocess.Popen[str]) -> bool:
    """Kill -9, and tell whether the process was still running."""
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def blocks_of(out: Path) -> list[Path]:
    return sorted(out.with_name(f"{out.name}.blocks").glob("*.h5"))


def assert_same(found: Features, expected: Features) -> None:
    assert found.embeddings.tobytes() == expected.embeddings.tobytes()
    for name, column in vars(expected.items).items():
        np.testing.assert_array_equal(getattr(found.items, name), column)
    assert found.failures == expected.failures


def assert_clean(folder: Path, out: Path) -> None:
    assert {path.name for path in folder.iterdir()} <= {
        out.name,
        f".{out.name}.lock",
        f"{out.name}.log",
    }


@pytest.mark.slow
def test_runs_killed_at_random_moments_resume_to_the_same_file(
    images: Path, undisturbed: Features, tmp_path: Path
) -> None:
    rng = random.Random(30)  # noqa: S311
    out = tmp_path / "features.h5"
    log = tmp_path / "features.h5.log"
    began = time.monotonic()
    assert finish(start(images, out))[0] == 0
    whole_run = time.monotonic() - began
    out.unlink()
    log.unlink()

    joining = out.with_name(f".{out.name}.partial")
    kills = finished = kept_before = 0
    while kills < 8:
        process = start(images, out)
        if kills % 4 == 3:
            wait_for(joining.exists, process)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, whole_run))
        if kill(process):
            kills += 1
            embedded = PoolingEngine.batch * log.stat().st_size if log.exists() else 0
            log.unlink(missing_ok=True)
            kept = COUNT if out.exists() else min(COUNT, BLOCK * len(blocks_of(out)))
            # Lost are three blocks that wait for the disk and two batches, at most.
            assert embedded - (kept - kept_before) <= 5 * BLOCK
            kept_before = kept
        if out.exists():
            finished += 1
            assert finish(start(images, out))[0] == 0
            assert verify(out).whole
            assert_same(read_features(out), undisturbed)
            assert_clean(tmp_path, out)
            out.unlink()
            log.unlink(missing_ok=True)
            kept_before = 0
    assert finish(start(images, out))[0] == 0
    assert verify(out).whole
    assert_same(read_features(out), undisturbed)
    assert_clean(tmp_path, out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a file system of a given size, or give it another size."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def sized(size: str) -> Path:
        nonlocal mounted
        options = f"remount,size={size}" if mounted else f"size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],  # noqa: S607
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip("needs the right to mount a small file system")
        mounted = True
        return place

    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    yield sized
    if mounted:
        subprocess.run(["umount", str(place)], check=True)  # noqa: S607


@pytest.mark.parametrize(
    ("size", "blocks"),
    [("1500k", range(4, 10)), ("4200k", range(15, 16)), ("3200k", range(14, 16))],
)
def test_a_full_disk_keeps_what_was_done_and_the_run_goes_on_after(
    images: Path,
    undisturbed: Features,
    small_disk: Callable[[str], Path],
    size: str,
    blocks: range,
) -> None:
    out = small_disk(size) / "features.h5"
    code, _, err = finish(start(images, out))
    assert code == 1
    assert err.startswith("error: ")
    assert "can't be written (the disk is full): what was embedded before is kept" in err
    assert err.count("\n") == 1
    kept = len(blocks_of(out))
    assert kept in blocks
    assert not out.exists()
    small_disk("20m")
    code, told, _ = finish(start(images, out))
    assert code == 0
    assert int(told.split()[0]) == max(0, COUNT - BLOCK * kept)
    assert_same(read_features(out), undisturbed)
    assert_clean(out.parent, out)


def test_a_file_that_may_not_grow_further_is_told_and_the_old_one_stays(
    images: Path, undisturbed: Features, tmp_path: Path
) -> None:
    few = tmp_path / "images"
    shutil.copytree(images / "melanoma", few / "melanoma")
    out = tmp_path / "features.h5"
    assert finish(start(few, out))[0] == 0
    before = out.read_bytes()
    shutil.copytree(images / "nevus", few / "nevus")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    code, _, err = finish(start(few, out, preexec_fn=limited))
    assert code == 1
    assert "can't be written (the disk is full)" in err
    assert out.read_bytes() == before
    assert finish(start(few, out))[1].split()[0] == "0"
    assert_same(read_features(out), undisturbed)


def test_of_two_writers_at_once_the_second_is_refused(
    images: Path, undisturbed: Features, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    both = [start(images, out), start(images, out)]
    ended = sorted(finish(process) for process in both)
    assert [code for code, _, _ in ended] == [0, 1]
    assert "another process is writing" in ended[1][2]
    assert_same(read_features(out), undisturbed)
    assert_clean(tmp_path, out)


def test_a_reader_sees_a_whole_file_at_every_moment_of_a_run(
    images: Path, undisturbed: Features, tmp_path: Path
) -> None:
    some = tmp_path / "images"
    shutil.copytree(images / "melanoma", some / "melanoma")
    out = tmp_path / "features.h5"
    extract(find_images(some), pooling_extractor(), out)
    shutil.copytree(images / "nevus", some / "nevus")
    process = start(some, out)
    seen: dict[int, int] = {}
    expected = {row.tobytes() for row in undisturbed.embeddings}
    while process.poll() is None:
        found = read_features(out)
        seen[len(found.embeddings)] = seen.get(len(found.embeddings), 0) + 1
        assert {row.tobytes() for row in found.embeddings} <= expected
    assert finish(process)[0] == 0
    seen[len(read_features(out).embeddings)] = 1
    assert set(seen) == {COUNT // 3, COUNT}
    assert seen[COUNT // 3] > 5


def test_of_files_that_change_or_vanish_during_a_run_what_is_read_counts(
    images: Path, tmp_path: Path
) -> None:
    some = tmp_path / "images"
    shutil.copytree(images, some)
    out = tmp_path / "features.h5"
    last = sorted((some / "nevus").iterdir())[-3:]
    gone = last[0].read_bytes()
    process = start(some, out)
    assert wait_for(lambda: bool(blocks_of(out)), process)
    last[0].unlink()
    last[1].write_bytes(image_bytes(5001))
    last[2].write_bytes(b"")
    code, told, _ = finish(process)
    assert (code, told.split()) == (0, [str(COUNT - 2), "0", "2"])
    features = read_features(out)
    reasons = {failure.path: failure.reason for failure in features.failures}
    names = [f"nevus/{path.name}" for path in last]
    assert set(reasons) == {names[0], names[2]}
    assert "can't be read" in reasons[names[0]]
    assert "is empty" in reasons[names[2]]
    # Bytes are hashed and decoded as they were read, once: the two never differ.
    hashes = dict(zip(features.items.path.tolist(), features.items.sha256.tolist(), strict=True))
    assert hashes[names[1]] == hashlib.sha256(image_bytes(5001)).hexdigest()

    last[0].write_bytes(gone)
    last[2].write_bytes(image_bytes(5002))
    code, told, _ = finish(start(some, out))
    assert (code, told.split()) == (0, ["2", str(COUNT - 2), "0"])


def test_a_pipe_among_the_images_does_not_hang_the_run(tmp_path: Path) -> None:
    images = tmp_path / "images" / "nevus"
    images.mkdir(parents=True)
    (images / "a.jpg").write_bytes(image_bytes(1))
    os.mkfifo(images / "b.jpg")
    out = tmp_path / "features.h5"
    code, told, _ = finish(start(tmp_path / "images", out))
    assert (code, told.split()) == (0, ["1", "0", "1"])
    assert "not an ordinary file" in read_features(out).failures[0].reason


AS_NOBODY = """
import os, sys
from tests.features.embedding.pooling_run import main
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
main(*sys.argv[1:])
"""


def test_a_folder_that_is_read_only_is_told() -> None:
    # Not in pytest's own folder, which only its owner may enter.
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "images").mkdir()
        (folder / "images" / "a.jpg").write_bytes(image_bytes(1))
        locked = folder / "locked"
        locked.mkdir(mode=0o555)
        words = [sys.executable, "-c", AS_NOBODY, str(folder / "images"), str(locked / "f.h5")]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == (
            f"error: {locked / 'f.h5'} can't be written (Permission denied): "
            "choose another place or name\n"
        )


def test_a_block_that_was_altered_is_told(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.h5"
    process = start(images, out)
    assert wait_for(lambda: len(blocks_of(out)) > 1, process)
    kill(process)
    block = blocks_of(out)[0]
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1
    block.write_bytes(content)
    with pytest.raises(CacheError, match=r"is damaged \(it was altered.*delete it"):
        extract(find_images(images), pooling_extractor(), out)
    block.unlink()
    assert extract(find_images(images), pooling_extractor(), out).images == COUNT
    assert verify(out).whole
