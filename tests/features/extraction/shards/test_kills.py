"""The command is killed again and again, and its reruns come to what an undisturbed run makes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import read_features
from features.cache.shards.places import UNFINISHED
from features.datasets.folders import find_images
from features.embedding.extractor import load_extractor
from features.extraction import extract
from tests.conftest import ROOT
from tests.pictures import image_bytes

IMAGES, SHARDS, KILLS = 400, 4, 3


def started(images: Path, out: Path) -> subprocess.Popen[str]:
    words = ["--shards", str(SHARDS), "--weights", "untrained", "--size", "75", "--recipe", "fast"]
    return subprocess.Popen(
        [sys.executable, "extract_features.py", str(images), "--out", str(out), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "shards"
    for seed in range(IMAGES):
        place = images / "nm"[seed % 2] / f"{seed:04d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image_bytes(seed, (80, 80)))
    moment, killed, done = random.Random(16), 0, []  # noqa: S311
    while killed < KILLS:
        with started(images, out) as process:
            # Kills fall when something is written: a block, a feature file, a mark.
            for _ in range(moment.randint(1, 5)):
                before = listing(out)
                while process.poll() is None and listing(out) == before:
                    time.sleep(0.001)
            time.sleep(moment.uniform(0, 0.02))
            ended = process.poll() is not None
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
        if ended:
            break
        killed += 1
        done.append(len(list(out.glob("*.json"))))
    assert killed >= 2, done
    assert done == sorted(done)
    with started(images, out) as process:
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    left = [place.name for place in (out / UNFINISHED).iterdir()]
    assert all(name.endswith(".lock") for name in left), left
    assert len([place for place in out.iterdir() if place.is_file()]) == 2 * SHARDS
    whole = tmp_path / "whole.h5"
    extract(find_images(images), load_extractor("inception_v3", "untrained", input_size=75), whole)
    sharded, single = read_features(out), read_features(whole)
    order = np.argsort(sharded.items.path)
    for name in ("path", "sha256", "label", "split", "group", "width", "height"):
        np.testing.assert_array_equal(
            getattr(sharded.items, name)[order], getattr(single.items, name)
        )
    np.testing.assert_array_equal(
        sharded.embedded(sharded.items)[order], single.embedded(single.items)
    )
    assert len(sharded.embeddings) == len(single.embeddings) == IMAGES


def listing(out: Path) -> set[str]:
    return {str(place) for place in out.rglob("*") if not place.name.endswith(".lock")}
