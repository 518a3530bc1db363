from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from features.storage.addresses import as_place
from models.bundle.manifest import BundleRefused
from service.classifier.loaded import LoadedClassifier
from service.settings import Settings, SettingsError
from tests.conftest import ROOT
from tests.features.storage.servers import BUCKET

MANY_THREADS_ALLOCATE = r"""
import re, threading
from pathlib import Path
import numpy as np
from service.classifier.loaded import LoadedClassifier
from service.settings import Settings

LoadedClassifier(Settings(bundle=Path("none")))

def memory():
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1e3

before, kept, meet = memory(), [], threading.Barrier(24)

def work():
    meet.wait()
    for _ in range(3):
        maps = [np.ones(220_000) for _ in range(8)]
        kept.append(bytes(2000))
        del maps
    meet.wait()

threads = [threading.Thread(target=work) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="heaps are those of glibc")
def test_threads_give_back_the_memory_that_maps_took() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_THREADS_ALLOCATE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # Some 280 MB with a heap for each thread.
    assert float(done.stdout) < 160


def test_a_bundle_from_an_address_is_the_one_that_was_meant(
    put: Callable[[str, bytes], str], bundle: Path
) -> None:
    for file in bundle.iterdir():
        put(f"bundle/{file.name}", file.read_bytes())
    manifest = (bundle / "bundle.json").read_bytes()
    meant = f"s3://{BUCKET}/bundle#sha256={hashlib.sha256(manifest).hexdigest()}"
    classifier = LoadedClassifier(Settings(bundle=as_place(meant)))
    first = classifier.load().bundle.identity
    assert first == json.loads(manifest)["sealed"]
    put("bundle/bundle.json", manifest + b" ")
    with pytest.raises(BundleRefused, match="it is not the one that was meant"):
        classifier.load()
    assert classifier.bundle.identity == first


def test_a_secret_in_the_address_of_a_bundle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESION_BUNDLE", "s3://key:wJalrXUtnFEMI@bucket/served")
    with pytest.raises(SettingsError, match="has a secret in it") as refused:
        Settings.from_environment()
    assert "wJalr" not in str(refused.value)
