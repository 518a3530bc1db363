"""What the tests of the pages share: a visitor, and what it looks for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.service.asking import Server

Visit = Callable[..., Page]

# A machine that is busy with other tests may take long for a page; a wrong page stays wrong.
expect.set_options(timeout=20_000)

# What the tests provoke: an answer that says no, and no connection.
EXPECTED = re.compile("status of [45]|ERR_INTERNET_DISCONNECTED")

DROP = """
([kind, files]) => {
  const transfer = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
  }
  const options = {bubbles: true, cancelable: true};
  const target = document.querySelector("h1");
  if (kind === "paste") {
    target.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, ...options}));
    return;
  }
  for (const name of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(name, {dataTransfer: transfer, ...options}));
  }
}
"""


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


class Visitor:
    """Opens pages in browsers of their own, and notes what they complain about."""

    def __init__(self, chromium: Browser, server: Server) -> None:
        self.complaints: list[str] = []
        self._chromium = chromium
        self._server = server
        self._contexts: list[BrowserContext] = []

    def __call__(self, path: str = "", server: Server | None = None, **options: Any) -> Page:
        server = server or self._server
        context = self._chromium.new_context(**options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("console", self._listen)
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((server.url, "blob:", "data:"))
                else self.complaints.append(request.url)
            ),
        )
        page.goto(server.url + path)
        return page

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            self.complaints.append(message.text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def done(page: Page, count: int = 1) -> Locator:
    """Wait for so many results."""
    expect(page.locator("#cards .card--waiting")).to_have_count(0)
    expect(page.locator("#cards .card")).to_have_count(count)
    return page.locator("#cards .card")


def classify(page: Page, *paths: Any) -> Locator:
    """Choose images, send them, and wait for the results."""
    page.set_input_files("#image", list(paths))
    page.locator("#submit").click()
    return done(page, len(paths))


def expect_verdict(page: Page, server: Server, image: bytes) -> None:
    """See that the page says what the API does, drawn to scale."""
    (result,) = server.classify(("mole.jpg", image)).json["results"]
    card = page.locator("#cards .card")
    expect(card.get_by_role("heading", level=3)).to_have_text(result["decision"].capitalize())
    for details in card.locator("details:not([open]) summary").all():
        details.click()
    shown = f"{result['probability'] * 100:.1f}"
    expect(card.locator(".lead", has_text="estimated probability")).to_contain_text(shown)
    expect(card.locator(".scale__value")).to_contain_text(shown)
    expect(card.locator(".scale")).to_contain_text(f"threshold {result['threshold'] * 100:.1f}")
    expect(card).to_contain_text("Decision support, not a diagnosis.")
    expect(card.get_by_role("img", name="The image that was classified")).to_be_visible()
    zone = server.get("/api/v1/model").json["zone"]
    for part, place in (
        (".scale__dot", result["probability"]),
        (".scale__threshold", result["threshold"]),
        (".scale__zone", (zone["lower"] + zone["upper"]) / 2),
    ):
        if part == ".scale__zone" and zone["lower"] == zone["upper"]:
            expect(card.locator(part)).to_have_count(0)
            continue
        assert _along(card, part) == pytest.approx(place, abs=0.02), part


def _along(card: Locator, part: str) -> float:
    """Say where the middle of something is on the scale, from 0 to 1."""
    bar = card.locator(".scale .scale__below").bounding_box()
    box = card.locator(f".scale {part}").bounding_box()
    assert bar
    assert box
    return (box["x"] + box["width"] / 2 - bar["x"]) / bar["width"]
