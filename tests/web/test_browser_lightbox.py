"""The lightbox in a real browser: images of a list, large above it."""

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import file
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, png

SWIPE = """([right, down]) => {
  const stage = document.querySelector(".stage");
  const touch = (x, y) => new Touch({ identifier: 1, target: stage, clientX: x, clientY: y });
  const options = { bubbles: true, touches: [touch(200, 200)] };
  stage.dispatchEvent(new TouchEvent("touchstart", options));
  const changedTouches = [touch(200 + right, 200 + down)];
  stage.dispatchEvent(new TouchEvent("touchend", { bubbles: true, changedTouches }));
}"""


def test_an_image_opens_above_its_results_and_has_an_address(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(altered(png(1))))
    expect(page.locator("#hits li")).to_have_count(2)
    results = page.url
    box = page.get_by_role("dialog")
    page.locator("#hits .thumbnail").first.click()
    expect(box.get_by_role("heading", name="1.png")).to_be_visible()
    expect(box.locator(".facts .badge")).to_have_text("Same image")
    expect(box.get_by_role("link", name=host.url("seed/1.png"))).to_be_visible()
    expect(box.get_by_role("link", name="Compare")).to_be_visible()
    # The blurred copy of it.
    expect(box.get_by_role("heading", name="The same image")).to_be_visible()
    expect(box.get_by_role("link", name="Previous image")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(box.get_by_role("heading", name="blurred.jpg")).to_be_visible()
    shared = page.url
    assert "show=" in shared
    box.get_by_role("link", name="Next image").click()
    expect(box.get_by_role("heading", name="blurred.jpg")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    expect(page).to_have_url(results)
    expect(page.locator("#hits li")).to_have_count(2)
    page.go_forward()
    expect(box).to_be_visible()
    page.go_back()
    expect(box).to_be_hidden()
    # For whoever it was shared with, and without JavaScript.
    for options in ({}, {"java_script_enabled": False}):
        other = new_page(**options)
        other.goto(shared)
        expect(other.get_by_role("heading", name="blurred.jpg")).to_be_visible()
        other.get_by_role("link", name="Previous image").click()
        expect(other.get_by_role("heading", name="1.png", exact=True)).to_be_visible()
        other.get_by_role("link", name="Close").click()
        expect(other.locator("#lightbox")).to_be_hidden()
        expect(other.locator("#hits li")).to_have_count(2)


def test_swiping_turns_to_the_next_image(indexed: Server, new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto("/")
    first, second = [
        link.get_attribute("href") for link in page.locator("#answer .thumbnail").all()[:2]
    ]
    page.locator("#answer .thumbnail").first.tap()
    full = page.get_by_role("dialog").get_by_role("link", name="Full page")
    expect(full).to_have_attribute("href", first or "")
    page.evaluate(SWIPE, [-90, 10])
    expect(full).to_have_attribute("href", second or "")
    # Scrolling is no swipe.
    page.evaluate(SWIPE, [60, 200])
    page.evaluate(SWIPE, [90, -20])
    expect(full).to_have_attribute("href", first or "")
    full.tap()
    expect(page).to_have_url(re.compile(f"{first}$"))


def test_neighbours_and_a_deleted_image(indexed: Server, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/index")
    box = page.get_by_role("dialog")
    page.get_by_role("link", name="2.png", exact=True).click()
    expect(box.get_by_role("heading", name="2.png")).to_be_visible()
    box.locator(".strip a").first.click()
    expect(box.get_by_role("heading", name="2.png")).to_be_hidden()
    expect(box.locator(".panel h2")).to_be_visible()
    page.goto("/?show=7f2c9a51-5d0e-4b8e-9a53-0d8e3c1f6b11")
    expect(page.locator("#lightbox")).to_be_hidden()
    page.goto("/?show=nonsense")
    expect(page.locator("#text")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_issues_in_the_lightbox(
    indexed: Server, new_page: Callable[..., Page], scheme: str
) -> None:
    page = new_page(color_scheme=scheme)
    page.goto("/")
    page.locator("#answer .thumbnail").first.click()
    expect(page.get_by_role("dialog").locator(".panel h2")).to_be_visible()
    found = Axe().run(page).response["violations"]
    serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []
