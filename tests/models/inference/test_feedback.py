"""What reviewers recorded, kept on the disk and read for fitting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import Features, Items
from features.embedding.specification import ExtractorSpec
from models.inference.feedback import FeedbackFailed, FeedbackRecord, add_feedback
from models.inference.feedback_store import FeedbackStore
from tests.conftest import ROOT

SPEC = ExtractorSpec("inception_v3", "untrained", "0" * 64, 75, 8, ("mixed10",))


def features(labels: str = "mnmn") -> Features:
    names = {"m": "melanoma", "n": "nevus"}
    return Features(
        spec=SPEC,
        embeddings=np.arange(8 * len(labels), dtype=np.float32).reshape(-1, 8),
        items=Items.from_rows(
            (row, f"{row:064x}", f"{row}.png", names[label], "train", "", 75, 75)
            for row, label in enumerate(labels)
        ),
    )


def record(number: int, label: str = "melanoma", **more: object) -> FeedbackRecord:
    values = {
        "sha256": f"{number:064x}",
        "label": label,
        "reviewer": "anna",
        "fingerprint": SPEC.fingerprint,
        "bundle": "b" * 64,
        "probability": 0.25,
        "embedding": np.full(8, number, np.float32),
    }
    return FeedbackRecord(**{**values, **more})  # type: ignore[arg-type]


def test_what_was_added_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "feedback ?.db"
    path.parent.mkdir()
    added = [record(7), record(8, "nevus", image=b"bytes"), record(7, "nevus")]
    with FeedbackStore(path, create=True) as store:
        assert [store.add(each) for each in added] == [1, 2, 3]
    with FeedbackStore(path) as store:
        found = store.read()
    assert [(f.sha256, f.label, f.reviewer, f.probability, f.bundle) for f in found] == [
        (a.sha256, a.label, a.reviewer, a.probability, a.bundle) for a in added
    ]
    for before, after in zip(added, found, strict=True):
        np.testing.assert_array_equal(before.embedding, after.embedding)
        assert after.created.endswith("+00:00")


def test_a_url_is_taken_as_well_as_a_path(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'feedback.db'}"
    with FeedbackStore(url, create=True) as store:
        store.add(record(1))
    with FeedbackStore(tmp_path / "feedback.db") as store:
        assert len(store.read()) == 1


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nothing.db", "there is no feedback in"),
        ("nonsense://x", "can't be opened"),
        ("://", "can't be read"),
    ],
)
def test_a_store_that_is_none_is_refused(
    address: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeedbackFailed, match=words):
        FeedbackStore(address)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    path.write_bytes(b"these are words, and quite a lot of them" * 100)
    with FeedbackStore(path) as store, pytest.raises(FeedbackFailed, match="can't be read"):
        store.read()


def test_reviewed_images_are_trained_on_once_and_with_their_latest_label() -> None:
    before = features()
    after, notes = add_feedback(
        before, [record(10), record(11, "nevus"), record(10, "nevus"), record(1, "melanoma")]
    )
    assert after.items.sha256.tolist()[4:] == [f"{10:064x}", f"{11:064x}"]
    assert after.items.label.tolist()[4:] == ["nevus", "nevus"]
    assert set(after.items.split.tolist()) == {"train"}
    np.testing.assert_array_equal(after.embeddings[after.items.row[4:]][:, 0], [10, 11])
    np.testing.assert_array_equal(after.embeddings[:4], before.embeddings)
    assert after.items.take(np.arange(4)).path.tolist() == before.items.path.tolist()
    assert "2 reviewed images are trained on" in notes[0]
    assert "1 reviewed images are in the feature file already" in notes[1]
    assert "1 of them with another label" in notes[1]


def test_no_feedback_changes_nothing() -> None:
    before = features()
    after, notes = add_feedback(before, [])
    assert after is before
    assert notes == ("feedback: 0 reviewed images are trained on",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "f" * 64}, "embedded by the extractor ffffffff"),
        ({"embedding": np.zeros(7, np.float32)}, "has 7 numbers, expected 8"),
    ],
)
def test_feedback_of_another_extractor_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(FeedbackFailed, match=words):
        add_feedback(features(), [record(10, **change)])


def test_a_feature_file_in_half_precision_stays_so() -> None:
    half = replace(features(), embeddings=features().embeddings.astype(np.float16))
    after, _ = add_feedback(half, [record(10)])
    assert after.embeddings.dtype == np.float16


WRITER = textwrap.dedent(
    """
    import sys
    from tests.models.inference.test_feedback import record
    from models.inference.feedback_store import FeedbackStore
    store = FeedbackStore(sys.argv[1], create=True)
    for number in range(10_000):
        store.add(record(number))
        print(number, flush=True)
    """
)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    acknowledged = -1
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert writer.stdout
        with writer.stdout:
            for line in writer.stdout:
                acknowledged += 1
                if int(line) == 25:
                    writer.send_signal(signal.SIGKILL)
        writer.wait()
    with FeedbackStore(path) as store:
        found = len(store.read())
    # The last one of each writer may be there without having been told.
    assert acknowledged + 1 <= found <= acknowledged + 1 + 4


def test_a_full_disk_is_told_and_nothing_is_lost(small_disk: Path) -> None:
    path = small_disk / "feedback.db"
    large = os.urandom(40_000)
    kept = 0
    with FeedbackStore(path, create=True) as store:
        with pytest.raises(FeedbackFailed, match="make room") as failure:  # noqa: PT012
            for number in range(100):
                store.add(record(number, image=large))
                kept += 1
        assert failure.value.full
        assert failure.value.code == "storage_full"
        assert 0 < kept < 100
        assert len(store.read()) == kept
        (small_disk / "ballast").unlink()
        store.add(record(1000, image=large))
        assert len(store.read()) == kept + 1


def test_processes_that_open_it_at_the_same_time_all_can(tmp_path: Path) -> None:
    together = threading.Barrier(6, timeout=60)

    def open_store(number: int) -> int:
        together.wait()
        with FeedbackStore(tmp_path / f"{number}.db", create=True) as store:
            return len(store.read())

    with ThreadPoolExecutor(6) as openers:
        for number in range(20):
            assert list(openers.map(open_store, [number] * 6)) == [0] * 6
