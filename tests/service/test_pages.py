from __future__ import annotations

import re
from pathlib import Path

import pytest
from asking import Server, lesion_jpeg

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
        page = server.send("/", ("image", "mole.jpg", image))
        (result,) = server.classify(("mole.jpg", image)).json["results"]
        assert page.status == 200
        assert f"{result['probability'] * 100:.1f}\N{NARROW NO-BREAK SPACE}%" in page.text
        assert f"{result['threshold'] * 100:.1f}\N{NARROW NO-BREAK SPACE}%" in page.text
        assert result["decision"].capitalize() in re.findall(r"<title>(.*?) ·", page.text)[0]
        assert "data:image/jpeg;base64," in page.text
        assert page.text.count(NOT_A_DIAGNOSIS) == 2
        assert '<form id="form"' in page.text


@pytest.mark.parametrize("path", ["/", "/model", "/nothing"])
def test_every_page_says_what_it_is_and_is_not(server: Server, path: str) -> None:
    page = server.get(path).text
    assert NOT_A_DIAGNOSIS in page
    assert "<strong>Untrained.</strong>" in page
    assert "<strong>Synthetic.</strong>" in page


def test_every_result_carries_the_marks(server: Server, lesion: bytes) -> None:
    fragment = server.send("/", ("image", "mole.jpg", lesion), **{"X-Lesion-Fragment": "results"})
    assert "<html" not in fragment.text
    assert "weights are random" in fragment.text
    assert "made from drawn images" in fragment.text


def test_several_images_are_shown_in_order(server: Server, lesion: bytes) -> None:
    page = server.send(
        "/", ("image", "a.jpg", lesion), ("image", "b.txt", b"words"), ("image", "c.jpg", lesion)
    )
    assert page.status == 200
    assert "3 results" in page.text
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
    page = server.send("/", *parts)
    assert page.status == status
    assert page.headers["Content-Type"].startswith("text/html")
    assert words in page.text
    fragment = server.send("/", *parts, **{"X-Lesion-Fragment": "results"})
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
        page = server.send("/", ("image", "<script>alert(1)</script>.jpg", content)).text
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
    pages = [server.get(path).text for path in ("/", "/model", "/nothing")]
    pages.append(server.send("/", ("image", "mole.jpg", lesion)).text)
    for page in pages:
        assert "://" not in page
        assert not re.search(r"<script(?![^>]*src=)", page)
        assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    linked = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', "".join(pages)))
    assert len(linked) == 3
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
