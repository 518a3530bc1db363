from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from features.cache.contents import read_features
from features.datasets.folders import find_images
from features.embedding.extractor import load_extractor
from features.extraction import extract
from tests.conftest import ROOT
from tests.pictures import image_bytes

OPTIONS = ("--weights", "untrained", "--size", "75", "--recipe", "fast")
MOMENTS = 6
SHARED = Path("/dev/shm")  # noqa: S108
UNSHARE = shutil.which("unshare") or ""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(320):
        (folder / f"{seed % 2}").mkdir(exist_ok=True)
        (folder / f"{seed % 2}" / f"{seed:04d}.jpg").write_bytes(image_bytes(seed, (80, 80)))
    return folder


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "whole.h5"
    extractor = load_extractor("inception_v3", "untrained", input_size=75)
    extract(find_images(images), extractor, out)
    return out


def started(images: Path, out: Path, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "extract_features.py", str(images), "--out", str(out), *OPTIONS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests themselves were told to ignore it, as in the background of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **more,
    )


def in_group(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def semaphores(pid: int) -> list[Path]:
    return list(SHARED.glob(f"sem.loky-{pid}-*"))


def workers(parent: int) -> Iterator[int]:
    """Name the processes that decode, once they have begun: they see the memory for pixels."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(parent).children():
            with contextlib.suppress(OSError):
                if "lesion-pixels" in Path(f"/proc/{child.pid}/maps").read_text(encoding="utf-8"):
                    yield child.pid


def test_the_same_file_comes_of_workers_that_are_killed(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "features.h5"
    killed: set[int] = set()
    with started(images, out) as process:
        while process.poll() is None and len(killed) < 2:
            # A worker that has begun has read what it works with.
            for pid in set(workers(process.pid)) - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
                break
            time.sleep(0.05)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert killed
    np.testing.assert_array_equal(read_features(out).embeddings, read_features(whole).embeddings)


@pytest.mark.slow
def test_ctrl_c_at_any_moment_loses_and_leaves_nothing(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    # What `whole` converted the network for is not done again here.
    start = time.monotonic()
    with started(images, tmp_path / "once.h5") as process:
        assert process.communicate(timeout=120)[0]
    seconds = time.monotonic() - start
    out, told = tmp_path / "features.h5", 0
    # Before that, the program itself is still being loaded.
    for place, share in enumerate(np.linspace(0.3, 0.95, MOMENTS)):
        with started(images, out, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
            if place % 2:
                # However busy the machine is: while images are being read.
                while process.poll() is None and not any(workers(process.pid)):
                    time.sleep(0.05)
                time.sleep(0.1 * place)
            else:
                time.sleep(share * seconds)
            # As a terminal does: every process of the command hears of it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        if out.exists():
            # It was done; the program itself may have been ended on its way out.
            out.unlink()
        else:
            assert "stopped: what was embedded is kept" in errors or "Aborted!" in errors, errors
            told += "stopped" in errors
        deadline = time.monotonic() + 10
        while (in_group(process.pid) or semaphores(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not in_group(process.pid)
        assert not semaphores(process.pid)
        assert not list(tmp_path.glob("lesion-*"))
    assert told >= 1
    with started(images, out) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    np.testing.assert_array_equal(read_features(out).embeddings, read_features(whole).embeddings)
    left = {path.name for path in tmp_path.iterdir()} - {"once.h5", "features.h5"}
    assert not {name for name in left if not name.endswith(".lock")}


@pytest.mark.skipif(not UNSHARE, reason="needs unshare")
def test_a_container_s_small_shared_memory_is_enough(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    mounted = "mount -t tmpfs -o size=16m small /dev/shm && df --output=size /dev/shm"
    if subprocess.run(
        [UNSHARE, "-rm", "sh", "-c", mounted], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs the right to mount a small /dev/shm")
    out = tmp_path / "features.h5"
    words = [sys.executable, "extract_features.py", str(images), "--out", str(out), *OPTIONS]
    done = subprocess.run(
        [UNSHARE, "-rm", "sh", "-c", f'{mounted} && exec "$@"', "sh", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "16384" in done.stdout
    np.testing.assert_array_equal(read_features(out).embeddings, read_features(whole).embeddings)
