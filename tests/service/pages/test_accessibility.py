"""What axe-core finds on the pages, in light, in dark and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.service.asking import Keys, Server
from tests.service.browsing import Visit, classify

pytestmark = pytest.mark.browser

SCREENS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
}


def findings(page: Page) -> list[str]:
    # By the debugger, as the pages' policy lets no script in.
    page.evaluate(AXE_SCRIPT + "\n;undefined")
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{each['id']} ({each['impact']}): "
        + json.dumps([node["html"][:200] for node in each["nodes"][:3]])
        for each in found["violations"]
        if each["impact"] in ("moderate", "serious", "critical")
    ]


@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(visit: Visit, mole: Path, tmp_path: Path, screen: str) -> None:
    words = tmp_path / "words.txt"
    words.write_text("no image")
    page = visit(**SCREENS[screen])
    assert findings(page) == []
    page.set_input_files("#image", [mole, words])
    assert findings(page) == []
    page.locator("#submit").click()
    expect(page.locator("#cards .card--waiting")).to_have_count(0)
    assert findings(page) == []
    for path in ("model", "card", "limits", "privacy", "docs", "nothing-there"):
        page.goto(page.url.rpartition("/")[0] + "/" + path)
        assert findings(page) == [], path


def test_axe_finds_nothing_where_people_sign_in_and_review(
    visit: Visit,
    bundle: Path,
    start: Callable[..., Server],
    keys: Keys,
    mole: Path,
    tmp_path: Path,
) -> None:
    server = start(
        bundle, "--keys", str(keys.file), "--feedback", str(tmp_path / "feedback.sqlite")
    )
    page = visit(server=server)
    assert findings(page) == []
    page.get_by_label("The key").fill(keys.of["reviewer"])
    page.get_by_role("button", name="Sign in").click()
    card = classify(page, mole)
    expect(card.locator(".review")).to_be_visible()
    assert findings(page) == []


def test_axe_would_find_something(visit: Visit) -> None:
    page = visit("limits")
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert any(found.startswith("label (critical)") for found in findings(page))


def test_a_screen_reader_is_told_what_comes(visit: Visit, mole: Path) -> None:
    page = visit()
    classify(page, mole)
    decision = page.locator("#cards .decision").inner_text().strip().lower()
    expect(page.get_by_role("status")).to_have_text(f"1 of 1 done. mole.jpg: {decision}")
    card = page.get_by_role("article", name=decision)
    expect(card).to_be_visible()
    expect(card.get_by_role("img", name="Scale from 0 to 100 %: probability")).to_have_count(1)
    expect(card.get_by_role("img", name="The image with a map")).to_be_visible()
