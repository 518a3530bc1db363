from __future__ import annotations

import errno
import gc
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import psutil
import pytest
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend import resource_tracker as loky_tracker

from features.images.decoding import Frame, decode
from features.images.processes import Readers, kept_workers
from features.images.reading import Read, SharedBoard
from features.images.sources.files import file_digest
from tests.conftest import ROOT
from tests.pictures import image_bytes

FRAMES = (Frame(75), Frame(60, "lesion", "shades-of-grey"))

# What a decoder in C does that meets a file it was not written for.
CRASHING = """
import ctypes
import simplejpeg

decode = simplejpeg.decode_jpeg

def decode_or_crash(data, **options):
    if bytes(data).endswith(b"crash"):
        ctypes.string_at(0)
    return decode(data, **options)

simplejpeg.decode_jpeg = decode_or_crash
"""


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(70):
        (folder / f"{seed:02d}.jpg").write_bytes(image_bytes(seed, (90, 80)))
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every process that is started from here on crash at a file that ends so."""
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")


def read_by(
    readers: Readers, paths: list[str], each: Callable[[Read], None] = lambda read: None
) -> dict[str, Read]:
    found = {}
    readers.start((number, path, True) for number, path in enumerate(paths))
    for read, frames in readers.results():
        each(read)
        path = paths[read.number]
        assert path not in found
        found[path] = read
        if read.decoded:
            for pixels, expected in zip(frames, decode(path, *FRAMES).frames, strict=True):
                np.testing.assert_array_equal(pixels, expected)
    return found


def test_every_file_is_read_hashed_and_decoded_once(paths: list[str]) -> None:
    Path(paths[3]).write_bytes(b"")
    missing = f"{paths[0]}.gone"
    known = file_digest(Path(paths[5]))
    with Readers(FRAMES, len(paths), known=[known, "0" * 64], processes=2) as readers:
        assert readers.processes == 2
        found = read_by(readers, [*paths, missing])
    assert len(found) == 71
    assert (found[missing].code, found[missing].sha256) == ("unreadable", "")
    assert found[paths[3]].code == "empty"
    assert found[paths[5]].sha256 == known
    assert not found[paths[5]].decoded
    read = found[paths[6]]
    assert (read.width, read.height, read.notes, read.black) == (90, 80, (), False)
    assert all(found[path].sha256 == file_digest(Path(path)) for path in paths)


def test_a_hash_that_only_begins_like_a_known_one_can_be_asked_for_again(paths: list[str]) -> None:
    digest = file_digest(Path(paths[0]))
    other = digest[:16] + "0" * 48
    with Readers(FRAMES, 1, known=[other]) as readers:
        assert not read_by(readers, paths[:1])[paths[0]].decoded
        readers.start([(0, paths[0], False)])
        assert [read.decoded for read, _ in readers.results()] == [True]


@pytest.mark.usefixtures("crashing")
def test_a_decoder_that_crashes_is_that_image_s_failure_and_no_other_s(paths: list[str]) -> None:
    bad = paths[10], paths[40]
    for path in bad:
        Path(path).write_bytes(Path(path).read_bytes() + b"crash")
    with Readers(FRAMES, len(paths), processes=2) as readers:
        found = read_by(readers, paths)
    assert {path for path in paths if not found[path].decoded} == set(bad)
    for path in bad:
        assert found[path].code == "unreadable"
        assert "ended the process" in found[path].reason


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(paths: list[str]) -> None:
    many, killed = [path for path in paths for _ in range(5)], []
    numbered = list(enumerate(many))
    before = set(psutil.Process().children(recursive=True))
    with Readers(FRAMES, len(many), processes=2) as readers:
        readers.start((number, path, True) for number, path in numbered)
        done = []
        for count, (read, _) in enumerate(readers.results()):
            assert read.decoded
            done.append(read.number)
            if count in {30, 150}:
                victim = next(
                    child
                    for child in psutil.Process().children(recursive=True)
                    if child not in before and "popen_loky" in " ".join(child.cmdline())
                )
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.pid)
    assert sorted(done) == [number for number, _ in numbered]
    assert len(set(killed)) == 2


def test_nothing_is_left_when_the_process_is_killed(tmp_path: Path, paths: list[str]) -> None:
    program = f"""
import itertools, sys
sys.path.insert(0, {str(ROOT)!r})
from features.images.decoding import Frame
from features.images.processes import Readers, kept_workers
with Readers([Frame(75)], 1000, processes=2) as readers:
    readers.start((n, p, True) for n, p in enumerate(itertools.cycle({paths!r})))
    for count, _ in enumerate(readers.results()):
        if count == 20:
            print("busy", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"busy\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not list(tmp_path.glob("lesion-pixels-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="signals are read from /proc")
