"""Faces in a browser: boxes when they are wanted, a search by one of them, and people."""

import re
from collections.abc import Callable, Generator

import pytest
from PIL import Image, ImageOps
from playwright.sync_api import Page, expect

from tests.conftest import Server
from tests.faces.conftest import Opened
from tests.image_host import ImageHost
from tests.samples import encode


@pytest.fixture
def server(
    server_with: Opened, host: ImageHost, astronaut: Image.Image, cameraman: Image.Image
) -> Generator[Server]:
    both = Image.new("RGB", (1024, 512))
    both.paste(cameraman.resize((768, 768)), (0, 0))
    both.paste(ImageOps.mirror(astronaut), (512, 0))
    with server_with(faces="vectors") as server:
        images = {"astronaut.png": astronaut, "both.png": both, "camera.png": cameraman}
        server.upsert([host.add(name, encode(image)) for name, image in images.items()])
        yield server


def test_boxes_are_shown_when_wanted_and_searched_by(
    server: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page(viewport={"width": 1280, "height": 900})
    page.goto("/")
    page.get_by_role("link", name="both").first.click()
    dialog = page.get_by_role("dialog")
    boxes = dialog.locator(".faces")
    expect(dialog.get_by_label("Show faces (2)")).not_to_be_checked()
    expect(boxes).to_be_hidden()
    dialog.get_by_label("Show faces (2)").check()
    expect(boxes).to_be_visible()
    # As wanted, for the next image, too.
    page.goto("/")
    page.get_by_role("link", name="astronaut").first.click()
    expect(dialog.get_by_label("Show faces (1)")).to_be_checked()
    face = dialog.get_by_role("link", name="Search by face 1")
    image, box = dialog.locator(".stage img").bounding_box(), face.locator("rect").bounding_box()
    assert image
    assert box
    # The astronaut's face is above the middle of the image, and a bit to the left.
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shown = min(image["width"], image["height"])
    left, top = (
        image["x"] + (image["width"] - shown) / 2,
        image["y"] + (image["height"] - shown) / 2,
    )
    assert abs((middle[0] - left) / shown - 0.43) < 0.05
    assert abs((middle[1] - top) / shown - 0.23) < 0.06
    face.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/\?face="))
    expect(page.locator("#hits > li")).to_have_count(1)
    expect(page.get_by_role("img", name="The face", exact=True)).to_be_visible()
    # No order is offered that it does not have; words that are typed take its place.
    by_face = page.url
    expect(page.get_by_label("Sort by")).to_be_hidden()
    page.get_by_role("searchbox").press_sequentially("camera")
    page.wait_for_url(re.compile(r"/\?(?!.*face=).*text=camera"))
    expect(page.get_by_role("heading", name="Best matches")).to_be_visible()
    page.goto(by_face)
    page.get_by_role("link", name="Remove face").click()
    expect(page.get_by_role("link", name="Remove face")).to_have_count(0)


def test_a_click_on_the_page_of_an_image_searches_too(
    server: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page(viewport={"width": 390, "height": 800}, has_touch=True)
    [image] = [i for i in server.client.get("/api/images").json()["images"] if "both" in i["url"]]
    page.goto(f"/images/{image['id']}")
    page.get_by_label("Show faces (2)").check()
    page.get_by_role("link", name="Search by face 2").locator("rect").click()
    page.wait_for_url(re.compile(r"/\?face=.*:1$"))
    expect(page.locator("#hits > li")).to_have_count(1)


@pytest.mark.parametrize("width", [390, 1280])
def test_people_have_covers_and_names(
    server: Server, new_page: Callable[..., Page], width: int
) -> None:
    page = new_page(viewport={"width": width, "height": 900})
    page.goto("/people")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    expect(page.locator(".people > li")).to_have_count(1)
    page.locator(".people a").first.click()
    expect(page.locator(".people .cover")).to_have_count(2)
    page.get_by_label("Name", exact=True).fill("Eileen")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Eileen")).to_be_visible()
    assert page.evaluate(overflow) == 0
    page.get_by_role("link", name="Search by this face").click()
    expect(page.locator("#hits > li")).to_have_count(1)
