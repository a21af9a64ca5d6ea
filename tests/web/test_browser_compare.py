"""The page that lays two images over each other, in a real browser."""

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw, ImageOps
from playwright.sync_api import Page, expect

from tests.browser import file
from tests.conftest import Server
from tests.samples import encode, photo

SIZE = (480, 360)


@pytest.fixture
def pair(server: Server) -> str:
    """The URL of the page with a captioned, mirrored crop and its original, both uploaded."""
    image = photo(3, SIZE)
    crop = image.crop((60, 40, 420, 340))
    ImageDraw.Draw(crop).rectangle((100, 230, 280, 280), "white")
    data = [encode(each) for each in (ImageOps.mirror(crop), image)]
    files = [("file", (f"{n}.png", each)) for n, each in enumerate(data)]
    results = server.client.post("/api/images", files=files).json()["results"]
    return f"/compare?a={results[0]['id']}&b={results[1]['id']}"


def view(page: Page, name: str) -> None:
    page.get_by_role("radio", name=name).check()


def pixels(page: Page) -> Any:
    """The picture that is laid together, as (h, w, 3)."""
    shot = page.locator("#laid svg").screenshot(animations="disabled")
    return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(int)


def originals_are_there(page: Page) -> None:
    page.wait_for_function(
        "[...document.querySelectorAll('image[data-finer]')]"
        ".every(image => image.getAttribute('href').endsWith('/original'))"
    )


def test_without_javascript_the_two_are_side_by_side(
    new_page: Callable[..., Page], pair: str
) -> None:
    page = new_page(java_script_enabled=False)
    page.goto(pair)
    expect(page.locator("#sides svg")).to_have_count(2)
    expect(page.get_by_role("radio", name="Slider")).to_be_hidden()
    expect(page.locator("#laid")).to_be_hidden()
    expect(page.locator("dl")).to_contain_text("left to right")


def test_the_slider_moves_by_keyboard_and_by_mouse(
    new_page: Callable[..., Page], pair: str
) -> None:
    page = new_page()
    page.goto(pair)
    expect(page.locator("#sides")).to_be_visible()
    page.get_by_role("radio", name="Side by side").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#sides")).to_be_hidden()
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("#cut rect")).to_have_attribute("width", "0")
    page.keyboard.press("End")
    full = float(page.locator("#laid svg").get_attribute("viewBox").split()[2])  # pyright: ignore
    assert float(page.locator("#cut rect").get_attribute("width") or 0) == pytest.approx(full)
    box = page.locator("#laid svg").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60)
    page.mouse.up()
    expect(slider).to_have_value(re.compile(r"^(49|50|51)$"))
    # The view is in the URL, so that it can be shared.
    page.reload()
    expect(page.get_by_role("radio", name="Slider")).to_be_checked()
    expect(page.locator("#laid")).to_be_visible()


def test_the_first_lies_on_the_second_where_it_was_cut_from(
    new_page: Callable[..., Page], pair: str
) -> None:
    page = new_page()
    page.goto(pair)
    originals_are_there(page)
    view(page, "Slider")
    page.evaluate(
        "document.querySelectorAll('#laid polygon:not(clipPath *), #laid line')"
        ".forEach(drawn => drawn.remove())"
    )
    slider = page.get_by_role("slider")
    slider.fill("100")
    with_first = pixels(page)
    slider.fill("0")
    differing = np.abs(pixels(page) - with_first).max(axis=2) > 100
    height, width = differing.shape
    rows, columns = np.nonzero(differing)
    # Only the caption, where it is in the image.
    where = [columns.min() / width, columns.max() / width, rows.min() / height, rows.max() / height]
    assert np.allclose(where, [160 / 480, 340 / 480, 270 / 360, 320 / 360], atol=0.03)


def test_only_the_caption_is_bright_in_the_difference(
    new_page: Callable[..., Page], pair: str
) -> None:
    page = new_page()
    page.goto(pair)
    originals_are_there(page)
    view(page, "Difference")
    page.evaluate(
        "document.querySelectorAll('#laid svg > polygon').forEach(drawn => drawn.remove())"
    )
    light = pixels(page).mean(axis=2)
    height, width = light.shape
    # In the shared region, which fills the view: 360 x 300 of the image, from 60, 40 on.
    caption = light[
        round(height * 235 / 300) : round(height * 275 / 300),
        round(width * 105 / 360) : round(width * 275 / 360),
    ]
    above = light[: round(height * 220 / 300)]
    assert caption.mean() > 60
    assert np.median(above) < 12


def test_blinking_shows_both_in_turns_until_it_is_paused(
    new_page: Callable[..., Page], pair: str
) -> None:
    page = new_page()
    page.goto(pair)
    view(page, "Blink")
    which = page.locator("#which")
    expect(which).to_have_text("Second")
    expect(which).to_have_text("First")
    page.get_by_role("button", name="Swap").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    shown = which.text_content()
    page.get_by_role("button", name="Swap").click()
    expect(which).not_to_have_text(shown or "")


def test_nothing_blinks_for_those_who_want_no_motion(
    new_page: Callable[..., Page], pair: str
) -> None:
    page = new_page(reduced_motion="reduce")
    page.goto(f"{pair}&view=blink")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.get_by_role("button", name="Swap").click()
    expect(page.locator("#which")).to_have_text("Second")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["Side by side", "Slider", "Blink", "Difference"])
def test_the_page_is_accessible_and_fits_a_phone(
    new_page: Callable[..., Page], pair: str, scheme: str, name: str
) -> None:
    page = new_page(
        viewport={"width": 390, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.goto(pair)
    view(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_result_leads_to_the_comparison_with_the_query(
    server: Server, new_page: Callable[..., Page], pair: str
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(encode(photo(3, SIZE), "JPEG")))
    page.get_by_role("link", name="Compare").first.click()
    expect(page.get_by_role("heading", name="Compare two images")).to_be_visible()
    view(page, "Slider")
    expect(page.locator("#laid svg")).to_be_visible()