def test_ctrl_c_reaches_no_worker_whenever_it_comes() -> None:
    script = (
        "import psutil, re, sys\n"
        "from pathlib import Path\n"
        "from features.images import processes\n"
        "executor = processes._workers(3)\n"
        "for when in ('as they start', 'at work'):\n"
        "    for child in psutil.Process().children():\n"
        "        if 'popen_loky' in ' '.join(child.cmdline()):\n"
        "            told = Path(f'/proc/{child.pid}/status').read_text()\n"
        "            kept = [int(m, 16) for m in re.findall(r'Sig(?:Blk|Ign):\\s*(\\w+)', told)]\n"
        "            print(when, bool((kept[0] | kept[1]) & 2))\n"
        "    list(executor.map(abs, range(30)))\n"
        "executor.shutdown(kill_workers=True)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["as they start True"] * 3 + ["at work True"] * 3


def test_processes_are_kept_for_those_who_read_next_and_ended_after_the_last(
    paths: list[str],
) -> None:
    before = set(psutil.Process().children())

    def workers() -> set[int]:
        found = set(psutil.Process().children()) - before
        return {each.pid for each in found if "popen_loky" in " ".join(each.cmdline())}

    def read(processes: int) -> set[int]:
        with Readers(FRAMES, len(paths), processes=processes) as readers:
            assert all(read.decoded for read in read_by(readers, paths[:40]).values())
            return workers()

    with kept_workers():
        first = read(2)
        assert len(first) == 2
        assert read(2) == read(1) == workers() == first
        # One that dies meanwhile is replaced, and nothing is lost.
        os.kill(min(first), signal.SIGKILL)
        assert len(read(2)) == 2
        assert len(read(3)) == 3
    assert not workers()


def test_leaving_in_the_middle_is_quiet_and_leaves_no_process(paths: list[str]) -> None:
    before = set(psutil.Process().children())
    for wanted in (1, 30):
        with Readers(FRAMES, 10**4, processes=2) as readers:
            readers.start((0, path, True) for path in itertools.cycle(paths))
            for count, _ in enumerate(readers.results()):
                if count == wanted:
                    break
        left = set(psutil.Process().children()) - before
        assert not [each for each in left if "popen_loky" in " ".join(each.cmdline())]
    # A thread that failed in the background would fail the test here.
    gc.collect()


def test_without_memory_of_that_kind_a_file_is_shared_and_removed(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Readers(FRAMES, len(paths), processes=2) as readers:
        assert list(tmp_path.glob("lesion-pixels-*"))
        found = read_by(readers, paths)
    assert all(read.decoded for read in found.values())
    assert not list(tmp_path.glob("lesion-pixels-*"))


def test_a_full_disk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Readers(FRAMES, 100)
    assert not list(tmp_path.glob("lesion-pixels-*"))


def test_a_few_images_are_not_worth_a_process(paths: list[str]) -> None:
    before = set(psutil.Process().children())
    with Readers(FRAMES, 16) as readers:
        assert len(read_by(readers, paths[:16])) == 16
        left = set(psutil.Process().children()) - before
        assert not [each for each in left if "popen_loky" in " ".join(each.cmdline())]


def test_a_few_images_are_read_right_a_second_time_in_the_same_process(paths: list[str]) -> None:
    for some in (paths[:3], paths[3:6], paths[:3]):
        with Readers(FRAMES, len(some)) as readers:
            assert all(read.decoded for read in read_by(readers, some).values())


def test_where_no_process_can_be_started_threads_read(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(ProcessPoolExecutor):
        def __init__(self, *_: object, **__: object) -> None:
            raise OSError("no semaphores here")

    monkeypatch.setattr("features.images.processes.ProcessPoolExecutor", Refused)
    with Readers(FRAMES, len(paths)) as readers:
        assert all(read.decoded for read in read_by(readers, paths).values())


def test_processes_that_die_before_they_do_anything_are_not_started_for_ever(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What sees to it that no semaphores are left is a process, too, and must have begun before.
    resource_tracker.ensure_running()
    loky_tracker.ensure_running()
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import os\nos._exit(3)")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    start = time.monotonic()
    with Readers(FRAMES, len(paths), processes=2) as readers:
        assert all(read.decoded for read in read_by(readers, paths).values())
    assert time.monotonic() - start < 60


def test_memory_is_bounded_by_rows_and_not_by_images() -> None:
    with Readers([Frame(299), Frame(299)], 10**6, processes=16) as readers:
        shared = readers._shared
        assert isinstance(shared, SharedBoard)
        assert shared.board.length < 110e6
