from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.images.formats import require_heif
from models.bundle.loading import load_bundle
from models.inference.classifier import Classifier
from models.inference.verdict import Verdict
from service import create_app
from service.classifier.loaded import LoadedClassifier
from service.errors import PROBLEM_TYPE
from service.settings import Settings
from tests.features.images.codecs.dicoms import PATIENT, dicom
from tests.service.asking import Server, lesion_jpeg, multipart, noise_png

CLASSIFY = "/api/v1/classify"


def test_one_image_gets_a_verdict_and_its_provenance(server: Server, lesion: bytes) -> None:
    answer = server.classify(("mole.jpg", lesion))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    result = answer.json["results"][0]
    assert result.keys() >= {
        "filename",
        "label",
        "probability",
        "threshold",
        "decision",
        "warnings",
    }
    assert result["filename"] == "mole.jpg"
    assert 0 < result["probability"] < 1
    suspicious = result["probability"] >= result["threshold"]
    assert result["flagged"] == suspicious
    told = "suspicious" if suspicious else "not suspicious"
    assert result["decision"] == ("cannot tell" if result["reasons"] else told)
    assert result["label"] == ("melanoma" if suspicious else "NotMelanoma")
    assert len(result["warnings"]) == 2
    assert answer.json["model"]["marks"] == ["untrained", "synthetic"]
    assert answer.json["model"]["head"] == "logistic_regression"
    assert answer.json["notice"] == "Decision support, not a diagnosis."


def test_http_gives_what_the_classifier_gives(server: Server, bundle: Path) -> None:
    images = [(f"{seed}.jpg", lesion_jpeg(seed)) for seed in range(3)]
    classifier = Classifier.load(bundle)
    assert classifier.bundle.spec.fingerprint.startswith(
        server.classify(images[0]).json["model"]["fingerprint"]
    )
    for verdict, result in zip(
        classifier.classify(images), server.classify(*images).json["results"], strict=True
    ):
        assert isinstance(verdict, Verdict)
        assert result["filename"] == verdict.filename
        assert result["probability"] == pytest.approx(verdict.probability, abs=1e-5)


def test_pictures_of_phones_and_of_clinics_are_judged_and_raw_files_named(
    server: Server, lesion: bytes
) -> None:
    picture = Image.open(io.BytesIO(lesion)).convert("RGB")
    png, heic = io.BytesIO(), io.BytesIO()
    picture.save(png, "PNG")
    require_heif()
    picture.save(heic, "HEIF", quality=100)
    files = [
        ("mole.png", png.getvalue()),
        ("mole.dcm", dicom(np.asarray(picture))),
        ("IMG_1.HEIC", heic.getvalue()),
        ("IMG_1.RAF", b"FUJIFILMCCD-RAW 0201" + bytes(100)),
        ("all.zip", b"PK\x03\x04" + bytes(100)),
    ]
    answer = server.classify(*files)
    png_result, dicom_result, heic_result, raw, archive = answer.json["results"]
    assert dicom_result["probability"] == pytest.approx(png_result["probability"], abs=1e-5)
    assert 0 < heic_result["probability"] < 1
    assert "RAF" in raw["error"]["message"]
    assert "archive: unpack it" in archive["error"]["message"]
    assert PATIENT not in answer.text


def test_similar_training_images_are_named(server: Server, bundle: Path, lesion: bytes) -> None:
    answer = server.send("/api/v1/similar", ("image", "a.jpg", lesion), ("image", "b.jpg", b"no"))
    assert answer.status == 200
    first, second = answer.json["results"]
    assert second["error"]["code"] == "not_an_image"
    gallery = load_bundle(bundle).gallery
    assert gallery is not None
    assert len(first["nearest"]) == min(5, len(gallery.places))
    distances = [each["distance"] for each in first["nearest"]]
    assert distances == sorted(distances)
    for each in first["nearest"]:
        assert each["label"] == gallery.label_of(each["sha256"])
    again = server.send("/api/v1/classify", ("image", "a.jpg", lesion))
    assert again.status == 200
    count = re.search(r"^lesion_distance_count (\S+)", server.get("/metrics").text, re.MULTILINE)
    assert count
    assert float(count[1]) >= 1


def test_an_image_has_the_same_answers_alone_and_among_others(
    server: Server, lesion: bytes
) -> None:
    files = [("image", f"{seed}.jpg", lesion_jpeg(seed)) for seed in range(1, 7)]
    together = server.send("/api/v1/similar", *files).json["results"]
    alone = [server.send("/api/v1/similar", file).json["results"][0] for file in files]
    assert together == alone
    together = server.send("/api/v1/classify", *files).json["results"]
    alone = [server.send("/api/v1/classify", file).json["results"][0] for file in files]
    for one, other in zip(together, alone, strict=True):
        # Heads judge several images by one product.
        assert one.pop("probability") == pytest.approx(other.pop("probability"), abs=1e-6)
        assert one == other


