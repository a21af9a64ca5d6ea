"""The filters beside the results, in a real browser."""

import re
from collections.abc import Callable

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from playwright.sync_api import Page, expect

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import encode, photo

PLACES = ((48.2, 16.3), (-33.9, 151.2), (48.5, 16.0))
GPS = 0x8825


def located(seed: int, latitude: float, longitude: float) -> bytes:
    def degrees(value: float) -> tuple[IFDRational, ...]:
        return (IFDRational(abs(value)), IFDRational(0), IFDRational(0))

    exif = Image.Exif()
    exif[GPS] = {
        1: "N" if latitude >= 0 else "S",
        2: degrees(latitude),
        3: "E" if longitude >= 0 else "W",
        4: degrees(longitude),
    }
    return encode(photo(seed), "JPEG", exif=exif)


@pytest.fixture
def shop(server: Server, host: ImageHost) -> Server:
    server.upsert(
        [
            {
                "url": host.add(f"{n}.jpg", located(n, *place)),
                "title": f"Boat {n}",
                "tags": [f"tag{n}", *(f"more{i}" for i in range(9))],
                "metadata": {"price": 10 * (n + 1)},
            }
            for n, place in enumerate(PLACES)
        ]
    )
    return server


def titles(page: Page) -> list[str]:
    return sorted(
        page.locator("#answer .caption, #answer img").evaluate_all(
            "all => all.map(e => e.alt || e.title)"
        )
    )


