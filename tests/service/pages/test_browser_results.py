"""Reading, comparing, keeping and printing results, in headless Chromium."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from models.inference.feedback_store import FeedbackStore
from tests.service.asking import Keys, Server, lesion_jpeg
from tests.service.browsing import Visit, classify, expect_verdict

pytestmark = pytest.mark.browser

Start = Callable[..., Server]


def cases(page: Page) -> list[dict[str, Any]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Export JSON").click()
    found: list[dict[str, Any]] = json.loads(download.value.path().read_text())["cases"]
    return found


def test_the_dial_lays_the_map_over_the_image(visit: Visit, mole: Path) -> None:
    page = visit()
    card = classify(page, mole)
    image, drawn = card.locator(".look__image"), card.locator(".look__map")
    expect(drawn).to_be_visible()
    # Both at the same moment: what is above them may still be settling.
    places = card.evaluate(
        "card => ['.look__image', '.look__map'].map("
        "name => JSON.stringify(card.querySelector(name).getBoundingClientRect()))"
    )
    assert places[0] == places[1]
    size = "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    assert image.evaluate(size) == drawn.evaluate(size)
    for strength in ("0", "50", "100"):
        card.locator("[data-dial]").fill(strength)
        expect(drawn).to_have_css("opacity", f"{int(strength) / 100:g}")
        expect(image).to_have_css("filter", f"grayscale({int(strength) / 100:g})")
    expect(card.get_by_role("heading", name="Where it looked")).to_be_visible()
    expect(card.locator(".look__text")).to_contain_text("not where a disease is")


def test_the_verdict_is_read_while_its_map_is_computed(visit: Visit, mole: Path) -> None:
    page = visit()
    held: list[Route] = []
    page.route("**/look", lambda route: held.append(route))
    card = classify(page, mole)
    expect(card.locator(".look__wait")).to_contain_text("is being computed")
    expect(card.locator(".decision")).to_be_visible()
    held[0].continue_()
    expect(card.locator(".look__map")).to_be_visible()
    expect(card.locator(".look__wait")).to_have_count(0)


def test_a_map_that_fails_leaves_the_verdict(visit: Visit, mole: Path) -> None:
    page = visit()
    page.route("**/look", lambda route: route.abort("internetdisconnected"))
    card = classify(page, mole)
    expect(card.locator(".look__wait")).to_have_text(
        "There is no map: the server can't be reached."
    )
    expect(card.locator(".decision")).to_be_visible()


def test_the_map_is_left_out_when_nobody_asks(visit: Visit, mole: Path) -> None:
    page = visit()
    page.get_by_label("Where it looked").uncheck()
    card = classify(page, mole)
    expect(card.locator(".look")).to_have_count(0)


def test_similar_training_images_are_shown_unless_nobody_asks(visit: Visit, mole: Path) -> None:
    page = visit()
    card = classify(page, mole)
    shown = card.locator(".similar li")
    expect(shown).to_have_count(5)
    distances = [float(text.split()[-1]) for text in shown.locator(".small").all_inner_texts()]
    assert distances == sorted(distances)
    assert set(shown.locator("b").all_inner_texts()) <= {"melanoma", "NotMelanoma"}
    page.get_by_role("button", name="Clear results").click()
    page.get_by_label("Similar training images").uncheck()
    expect(classify(page, mole).locator(".similar")).to_have_count(0)


def test_the_threshold_is_told_in_people(visit: Visit, server: Server) -> None:
    page = visit()
    point = server.get("/api/v1/model").json["metrics"]["cross-validation"]["operating_point"]
    found = round(100 * point["sensitivity"]["value"])
    alarms = round(100 * (1 - point["specificity"]["value"]))
    reading = page.locator(".reading")
    expect(reading.locator("figcaption").nth(0)).to_contain_text(f"{found} of 100 are flagged")
    expect(reading.locator("figcaption").nth(1)).to_contain_text(f"{alarms} of 100 are flagged")
    expect(reading.locator(".crowd__found")).to_have_count(found)
    expect(reading.locator(".crowd__alarm")).to_have_count(alarms)
    expect(reading).to_contain_text("with 95\N{NARROW NO-BREAK SPACE}% confidence")


def test_newer_results_come_first_and_can_be_cleared(
    visit: Visit, server: Server, mole: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(lesion_jpeg(1, "NotMelanoma"))
    page = visit()
    classify(page, mole)
    page.set_input_files("#image", other)
    page.locator("#submit").click()
    expect(page.locator("#cards figcaption.file")).to_have_text(["other.jpg", "mole.jpg"])
    page.get_by_role("button", name="Clear results").click()
    expect(page.locator("#cards .card")).to_have_count(0)
    expect(page.locator("#history-rows tr")).to_have_count(2)


def test_cases_live_as_long_as_the_tab_unless_kept(
    visit: Visit, server: Server, mole: Path
) -> None:
    page = visit()
    expect(page.locator("#history")).to_be_hidden()
    classify(page, mole)
    expect(page.locator("#history-rows tr")).to_have_count(1)
    page.reload()
    expect(page.locator("#history-rows tr")).to_have_count(1)
    assert page.evaluate("localStorage.length") == 0
    assert "data:image" not in page.evaluate("sessionStorage.getItem('lesion-cases')")
    other = page.context.new_page()
    other.goto(server.url)
    expect(other.locator("#history")).to_be_hidden()
    page.get_by_label("Keep it on this device").check()
    assert page.evaluate("sessionStorage.length") == 0
    other.reload()
    expect(other.locator("#history-rows tr")).to_have_count(1)
    expect(other.get_by_label("Keep it on this device")).to_be_checked()
    other.get_by_role("button", name="Forget all").click()
    expect(other.locator("#history")).to_be_hidden()
    assert other.evaluate("localStorage.length + sessionStorage.length") == 0
    page.reload()
    expect(page.locator("#history")).to_be_hidden()


def test_cases_are_exported(visit: Visit, server: Server, tmp_path: Path) -> None:
    names = ['=HYPERLINK("x"),a.jpg', "b; c.jpg"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(lesion_jpeg())
    page = visit()
    classify(page, *paths)
    (result,) = server.classify(("a.jpg", lesion_jpeg())).json["results"]
    found = {case["file"]: case for case in cases(page)}
    assert set(found) == set(names)
    for case in found.values():
        assert case["probability"] == pytest.approx(result["probability"], abs=1e-4)
        assert case["decision"] == result["decision"]
        assert case["notice"] == "Decision support, not a diagnosis."
        assert set(case["marks"]) == {"untrained", "synthetic"}
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    assert re.fullmatch(r"lesion-cases-[\dT-]+\.csv", download.value.suggested_filename)
    text = download.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    # What a spreadsheet would compute is made text.
    assert {row["file"] for row in rows} == {f"'{names[0]}", names[1]}
    assert {float(row["probability"]) for row in rows} == {
        case["probability"] for case in found.values()
    }
    assert {row["marks"] for row in rows} == {"; ".join(case["marks"])}


def test_paper_shows_results_and_nothing_to_press(visit: Visit, mole: Path) -> None:
    page = visit(color_scheme="dark")
    classify(page, mole)
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in (".intake", "#print", ".look__dial", "#export-csv", ".top nav"):
        expect(page.locator(hidden)).to_be_hidden()
    for shown in (".card .decision", ".scale", ".look__map", ".notice", "#history-rows", ".marks"):
        expect(page.locator(shown)).to_be_visible()
    ink = page.evaluate("getComputedStyle(document.querySelector('.card .lead')).color")
    assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 300
    assert page.pdf()[:5] == b"%PDF-"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 360, 1100])
def test_nothing_sticks_out_on_any_screen(
    visit: Visit, mole: Path, width: int, scheme: str
) -> None:
    page = visit(viewport={"width": width, "height": 844}, color_scheme=scheme)
    for path in ("model", "card", "limits", "privacy", "docs"):
        page.goto(re.sub(r"/[^/]*$", f"/{path}", page.url))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if width == 1100:
            # Nor is anything within a table out of sight where there is room for it.
            wide = (
                "[...document.querySelectorAll('.table')].map(e => e.scrollWidth - e.clientWidth)"
            )
            assert max(page.evaluate(wide), default=0) <= 0, path
    page.goto(re.sub(r"/[^/]*$", "/", page.url))
    classify(page, mole)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
    assert (brightness > 600) == (scheme == "light")


def test_pages_about_the_model_and_what_is_kept(visit: Visit) -> None:
    page = visit()
    for link, title in (
        ("The model", "The model"),
        ("Limits", "What it can't do"),
        ("Privacy", "Privacy"),
    ):
        page.get_by_role("link", name=link, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page.get_by_role("link", name=link, exact=True)).to_have_attribute(
            "aria-current", "page"
        )
    expect(page.locator("main")).to_contain_text("Nothing: no image, no file name, no result.")
    page.get_by_role("link", name="The model").click()
    page.get_by_role("link", name="Model card").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Model card")
    expect(page.locator("table").first).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Read the full report").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.url.endswith("/report")


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("The key").fill(key)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture(scope="module")
def clinic(
    bundle: Path, start: Start, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Server, Path]:
    store = tmp_path_factory.mktemp("kept") / "feedback.sqlite"
    return start(bundle, "--keys", str(keys.file), "--feedback", str(store)), store


def test_a_reviewer_records_what_it_was(
    visit: Visit, clinic: tuple[Server, Path], keys: Keys, mole: Path
) -> None:
    server, store = clinic
    page = visit(server=server)
    sign_in(page, keys.of["reviewer"])
    card = classify(page, mole)
    card.get_by_role("button", name="melanoma", exact=True).click()
    expect(card.locator(".review__said")).to_have_text("Recorded: melanoma.")
    with FeedbackStore(store) as kept:
        (record,) = kept.read()
    assert (record.label, record.reviewer, record.image) == ("melanoma", "reviewer", None)
    page.goto(server.url + "privacy")
    expect(page.locator("main")).to_contain_text("Only what a reviewer records")
    # The next to sign in on this computer sees nothing of it, nor does anyone who is signed out.
    page.goto(server.url)
    expect(page.locator("#history-rows tr")).to_have_count(1)
    page.get_by_role("link", name="reviewer").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("The key")).to_be_visible()
    # Emptied by a script of that page, which runs when the page is there.
    for _ in range(200):
        if page.evaluate("sessionStorage.length") == 0:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("the next to sign in would see the cases")


def test_a_reviewer_needs_no_script(
    visit: Visit, clinic: tuple[Server, Path], keys: Keys, tmp_path: Path
) -> None:
    server, _ = clinic
    image = tmp_path / "other.jpg"
    image.write_bytes(lesion_jpeg(5, "NotMelanoma"))
    page = visit(server=server, java_script_enabled=False)
    sign_in(page, keys.of["reviewer"])
    classify(page, image)
    page.get_by_role("button", name="NotMelanoma", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recorded")


def test_who_may_not_record_is_not_asked(
    visit: Visit, clinic: tuple[Server, Path], keys: Keys, mole: Path
) -> None:
    server, _ = clinic
    page = visit(server=server)
    sign_in(page, keys.of["classify"])
    card = classify(page, mole)
    expect(card.locator(".review")).to_have_count(0)


def test_an_image_of_another_shape_keeps_it(visit: Visit, server: Server, tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    square = Image.open(io.BytesIO(lesion_jpeg()))
    Image.fromarray(np.asarray(square)[64:192]).save(wide)
    page = visit()
    card = classify(page, wide)
    expect_verdict(page, server, wide.read_bytes())
    for picture in (".card__picture img", ".look__map"):
        box = card.locator(picture).bounding_box()
        assert box
        assert box["width"] / box["height"] == pytest.approx(2, abs=0.05)