def test_many_images_keep_their_order_and_bad_ones_spoil_nothing(
    server: Server, lesion: bytes
) -> None:
    answer = server.classify(
        ("first.jpg", lesion),
        ("notes.txt", b"these are words"),
        ("cut.jpg", lesion[: len(lesion) // 2]),
        ("empty.jpg", b""),
        ("last.jpg", lesion_jpeg(1)),
    )
    assert answer.status == 200
    results = answer.json["results"]
    assert [r["filename"] for r in results] == [
        "first.jpg",
        "notes.txt",
        "cut.jpg",
        "empty.jpg",
        "last.jpg",
    ]
    codes = [r.get("error", {}).get("code") for r in results]
    assert codes == [None, "not_an_image", "truncated", "empty", None]
    assert all(r["error"]["message"] for r in results if "error" in r)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"these are words", 415, "not_an_image"),
        (b"%PDF-1.7 of a kind", 415, "unsupported"),
        (b"", 422, "empty"),
        (lesion_jpeg()[:4000], 422, "truncated"),
    ],
)
def test_status_when_no_image_could_be_read(
    server: Server, content: bytes, status: int, code: str
) -> None:
    answer = server.classify(("one", content))
    assert (answer.status, answer.json["results"][0]["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("parts", "code", "named"),
    [
        ([("file", "mole.jpg", b"x"), ("note", None, b"y")], "wrong_field", "'file', 'note'"),
        ([("image", None, b"text")], "not_a_file", "'image'"),
        ([("image", "", b"")], "no_file", "No image was chosen"),
        ([], "no_file", "'image'"),
    ],
)
def test_a_request_without_images_is_told_what_was_got_and_expected(
    server: Server, parts: list[tuple[str, str | None, bytes]], code: str, named: str
) -> None:
    answer = server.send(CLASSIFY, *parts)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == 400
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert answer.json["code"] == code
    assert named in answer.json["detail"]


@pytest.mark.parametrize(
    ("content_type", "code", "named"),
    [
        ("", "not_multipart", "no content type"),
        ("image/jpeg", "not_multipart", "'image/jpeg'"),
        ("application/x-www-form-urlencoded", "not_multipart", "multipart/form-data"),
        ("multipart/form-data", "no_file", "'image'"),
        ("multipart/form-data; boundary=other", "no_file", "'image'"),
    ],
)
def test_a_body_that_is_not_multipart_is_refused(
    server: Server, content_type: str, code: str, named: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = server.ask("POST", CLASSIFY, b"image=1", headers)
    assert (answer.status, answer.json["code"]) == (400, code)
    assert named in answer.json["detail"]


def test_an_empty_body_is_refused(server: Server) -> None:
    answer = server.ask("POST", CLASSIFY)
    assert (answer.status, answer.json["code"]) == (400, "not_multipart")


def test_too_many_images_are_refused(server: Server) -> None:
    answer = server.classify(*((f"{number}.jpg", b"x") for number in range(25)))
    assert (answer.status, answer.json["code"]) == (413, "too_many_images")
    assert "25 images" in answer.json["detail"]
    assert "at most 24" in answer.json["detail"]


@pytest.mark.parametrize("megabytes", [9, 40])
def test_a_large_request_hears_why_it_is_refused(server: Server, megabytes: int) -> None:
    answer = server.classify(("huge.png", bytes(megabytes * 1024**2)))
    assert (answer.status, answer.json["code"]) == (413, "too_large")
    assert f"{megabytes}.0 MB" in answer.json["detail"]
    assert "at most 8 MB" in answer.json["detail"]


def test_a_request_just_below_the_limit_is_taken(server: Server) -> None:
    image = noise_png(1600)
    assert 7 * 1024**2 < len(image) < 8 * 1024**2
    assert server.classify(("noise.png", image)).status == 200


def test_a_large_chunked_request_is_refused(server: Server) -> None:
    body, content_type = multipart([("image", "huge.png", bytes(9 * 1024**2))])
    pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    answer = server.ask("POST", CLASSIFY, iter(pieces), {"Content-Type": content_type})
    assert (answer.status, answer.json["code"]) == (413, "too_large")


def test_a_chunked_request_is_classified(server: Server, lesion: bytes) -> None:
    body, content_type = multipart([("image", "mole.jpg", lesion)])
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    answer = server.ask("POST", CLASSIFY, iter(pieces), {"Content-Type": content_type})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CLASSIFY, 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("POST", "/api/", 404, "not_found"),
    ],
)
def test_wrong_addresses_are_answered_in_json(
    server: Server, method: str, path: str, status: int, code: str
) -> None:
    answer = server.ask(method, path)
    assert (answer.status, answer.json["code"]) == (status, code)
    if status == 405:
        assert answer.headers["Allow"]


def test_health_and_readiness(server: Server) -> None:
    assert (server.get("/healthz").status, server.get("/readyz").status) == (200, 200)


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("../../etc/passwd", "../../etc/passwd"),
        ("<script>alert(1)</script>.jpg", "<script>alert(1)</script>.jpg"),
        ("Muttermal größer 🩺.jpg", "Muttermal größer 🩺.jpg"),
        ("bell\x07.jpg", "bell\N{REPLACEMENT CHARACTER}.jpg"),
        ("x" * 400, "x" * 255),
        ("", "image 1"),
    ],
)
def test_file_names_are_echoed_and_nothing_more(
    server: Server, lesion: bytes, sent: str, echoed: str
) -> None:
    answer = server.classify((sent, lesion))
    assert answer.json["results"][0]["filename"] == echoed


def test_an_unexpected_fault_is_logged_but_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(bundle=tmp_path)
    app = create_app(settings, LoadedClassifier(settings))
    paths = ("/api/v1/fault", "/fault")
    for path in paths:
        app.add_url_rule(path, path, lambda: {}["a secret"])
    for path in paths:
        answer = app.test_client().get(path)
        assert answer.status_code == 500
        assert "Something went wrong" in answer.text
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert (answer.mimetype == PROBLEM_TYPE) == path.startswith("/api/")
        assert "KeyError: 'a secret'" in caplog.text
        caplog.clear()


def test_the_application_is_made_from_variables_alone(
    server: Server, bundle: Path, lesion: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `gunicorn "service:create_app()"` does."""
    monkeypatch.setenv("LESION_BUNDLE", str(bundle))
    app = create_app()
    body, content_type = multipart([("image", "mole.jpg", lesion)])
    answer = app.test_client().post(CLASSIFY, data=body, content_type=content_type)
    assert answer.status_code == 200
    assert answer.json == server.classify(("mole.jpg", lesion)).json