def test_filters_are_chips_that_can_be_removed(shop: Server, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/?text=boat")
    page.locator("#open-filters").click()
    results = page.locator("#hits li")
    expect(results).to_have_count(3)
    # Beside the results, which stay where they are.
    expect(results.first.locator(".thumbnail")).to_be_in_viewport()
    page.get_by_label("From", exact=True).first.fill("15")
    page.keyboard.press("Tab")
    expect(results).to_have_count(2)
    page.get_by_label("To", exact=True).fill("25")
    page.keyboard.press("Tab")
    expect(results).to_have_count(1)
    chips = page.get_by_role("list", name="Active filters")
    expect(chips.locator(".words")).to_have_text(["price=15..25"])
    # A long facet is searched.
    page.get_by_label("Find in Tags").press_sequentially("tag1")
    expect(page.get_by_label("tag1 1")).to_be_visible()
    expect(page.get_by_label("more3 1")).to_be_hidden()
    page.get_by_label("tag1 1").check()
    expect(chips.locator(".words")).to_have_text(["Tag: tag1", "price=15..25"])
    expect(page.locator("#open-filters .number")).to_have_text("2")
    page.get_by_label("Find in Tags").fill("more4")
    page.keyboard.press("Enter")
    expect(chips.locator(".words")).to_have_count(3)
    page.get_by_role("link", name="Remove filter price").click()
    expect(chips.locator(".words")).to_have_text(["Tag: more4", "Tag: tag1"])
    chips.get_by_role("link", name="Clear filters").click()
    expect(results).to_have_count(3)
    page.get_by_role("link", name="Close filters").click()
    expect(page.locator("#filters")).to_have_count(0)
    expect(results).to_have_count(3)


def test_an_area_is_chosen_on_the_map(shop: Server, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/?panel=filters")
    area = page.locator("#map")
    expect(area.locator("circle")).to_have_count(3)
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None

    def click(latitude: float, longitude: float) -> None:
        x = box["x"] + (longitude + 180) / 360 * box["width"]
        page.mouse.click(x, box["y"] + (90 - latitude) / 180 * box["height"])

    click(65, 0)
    click(35, 40)
    expect(page).to_have_url(re.compile("box="))
    expect(page.locator("#answer .thumbnail")).to_have_count(2)
    # The others are still on the map, and the area too.
    expect(area.locator("circle")).to_have_count(3)
    assert float(area.locator(".chosen-area").get_attribute("width") or 0) == pytest.approx(
        40, abs=4
    )
    page.locator("#answer .thumbnail").first.click()
    page.get_by_role("dialog").get_by_role("link", name="images near this one").click()
    expect(page.locator("#answer .thumbnail")).to_have_count(1)


def test_filters_are_a_sheet_on_a_phone(shop: Server, new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 390, "height": 844})
    page.goto("/?text=boat")
    page.locator("#open-filters").click()
    sheet = page.locator("#filters")
    expect(sheet).to_be_in_viewport()
    expect(page.locator("#answer h2").first).to_be_in_viewport()
    box = sheet.bounding_box()
    assert box is not None
    assert box["y"] > 844 * 0.25
    sheet.evaluate("sheet => sheet.scrollTo(0, 300)")
    page.get_by_label("tag2 1").check()
    expect(page.locator("#hits li")).to_have_count(1)
    # It stays where it was.
    assert sheet.evaluate("sheet => sheet.scrollTop") > 0
    page.get_by_role("link", name="Close filters").click()
    expect(sheet).to_have_count(0)
    expect(page.locator("#hits li .thumbnail")).to_be_in_viewport()


def test_the_size_of_images_is_kept(shop: Server, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/?text=boat")
    height = "item => item.getBoundingClientRect().height"
    first = page.locator("#hits .thumbnail").first
    medium = first.evaluate(height)
    page.get_by_text("Options").click()
    page.get_by_label("Thumbnail size").select_option("Large")
    expect(page).to_have_url(re.compile("density=large"))
    assert first.evaluate(height) > medium
    page.locator("#text").fill("a boat")
    page.locator("#text").press("Enter")
    expect(page).to_have_url(re.compile("density=large.*text=a"))


def test_all_values_of_a_long_facet_are_searched(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    server.upsert(
        [
            {
                "url": host.url(f"seed/{n}.png"),
                "tags": ["all", *(f"tag {n} {i}" for i in range(3))],
                "metadata": {"sku": f"AB-{n:03}"},
            }
            for n in range(24)
        ]
    )
    page = new_page()
    page.goto("/?panel=filters")
    # Values that no two images share are searched, not listed.
    expect(page.locator("#filters [name=metadata]")).to_have_count(0)
    expect(page.get_by_label("tag 23 2 1")).to_have_count(0)
    page.get_by_label("Find in Tags").press_sequentially("23 2")
    page.get_by_label("tag 23 2 1").check()
    chips = page.get_by_role("list", name="Active filters")
    expect(chips.locator(".words")).to_have_text(["Tag: tag 23 2"])
    expect(page.locator("#answer .thumbnail")).to_have_count(1)
    page.get_by_role("link", name="Remove filter Tag").click()
    expect(page.locator("#answer .thumbnail")).to_have_count(12)
    page.get_by_label("Find in sku").press_sequentially("b-02")
    expect(page.locator("#filters [name=metadata]")).to_have_count(4)
    page.get_by_label("ab-022 1").check()
    expect(chips.locator(".words")).to_have_text(["sku=ab-022"])
    expect(page.locator("#filters").get_by_label("ab-022")).to_be_checked()


def test_a_typed_value_is_a_filter_without_javascript(
    shop: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/?panel=filters")
    page.get_by_label("Find in Tags").fill("Tag1")
    page.get_by_role("button", name="Show images").click()
    expect(page.locator("#answer .thumbnail")).to_have_count(1)
    expect(page.get_by_role("link", name="Remove filter Tag: Tag1")).to_be_visible()


def test_what_passes_filters_is_sorted_and_paged(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    server.upsert([{"url": host.url(f"seed/{n}.png"), "tags": ["all"]} for n in range(70)])
    big = encode(photo(99).resize((500, 400)), "PNG")
    server.upsert([{"url": host.add("big.png", big), "tags": ["all"]}])
    page = new_page()
    page.goto("/?tags=all&sort=oldest")
    images = page.locator("#hits .thumbnail")
    expect(images).to_have_count(60)
    expect(
        page.get_by_role("heading", name="Images that match the filters, oldest")
    ).to_be_visible()
    page.get_by_role("link", name="Show more").click()
    expect(images).to_have_count(71)
    expect(images.last.locator("img")).to_have_attribute("alt", "big.png")
    page.get_by_label("Sort by").select_option("Biggest image")
    expect(images.first.locator("img")).to_have_attribute("alt", "big.png")
    expect(page.get_by_label("Sort by").locator("option")).to_have_text(
        ["Biggest image", "Newest in the index", "Oldest in the index"]
    )
