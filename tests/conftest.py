"""What the tests of all packages share: options, real data, small drawn images."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from click.testing import CliRunner

from features.errors import LesionError
from tests.features.storage.servers import anew, azure, google, other, proxy, put, s3, web
from tests.models.inference.postgres import Postgres, running_postgres
from tests.pictures import image_bytes

__all__ = ["anew", "azure", "google", "other", "proxy", "put", "s3", "web"]

ROOT = Path(__file__).parent.parent
WORKER_BYTES = 3 * 2**30

# Other workers take the cores in turn, so that an example may take any time.
hypothesis.settings.register_profile("any time", deadline=None)
hypothesis.settings.load_profile("any time")

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_xdist_auto_num_workers() -> int:
    """One worker a core, as long as the memory lasts for their networks, servers and browsers."""
    return max(1, min(cores(), psutil.virtual_memory().available // WORKER_BYTES))


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # What follows comes from the process that started the workers.
        return
    # Converted networks are kept for the commands that tests start, and not in the user's folder.
    kept = tempfile.mkdtemp(prefix="lesion-networks-")
    os.environ["LESION_CACHE"] = kept
    config.add_cleanup(lambda: shutil.rmtree(kept))
    if workers := config.getoption("numprocesses", None):
        # Workers share the cores: threads that spin while they wait for one make small linear
        # algebra a hundred times slower.
        threads = str(max(1, cores() // workers))
        os.environ.setdefault("OPENBLAS_NUM_THREADS", threads)
        os.environ.setdefault("OMP_NUM_THREADS", threads)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Files go to workers whole and in this order: what is long begins first, and what is short
    # fills the workers evenly at the end.
    tests = Counter(item.path for item in items)
    long = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: (item.path not in long, -tests[item.path], str(item.path)))
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights that LESION_TEST_DATA names."""
    folder = os.environ.get("LESION_TEST_DATA")
    if not folder or not Path(folder, "data").is_dir():
        pytest.skip("needs real images: LESION_TEST_DATA names no folder that holds them")
    return Path(folder)


@pytest.fixture(scope="session")
def real_weights(real_data: Path) -> Path:
    """InceptionV3 weights, trained on ImageNet."""
    found = sorted((real_data / "weights").glob("inception_v3*.h5"))
    if not found:
        pytest.skip(f"needs InceptionV3 weights in {real_data / 'weights'}")
    return found[0]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL, where there is one."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def run() -> Run:
    """Run a command of the project as a user does, and give what it printed."""

    def command(
        *words: object, timeout: float = 300, **more: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=more.pop("cwd", ROOT),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **more,
        )

    return command


@pytest.fixture
def run_here() -> Run:
    """Run a command as `run` does, in this process: without the time that another takes."""

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        name, *options = map(str, words[1:] if words[0] == "-m" else words)
        module = f"{name}.__main__" if words[0] == "-m" else name.removesuffix(".py")
        done = CliRunner().invoke(importlib.import_module(module).main, options)
        out, told, code = done.stdout, done.stderr, done.exit_code
        if isinstance(done.exception, LesionError):
            # What `python -m` makes of it.
            told += f"error: {done.exception}\n"
        elif isinstance(done.exception, SystemExit) and isinstance(done.exception.code, str):
            # Python prints it to standard error, and the runner to standard output.
            out = out.removesuffix(f"{done.exception.code}\n")
            told += f"{done.exception.code}\n"
        elif done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, code, out, told)

    return command


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bundles carry the weights file, as they do where OpenVINO is not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: None if name == "openvino" else find(name, package),
    )


@pytest.fixture
def folder_of_images(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of small images from relative paths."""

    def make(*paths: str, root: str = "images") -> Path:
        folder = tmp_path / root
        for seed, path in enumerate(paths):
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            form = "PNG" if file.suffix.lower() == ".png" else "JPEG"
            file.write_bytes(image_bytes(seed, form=form))
        return folder

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 512 KiB, a quarter of it taken by the file `ballast`."""
    place = tmp_path / "disk"
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    words = [mount or "true", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    subprocess.run(words, capture_output=True, check=False)
    if umount is None or not place.is_mount():
        pytest.skip("only root can mount a disk to fill")
    (place / "ballast").write_bytes(bytes(128 * 1024))
    yield place
    subprocess.run([umount, "-l", str(place)], check=True)
