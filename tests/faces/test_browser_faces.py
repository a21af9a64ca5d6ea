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


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("has_script", [True, False])
def test_a_face_of_an_uploaded_image_is_chosen(
    server: Server, new_page: Callable[..., Page], host: ImageHost, width: int, has_script: bool
) -> None:
    kept = server.client.post("/", files={"file": ("both.png", host.pictures["both.png"])})
    page = new_page(viewport={"width": width, "height": 844}, java_script_enabled=has_script)
    page.goto(kept.headers["location"])
    if width < 900 and has_script:
        page.get_by_role("button", name="Crop the query image").click()
    if width < 900 and not has_script:
        page.goto(page.url + "&choose=face")
    else:
        page.get_by_role("link", name="Search by a face in it").click()
    expect(page.get_by_text("2 faces found")).to_be_visible()
    right = page.get_by_role("link", name="Search by face 2")
    image, box = page.locator("#preview img").bounding_box(), right.bounding_box()
    assert image
    assert box
    # The astronaut, mirrored, is in the right half: 0.57 of it from its left.
    middle = (box["x"] + box["width"] / 2 - image["x"]) / image["width"]
    assert abs(middle - (0.5 + 0.5 * 0.57)) < 0.04
    # Arrow keys are for regions, but not on a face; Enter chooses.
    right.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"face=1"))
    expect(page.locator("#hits > li")).to_have_count(2)
    expect(right).to_have_attribute("aria-current", "true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The left one is another person.
    page.get_by_role("link", name="Search by face 1").locator("rect").click()
    page.wait_for_url(re.compile(r"face=0"))
    expect(page.get_by_role("link", name="Search by face 1")).to_have_attribute(
        "aria-current", "true"
    )
    expect(page.locator("#query")).to_be_visible()
    page.get_by_role("link", name="Search by the whole image").click()
    page.wait_for_url(re.compile(r"^(?!.*face)"))
    expect(page.locator("#hits > li").first).to_be_visible()


def test_a_region_of_the_image_takes_the_place_of_its_face(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    kept = server.client.post("/", files={"file": ("both.png", host.pictures["both.png"])})
    page = new_page(viewport={"width": 1280, "height": 844})
    page.goto(kept.headers["location"] + "&choose=face&face=1")
    expect(page.locator("#hits > li")).to_have_count(2)
    # A filter does not.
    page.goto(page.url + "&formats=png")
    expect(page.locator("#hits > li")).to_have_count(2)
    page.get_by_label("Thumbnail size").evaluate("select => (select.value = 'large')")
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url(re.compile(r"face=1.*density=large|density=large.*face=1"))
    page.locator("#preview").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"^(?=.*crop=)(?!.*face=\d)"))
    expect(page.locator("#hits > li").first).to_be_visible()
