from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.cache.contents import Features
from models.bundle.manifest import MANIFEST, seal
from models.report.publishing import publish_bundle
from models.training.comparison import compare_heads
from models.training.options import Options
from tests.service.asking import Keys, Server, lesion_jpeg

NOT_A_DIAGNOSIS = "Decision support, not a diagnosis."


def test_the_form_can_be_sent_without_a_script(server: Server) -> None:
    page = server.get("/")
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    form = re.search(r"<form[^>]*>", page.text)
    assert form
    assert 'method="post"' in form[0]
    assert 'enctype="multipart/form-data"' in form[0]
    assert re.search(r'<input[^>]*type="file"[^>]*name="image"', page.text)
    assert re.search(r'<label[^>]*for="image"', page.text)


def test_a_sent_form_shows_the_verdict_on_the_same_page(server: Server) -> None:
    for seed, label in ((0, "melanoma"), (1, "NotMelanoma")):
        image = lesion_jpeg(seed, label)
        page = server.send_form("/", ("image", "mole.jpg", image))
        (result,) = server.classify(("mole.jpg", image)).json["results"]
        assert page.status == 200
        assert f"{result['probability'] * 100:.1f}\N{NARROW NO-BREAK SPACE}%" in page.text
        assert f"{result['threshold'] * 100:.1f}\N{NARROW NO-BREAK SPACE}%" in page.text
        assert result["decision"].capitalize() in re.findall(r"<title>(.*?) ·", page.text)[0]
        assert "data:image/jpeg;base64," in page.text
        # On the card, below the list of cases, and at the foot.
        assert len(re.findall(rf">\s*{NOT_A_DIAGNOSIS}", page.text)) == 3
        assert '<form id="form"' in page.text


@pytest.mark.parametrize("path", ["/", "/model", "/card", "/limits", "/privacy", "/nothing"])
def test_every_page_says_what_it_is_and_is_not(server: Server, path: str) -> None:
    page = server.get(path).text
    assert NOT_A_DIAGNOSIS in page
    assert "<strong>Untrained.</strong>" in page
    assert "<strong>Synthetic.</strong>" in page


def test_every_result_carries_the_marks(server: Server, lesion: bytes) -> None:
    fragment = server.send_form(
        "/", ("image", "mole.jpg", lesion), **{"X-Lesion-Fragment": "results"}
    )
    assert "<html" not in fragment.text
    assert "weights are random" in fragment.text
    assert "made from drawn images" in fragment.text


def test_several_images_are_shown_in_order(server: Server, lesion: bytes) -> None:
    page = server.send_form(
        "/", ("image", "a.jpg", lesion), ("image", "b.txt", b"words"), ("image", "c.jpg", lesion)
    )
    assert page.status == 200
    names = re.findall(r'class="file">(.*?)<', page.text)
    assert names == ["a.jpg", "b.txt", "c.jpg"]
    assert "The file is not an image" in page.text


@pytest.mark.parametrize(
    ("parts", "status", "words"),
    [
        ([("image", "", b"")], 400, "No image was chosen"),
        ([("image", "notes.txt", b"words")], 415, "The file is not an image"),
        ([("image", "mole.jpg", b"")], 422, "The file is empty"),
        ([("image", "huge.jpg", bytes(9 * 1024**2))], 413, "at most 8 MB"),
    ],
)
def test_people_get_their_errors_as_pages(
    server: Server, parts: list[tuple[str, str | None, bytes]], status: int, words: str
) -> None:
    page = server.send_form("/", *parts)
    assert page.status == status
    assert page.headers["Content-Type"].startswith("text/html")
    assert words in page.text
    fragment = server.send_form("/", *parts, **{"X-Lesion-Fragment": "results"})
    assert fragment.status == status
    assert words in fragment.text
    assert "<html" not in fragment.text


def test_an_unknown_address_is_a_page(server: Server) -> None:
    page = server.get("/no/<b>such</b>/page")
    assert page.status == 404
    assert "/no/&lt;b&gt;such&lt;/b&gt;/page" in page.text
    assert "<b>such" not in page.text


def test_file_names_are_escaped(server: Server, lesion: bytes) -> None:
    for content in (lesion, b"words"):
        page = server.send_form("/", ("image", "<script>alert(1)</script>.jpg", content)).text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in page
        assert "<script>alert" not in page


@pytest.mark.parametrize("path", ["/", "/model", "/nothing", "/api/v1/classify", "/static/app.js"])
def test_headers_that_hold_a_browser_back(server: Server, path: str) -> None:
    headers = server.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Python" not in headers["Server"]


