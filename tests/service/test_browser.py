"""The pages as a person meets them, in headless Chromium."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asking import Server, lesion_jpeg
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.browser

DROP = """
([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true});
    document.querySelector("h1").dispatchEvent(event);
  }
}
"""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Open the form; at the end, nothing may have been complained about in the console."""
    complaints: list[str] = []
    contexts = []

    def open_form(path: str = "", **options: object) -> Page:
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type in ("error", "warning")
                and not re.search("status of 4|INTERNET_DISCONNECTED", message.text)
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((server.url, "blob:", "data:"))
                else complaints.append(request.url)
            ),
        )
        page.goto(server.url + path)
        return page

    yield open_form
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def mole(tmp_path: Path) -> Path:
    path = tmp_path / "mole.jpg"
    path.write_bytes(lesion_jpeg())
    return path


def expect_verdict(page: Page, server: Server, image: bytes) -> None:
    (result,) = server.classify(("mole.jpg", image)).json["results"]
    card = page.locator("#results .card")
    expect(card.get_by_role("heading")).to_have_text(result["decision"].capitalize())
    shown = f"{result['probability'] * 100:.1f}"
    expect(card.locator(".lead")).to_contain_text(shown)
    expect(card.locator(".scale__value")).to_contain_text(shown)
    expect(card.locator(".scale")).to_contain_text(f"threshold {result['threshold'] * 100:.1f}")
    expect(card).to_contain_text("Decision support, not a diagnosis.")
    expect(card.get_by_role("img", name="The image that was classified")).to_be_visible()
    # Drawn to scale: the dot is where the probability lies on the bar.
    bar, dot = card.locator(".scale__below").bounding_box(), card.locator(".scale__dot")
    place = dot.bounding_box()
    assert bar
    assert place
    drawn = (place["x"] + place["width"] / 2 - bar["x"]) / bar["width"]
    assert drawn == pytest.approx(result["probability"], abs=0.02)


def test_pick_preview_and_verdict_on_one_page(
    visit: Callable[..., Page], server: Server, mole: Path
) -> None:
    page = visit()
    page.evaluate("window.stays = true")
    page.set_input_files("#image", mole)
    preview = page.locator("#previews img")
    expect(preview).to_be_visible()
    assert preview.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    expect(page.locator("#previews")).to_contain_text("mole.jpg")
    page.get_by_role("button", name="Classify").click()
    expect_verdict(page, server, mole.read_bytes())
    assert page.evaluate("window.stays")
    assert page.evaluate("document.activeElement.id") == "results"
    expect(page.locator("#results")).to_have_attribute("aria-live", "polite")
    expect(page.locator("#previews img")).to_have_count(0)
    expect(page.locator(".marks")).to_contain_text("Untrained")


def test_a_dropped_image_is_classified(
    visit: Callable[..., Page], server: Server, mole: Path
) -> None:
    page = visit()
    content = base64.b64encode(mole.read_bytes()).decode()
    page.evaluate(DROP, ["dropped.jpg", content])
    expect(page.locator("#previews")).to_contain_text("dropped.jpg")
    page.keyboard.press("Enter")
    expect_verdict(page, server, mole.read_bytes())
    expect(page.locator("#results")).to_contain_text("dropped.jpg")


def test_the_form_works_without_scripts(
    visit: Callable[..., Page], server: Server, mole: Path
) -> None:
    page = visit(java_script_enabled=False)
    page.set_input_files("#image", mole)
    page.get_by_role("button", name="Classify").click()
    expect_verdict(page, server, mole.read_bytes())


def test_the_keyboard_suffices(visit: Callable[..., Page], mole: Path) -> None:
    page = visit()
    # Choosers are caught from here on: catching is set up in the background, and Space would
    # sometimes be pressed before.
    page.on("filechooser", lambda chooser: chooser.set_files(mole))
    for expected in ("skip", "brand"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == expected
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "image"
    page.keyboard.press("Space")
    expect(page.locator("#image")).to_have_js_property("files.length", 1)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#results .card")).to_have_count(1)


def test_several_images_with_one_that_cannot_be_read(
    visit: Callable[..., Page], mole: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "<script>alert(1)<\N{DIVISION SLASH}script>.txt"
    notes.write_text("these are words")
    page = visit()
    page.set_input_files("#image", [mole, notes])
    expect(page.locator(".preview__none")).to_be_visible()
    page.get_by_role("button", name="Classify 2 images").click()
    expect(page.locator("#results .card")).to_have_count(2)
    expect(page.locator("#results")).to_contain_text("The file is not an image")
    expect(page.locator("#results")).to_contain_text(notes.name)


def test_markup_in_a_file_name_is_text(visit: Callable[..., Page], tmp_path: Path) -> None:
    image = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    image.write_bytes(lesion_jpeg())
    page = visit()
    page.set_input_files("#image", image)
    expect(page.locator("#previews")).to_contain_text(image.name)
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#results figcaption")).to_have_text(image.name)
    assert page.locator("img[src='x']").count() == 0


def test_too_much_is_said_before_it_is_sent(visit: Callable[..., Page], tmp_path: Path) -> None:
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(bytes(9 * 1024**2))
    page = visit()
    page.set_input_files("#image", huge)
    expect(page.get_by_role("alert")).to_contain_text("9.0 MB, at most 8 MB")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#results .card")).to_have_count(0)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_went_away_is_said(visit: Callable[..., Page], mole: Path) -> None:
    page = visit()
    page.set_input_files("#image", mole)
    page.context.set_offline(True)
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#results")).to_contain_text("can't be reached")
    # What was chosen is still there for another try.
    expect(page.locator("#previews")).to_contain_text("mole.jpg")
    expect(page.get_by_role("button", name="Classify")).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_sticks_out_on_any_screen(
    visit: Callable[..., Page], mole: Path, width: int, scheme: str
) -> None:
    page = visit(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.set_input_files("#image", mole)
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#results .card")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
    assert (brightness > 600) == (scheme == "light")


def test_the_report_shows_under_its_own_policy(visit: Callable[..., Page]) -> None:
    page = visit("model")
    expect(page.get_by_role("heading", level=1)).to_have_text("The model")
    page.get_by_role("link", name="Read the full report").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.url.endswith("/report")
