"""What a reviewer records, from the API and the page to the next bundle."""

from __future__ import annotations

import hashlib
import html
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import Features, write_features
from models.bundle.loading import load_bundle
from models.inference.classifier import Classifier
from models.inference.feedback_store import FeedbackStore
from tests.conftest import Run
from tests.service.asking import Answer, Keys, Server, lesion_jpeg, run_service

Start = Callable[..., Server]
FEEDBACK = "/api/v1/feedback"


def tell(server: Server, keys: Keys, image: bytes, label: str) -> Answer:
    parts = [("label", None, label.encode()), ("image", "patient.jpg", image)]
    return server.send(FEEDBACK, *parts, **keys.header("reviewer"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "feedback.db"


@pytest.fixture(scope="module")
def reviewed(bundle: Path, start: Start, keys: Keys, store: Path) -> Server:
    return start(bundle, "--keys", str(keys.file), "--feedback", str(store))


def test_a_program_records_a_label(
    reviewed: Server, bundle: Path, keys: Keys, store: Path, lesion: bytes
) -> None:
    answer = tell(reviewed, keys, lesion, "melanoma")
    assert answer.status == 201
    assert answer.json["reviewer"] == "reviewer"
    assert answer.json["image_kept"] is False
    classifier = Classifier.load(bundle)
    with FeedbackStore(store) as opened:
        found = opened.read()[answer.json["number"] - 1]
    assert found.sha256 == answer.json["sha256"] == hashlib.sha256(lesion).hexdigest()
    assert (found.label, found.reviewer) == ("melanoma", "reviewer")
    assert found.fingerprint == classifier.bundle.fingerprint
    assert found.bundle == classifier.bundle.identity
    (row,) = classifier.embed([classifier.read(lesion)])
    np.testing.assert_allclose(found.embedding, row, rtol=1e-3, atol=1e-3)
    assert b"patient" not in store.read_bytes()
    assert lesion not in store.read_bytes()


@pytest.mark.parametrize(
    ("label", "image", "status", "code"),
    [
        ("nevus", lesion_jpeg(), 400, "wrong_value"),
        ("", lesion_jpeg(), 400, "wrong_value"),
        ("melanoma", b"words", 422, "unreadable_image"),
        ("melanoma", b"", 422, "unreadable_image"),
    ],
)
def test_what_makes_no_sense_is_not_recorded(
    reviewed: Server,
    keys: Keys,
    store: Path,
    label: str,
    image: bytes,
    status: int,
    code: str,
) -> None:
    with FeedbackStore(store, create=True) as opened:
        before = len(opened.read())
        answer = tell(reviewed, keys, image, label)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert len(opened.read()) == before


def test_without_a_store_nothing_is_recorded(
    bundle: Path, start: Start, keys: Keys, lesion: bytes
) -> None:
    server = start(bundle, "--keys", str(keys.file))
    answer = tell(server, keys, lesion, "melanoma")
    assert (answer.status, answer.json["code"]) == (404, "no_feedback")


def sign_in(server: Server, keys: Keys, name: str) -> str:
    answer = server.send_form("/sign-in", ("key", None, keys.of[name].encode()))
    assert answer.status == 303
    return answer.headers["Set-Cookie"].partition(";")[0]


def test_a_reviewer_records_a_label_on_the_page(reviewed: Server, keys: Keys, store: Path) -> None:
    image = lesion_jpeg(5)
    cookie = sign_in(reviewed, keys, "reviewer")
    page = reviewed.send_form("/", ("image", "mole.jpg", image), cookie=cookie)
    ticket = re.search(r'name="case" value="([^"]+)"', page.text)
    assert ticket
    assert re.findall(r'name="label" value="([^"]+)"', page.text) == ["NotMelanoma", "melanoma"]
    case = ("case", None, html.unescape(ticket[1]).encode())
    told = reviewed.send_form("/feedback", case, ("label", None, b"NotMelanoma"), cookie=cookie)
    assert told.status == 200
    assert "The image was NotMelanoma, says reviewer." in told.text
    with FeedbackStore(store) as opened:
        found = opened.read()[-1]
    assert found.sha256 == hashlib.sha256(image).hexdigest()
    assert found.label == "NotMelanoma"
    for part, label in ((case[2][:-3] + b"xyz", b"melanoma"), (b"", b"melanoma"), (case[2], b"x")):
        wrong = ("case", None, part), ("label", None, label)
        assert reviewed.send_form("/feedback", *wrong, cookie=cookie).status == 400
    assert reviewed.send_form("/feedback", case, ("label", None, b"melanoma")).status == 401
    with FeedbackStore(store) as opened:
        assert opened.read()[-1].created == found.created


def test_who_may_only_classify_is_not_asked(reviewed: Server, keys: Keys, lesion: bytes) -> None:
    cookie = sign_in(reviewed, keys, "classify")
    page = reviewed.send_form("/", ("image", "mole.jpg", lesion), cookie=cookie)
    assert page.status == 200
    assert 'name="case"' not in page.text
    wrong = ("case", None, b"x"), ("label", None, b"melanoma")
    assert reviewed.send_form("/feedback", *wrong, cookie=cookie).status == 403


def test_images_are_kept_only_if_told_so(
    bundle: Path, start: Start, keys: Keys, tmp_path: Path, lesion: bytes
) -> None:
    store = tmp_path / "feedback.db"
    options = ("--keys", str(keys.file), "--feedback", str(store), "--feedback-images")
    server = start(bundle, *options)
    assert tell(server, keys, lesion, "melanoma").json["image_kept"] is True
    assert lesion[:500] in store.read_bytes()
    alone = run_service("--bundle", bundle, "--feedback-images")
    assert alone.returncode == 1
    assert "--feedback PATH" in alone.stderr


def test_a_store_that_can_not_be_opened_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    run = run_service("--bundle", bundle, "--port", "0", "--feedback", tmp_path / "no" / "where")
    assert run.returncode == 1
    assert "can't be opened" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_what_was_acknowledged_survives_kill_9_of_the_service(
    bundle: Path, start: Start, keys: Keys, tmp_path: Path
) -> None:
    store = tmp_path / "feedback.db"
    server = start(bundle, "--keys", str(keys.file), "--feedback", str(store))
    acknowledged = []

    def ask(seed: int) -> None:
        try:
            answer = tell(server, keys, lesion_jpeg(seed, size=64), "melanoma")
        except OSError:
            return
        assert answer.status == 201
        acknowledged.append(answer.json["sha256"])
        if len(acknowledged) == 10:
            server.process.send_signal(signal.SIGKILL)

    with ThreadPoolExecutor(4) as reviewers:
        list(reviewers.map(ask, range(40)))
    assert 10 <= len(acknowledged) < 40
    with FeedbackStore(store) as opened:
        assert {each.sha256 for each in opened.read()} >= set(acknowledged)


def test_a_full_disk_is_told_and_what_was_acknowledged_is_there(
    bundle: Path, start: Start, keys: Keys, small_disk: Path, lesion: bytes
) -> None:
    store = small_disk / "feedback.db"
    server = start(bundle, "--keys", str(keys.file), "--feedback", str(store))
    answers = [tell(server, keys, lesion_jpeg(seed, size=64), "melanoma") for seed in range(80)]
    kept = [answer.json["sha256"] for answer in answers if answer.status == 201]
    refused = [answer for answer in answers if answer.status == 507]
    assert len(kept) + len(refused) == 80
    assert kept
    assert refused
    assert refused[0].json["code"] == "storage_full"
    assert "nothing was kept" in refused[0].json["detail"]
    assert server.classify(("mole.jpg", lesion), **keys.header("classify")).status == 200
    (small_disk / "ballast").unlink()
    assert tell(server, keys, lesion, "melanoma").status == 201
    with FeedbackStore(store) as opened:
        found = [each.sha256 for each in opened.read()]
    assert found[: len(kept)] == kept
    assert len(found) == len(kept) + 1
    assert "nothing was kept" in server.errors.read_text()


def test_a_bundle_is_fitted_with_feedback_and_taken(
    own_bundle: Path,
    drawn: Features,
    start: Start,
    keys: Keys,
    run: Run,
    tmp_path: Path,
) -> None:
    store, file = tmp_path / "feedback.db", tmp_path / "features.h5"
    write_features(file, drawn)
    server = start(own_bundle, "--keys", str(keys.file), "--feedback", str(store))
    for seed in range(100, 106):
        label = "melanoma" if seed % 2 else "NotMelanoma"
        assert tell(server, keys, lesion_jpeg(seed, label), label).status == 201
    before = load_bundle(own_bundle)
    fitted = run(
        *("fit_classifier.py", file, "--out", own_bundle, "--overwrite", "--feedback", store),
        *("--heads", "logistic_regression", "--folds", 3, "--jobs", 1),
    )
    assert fitted.returncode == 0, fitted.stderr
    assert "6 reviewed images are trained on" in fitted.stderr
    after = load_bundle(own_bundle)
    counted = [sum(bundle.counts["train"].values()) for bundle in (before, after)]
    assert counted == [40, 46]
    reload = server.ask("POST", "/api/v1/reload", None, keys.header("admin"))
    assert reload.status == 200
    assert reload.json["now"] == after.identity