def test_pages_need_no_other_host_and_hold_no_inline_code(server: Server, lesion: bytes) -> None:
    pages = [server.get(path).text for path in ("/", "/model", "/limits", "/privacy", "/nothing")]
    pages.append(server.send_form("/", ("image", "mole.jpg", lesion)).text)
    for page in pages:
        assert "://" not in page
        assert not re.search(r"<script(?![^>]*src=)", page)
        assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    linked = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', "".join(pages)))
    assert len(linked) == 7
    linked |= {f"/static/{name}.js" for name in ("intake", "results", "history")}
    for path in linked:
        answer = server.get(path)
        assert answer.status == 200
        assert not re.search(r"https?://(?!www\.w3\.org/)", answer.text)


def test_the_model_page_gives_figures_and_leads_to_the_report(server: Server, bundle: Path) -> None:
    page = server.get("/model").text
    assert "Training images, cross-validated" in page
    assert "Sensitivity" in page
    assert 'href="/report"' in page
    report = server.get("/report")
    assert report.status == 200
    assert report.body == (bundle / "report.html").read_bytes()
    policy = report.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_the_map_comes_when_it_is_asked_for(server: Server, lesion: bytes) -> None:
    image: tuple[str, str | None, bytes] = ("image", "mole.jpg", lesion)
    asked: tuple[str, str | None, bytes] = ("show", None, b"evidence")
    page = server.send_form("/", image, asked).text
    assert "data:image/png;base64," in page
    assert "Where it looked</h4>" in page
    assert "Where it looked</h4>" not in server.send_form("/", image).text
    # For one at a time: it takes another pass of the network.
    assert "Where it looked</h4>" not in server.send_form("/", image, image, asked).text


def test_a_script_gets_the_verdict_first_and_then_the_map(server: Server, lesion: bytes) -> None:
    image: tuple[str, str | None, bytes] = ("image", "mole.jpg", lesion)
    asked: tuple[str, str | None, bytes] = ("show", None, b"evidence")
    script = {"X-Lesion-Fragment": "results"}
    card = server.send_form("/", image, asked, **script).text
    assert "data:image/png;base64," not in card
    assert "is being computed" in card
    model = re.search(r'data-look="/look" data-model="([0-9a-f]{16})"', card)
    assert model
    found = server.send_form("/look", image, ("model", None, model[1].encode()), **script)
    assert found.status == 200
    # The same map as without a script.
    whole = server.send_form("/", image, asked).text
    drawn = re.search(r'"(data:image/png;base64,[^"]+)"', found.text)
    assert drawn
    assert drawn[1] in whole
    assert "data-look" not in whole
    other = server.send_form("/look", image, ("model", None, b"0" * 16), **script)
    assert other.status == 400
    assert "Another model is served since" in other.text
    broken = server.send_form(
        "/look", ("image", "a.jpg", b"no image"), ("model", None, model[1].encode()), **script
    )
    assert broken.status == 422


def test_the_model_card_is_shown_and_its_markup_stays_text(
    own_bundle: Path, start: Callable[..., Server]
) -> None:
    card = own_bundle / "MODEL_CARD.md"
    card.write_text("# Card\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![](a.png)\n")
    manifest = json.loads((own_bundle / MANIFEST).read_text())
    del manifest["sealed"]
    content = card.read_bytes()
    manifest["files"][card.name] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    (own_bundle / MANIFEST).write_bytes(seal(manifest))
    page = start(own_bundle).get("/card").text
    assert "<h1>Card</h1>" in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert 'href="javascript' not in page
    assert 'src="a.png"' not in page


def test_labels_are_escaped(drawn: Features, start: Callable[..., Server], tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    labels = np.where(drawn.items.label == "melanoma", hostile, drawn.items.label)
    features = replace(drawn, items=replace(drawn.items, label=labels))
    comparison = compare_heads(
        features, Options(heads=["logistic_regression"], folds=3, jobs=1, positive=hostile)
    )
    publish_bundle(tmp_path / "bundle", comparison, features)
    server = start(tmp_path / "bundle")
    for page in (
        server.get("/").text,
        server.get("/model").text,
        server.get("/limits").text,
        server.get("/card").text,
        server.send_form("/", ("image", "mole.jpg", lesion_jpeg())).text,
    ):
        assert "&lt;img src=x" in page
        assert "<img src=x" not in page


def test_privacy_says_what_is_kept(
    bundle: Path, start: Callable[..., Server], keys: Keys, server: Server, tmp_path: Path
) -> None:
    assert "Nothing: no image, no file name, no result." in server.get("/privacy").text
    options = ("--feedback", str(tmp_path / "feedback.sqlite"), "--keys", str(keys.file))
    keeping = start(bundle, *options, "--feedback-images")
    page = keeping.ask("GET", "/privacy", None, keys.header("reviewer")).text
    assert "Only what a reviewer records" in page
    assert "the image is kept, too" in page
