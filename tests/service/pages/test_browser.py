"""Choosing and sending images, as a person does it in headless Chromium."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.service.asking import Server, lesion_jpeg
from tests.service.browsing import DROP, Visit, classify, done, expect_verdict

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>.jpg"


def bring(page: Page, kind: str, *names: str) -> None:
    content = base64.b64encode(lesion_jpeg()).decode()
    page.evaluate(DROP, [kind, [[name, content] for name in names]])


def test_pick_preview_and_verdict_on_one_page(visit: Visit, server: Server, mole: Path) -> None:
    page = visit()
    page.evaluate("window.stays = true")
    page.set_input_files("#image", mole)
    preview = page.locator("#tray img")
    expect(preview).to_be_visible()
    assert preview.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    expect(page.locator("#tray")).to_contain_text("mole.jpg")
    page.get_by_role("button", name="Classify").click()
    done(page)
    expect_verdict(page, server, mole.read_bytes())
    assert page.evaluate("window.stays")
    assert page.evaluate("document.activeElement.id") == "results"
    expect(page.locator("#tray li")).to_have_count(0)
    expect(page.locator(".marks")).to_contain_text("Untrained")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_images_are_dropped_or_pasted_anywhere_and_gathered(
    visit: Visit, server: Server, kind: str
) -> None:
    page = visit()
    bring(page, kind, "a.jpg", "b.jpg")
    bring(page, kind, "c.jpg")
    expect(page.locator("#tray .file")).to_have_text(["a.jpg", "b.jpg", "c.jpg"])
    page.get_by_role("button", name="Remove b.jpg").click()
    expect(page.locator("#submit")).to_have_text("Classify 2 images")
    page.locator("#submit").click()
    done(page, 2)
    expect(page.locator("#cards figcaption.file")).to_have_text(["a.jpg", "c.jpg"])


def test_a_phone_offers_its_camera(visit: Visit, server: Server, mole: Path) -> None:
    page = visit(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740})
    expect(page.locator("#camera")).to_have_attribute("capture", "environment")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Photograph").click()
    chooser.value.set_files(mole)
    expect(page.locator("#tray")).to_contain_text("mole.jpg")
    page.locator("#submit").click()
    done(page)
    expect_verdict(page, server, mole.read_bytes())


def test_a_desk_without_touch_offers_none(visit: Visit) -> None:
    page = visit()
    expect(page.locator("#photograph")).to_be_hidden()
    expect(page.locator("#hint")).to_contain_text("pasting works")


def test_a_single_image_needs_no_script(visit: Visit, server: Server, mole: Path) -> None:
    page = visit(java_script_enabled=False)
    expect(page.locator("#history, #progress, #print, .look__dial")).to_have_count(3)
    for hidden in page.locator("#history, #progress, #print").all():
        expect(hidden).to_be_hidden()
    classify(page, mole)
    expect_verdict(page, server, mole.read_bytes())
    assert "Lesion classifier" in page.title()
    assert page.title() != "Lesion classifier"
    expect(page.locator(".look__map")).to_be_visible()
    expect(page.locator(".look__dial")).to_be_hidden()


def test_the_keyboard_suffices(visit: Visit, mole: Path) -> None:
    page = visit()
    # Choosers are caught from here on: catching is set up in the background, and Space would
    # sometimes be pressed before.
    page.on("filechooser", lambda chooser: chooser.set_files(mole))
    for expected in ("skip", "brand"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == expected
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "image":
            break
    page.keyboard.press("Space")
    expect(page.locator("#tray li")).to_have_count(1)
    assert page.evaluate("document.activeElement.id") == "submit"
    page.keyboard.press("Enter")
    done(page)
    dial = page.locator("[data-dial]")
    expect(dial).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        if dial.evaluate("dial => dial === document.activeElement"):
            break
    page.keyboard.press("Home")
    expect(page.locator(".look__map")).to_have_css("opacity", "0")


def test_results_come_one_by_one(visit: Visit, mole: Path, tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(mole.read_bytes())
    page = visit()
    held: list[Route] = []
    sent: list[str] = []

    def hold(route: Route) -> None:
        (name,) = re.findall(rb'filename="([^"]+)"', route.request.post_data_buffer or b"")
        sent.append(name.decode())
        held.append(route) if len(sent) == 1 else route.continue_()

    page.route("**/", hold)
    page.set_input_files("#image", [tmp_path / name for name in names])
    page.locator("#submit").click()
    # Four come while the first is still on its way; each was sent by itself.
    expect(page.locator("#cards .card--waiting")).to_have_count(1)
    expect(page.locator("#cards .card[data-case]")).to_have_count(4)
    expect(page.locator("#cards .card--waiting")).to_contain_text("Being classified")
    expect(page.locator("#progress-bar")).to_have_js_property("value", 4)
    expect(page.get_by_role("status")).to_contain_text("4 of 5 done")
    held[0].continue_()
    done(page, 5)
    assert sorted(sent) == names
    expect(page.locator("#cards figcaption.file")).to_have_text(names)
    expect(page.get_by_role("status")).to_contain_text(re.compile("5 of 5 done. 0.jpg: .*"))
    expect(page.locator("#progress")).to_be_hidden()


def test_what_is_stopped_can_be_sent_again(visit: Visit, mole: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jpg").write_bytes(mole.read_bytes())
    page = visit()
    page.route("**/", lambda route: None)
    page.set_input_files("#image", [mole, tmp_path / "other.jpg"])
    page.locator("#submit").click()
    expect(page.locator("#cards .card--waiting")).to_have_count(2)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#cards .card")).to_have_count(0)
    expect(page.locator("#tray li")).to_have_count(2)
    page.unroute("**/")
    page.locator("#submit").click()
    done(page, 2)


def test_a_busy_server_is_asked_again(visit: Visit, server: Server, mole: Path) -> None:
    page = visit()
    busy = iter([True, True])

    def refuse(route: Route) -> None:
        if next(busy, False):
            route.fulfill(status=503, headers={"Retry-After": "1"}, body="later")
        else:
            route.continue_()

    page.route("**/", refuse)
    classify(page, mole)
    expect_verdict(page, server, mole.read_bytes())
    assert not next(busy, False)


def test_one_that_cannot_be_read_keeps_nothing_from_the_others(
    visit: Visit, mole: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "<script>alert(1)<\N{DIVISION SLASH}script>.txt"
    notes.write_text("these are words")
    page = visit()
    page.set_input_files("#image", [mole, notes])
    expect(page.locator(".tray__none")).to_be_visible()
    page.get_by_role("button", name="Classify 2 images").click()
    cards = done(page, 2)
    expect(cards.nth(1)).to_contain_text("The file is not an image")
    expect(cards.nth(1).locator(".file")).to_have_text(notes.name)


def test_markup_in_a_file_name_is_text_everywhere(visit: Visit, tmp_path: Path) -> None:
    image = tmp_path / HOSTILE
    image.write_bytes(lesion_jpeg())
    page = visit()
    page.set_input_files("#image", image)
    expect(page.locator("#tray .file")).to_have_text(HOSTILE)
    page.get_by_role("button", name="Classify").click()
    done(page)
    expect(page.locator("#cards figcaption.file")).to_have_text(HOSTILE)
    expect(page.locator("#history-rows td").nth(1)).to_have_text(HOSTILE)
    expect(page.get_by_role("status")).to_contain_text(HOSTILE)
    page.reload()
    expect(page.locator("#history-rows td").nth(1)).to_have_text(HOSTILE)
    assert page.locator("img[src='x']").count() == 0


def test_what_is_wrong_is_said_before_it_is_sent(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose an image first")
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(bytes(9 * 1024**2))
    page.set_input_files("#image", huge)
    expect(page.get_by_role("alert")).to_contain_text("huge.jpg has 9.0 MB, at most 8 MB")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#cards .card")).to_have_count(0)
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_went_away_is_said(visit: Visit, server: Server, mole: Path) -> None:
    page = visit()
    page.set_input_files("#image", mole)
    page.context.set_offline(True)
    page.locator("#submit").click()
    done(page)
    expect(page.locator("#cards")).to_contain_text("can't be reached")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#cards .card[data-case]")).to_have_count(1)
    expect_verdict(page, server, mole.read_bytes())
