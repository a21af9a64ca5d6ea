"""The page of duplicates, in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import ImageDraw, ImageOps
from playwright.sync_api import Page, expect

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import encode, photo

PAGE = "/duplicates?min_similarity=0.3"


@pytest.fixture
def group(server: Server, host: ImageHost) -> Server:
    """A server with a photo, its smaller copy and a mirrored one with a caption."""
    image = photo(3, (480, 400))
    captioned = ImageOps.mirror(image)
    ImageDraw.Draw(captioned).rectangle([60, 300, 420, 360], fill="white")
    altered = {"photo": image, "small": image.resize((240, 200)), "captioned": captioned}
    server.upsert([host.add(f"{name}.png", encode(each)) for name, each in altered.items()])
    return server


@pytest.mark.parametrize("width", [390, 1280])
def test_members_say_how_they_differ_and_the_page_fits(
    group: Server, new_page: Callable[..., Page], width: int
) -> None:
    page = new_page(viewport={"width": width, "height": 900})
    page.goto(PAGE)
    choices = page.locator("fieldset label")
    expect(choices).to_have_count(3)
    expect(choices.filter(has_text=" its bytes")).to_have_count(2)
    expect(choices.filter(has_text="mirrored")).not_to_have_count(0)
    expect(page.locator("svg.outline .edited")).not_to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1280])
def test_not_duplicates_is_undone_at_once_or_later(
    group: Server, new_page: Callable[..., Page], width: int
) -> None:
    page = new_page(viewport={"width": width, "height": 900})
    page.goto(PAGE)
    page.get_by_role("button", name="Not duplicates").click()
    expect(page.get_by_role("status")).to_contain_text("not be shown as duplicates again")
    expect(page.locator(".group")).to_have_count(0)
    page.get_by_role("status").get_by_role("button", name="Undo").click()
    page.goto(PAGE)
    page.get_by_role("button", name="Not duplicates").click()
    page.goto(PAGE)
    expect(page.get_by_role("status")).to_have_count(0)
    page.locator("summary", has_text="Not duplicates").click()
    expect(page.locator(".denied li")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found: list[Any] = Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    page.locator(".denied li").first.get_by_role("button", name="Undo").click()
    expect(page.locator(".denied li")).to_have_count(2)
