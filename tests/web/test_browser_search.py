"""The search page in a real browser, used as a person would."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from app.lookalike import open_lookalike
from app.settings import Settings
from app.store.images import Entry
from app.web.server import create_app
from tests.browser import file
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import altered, encode, photo, png

PASTE = """(encoded) => {
  const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}"""
DROP = """(encoded) => {
  const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


def similarities(page: Page, listed: str) -> list[float]:
    return [
        float(item.get_attribute("data-similarity") or "")
        for item in page.locator(f"{listed} li").all()
    ]


def test_an_uploaded_image_shows_a_preview_and_results(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(altered(png(1))))
    expect(page.locator("#hits li")).not_to_have_count(0)
    expect(page.locator("#preview img")).to_be_visible()
    first = page.locator("#hits li").first
    expect(first.locator(".badge")).to_have_text("Same image")
    expect(first.get_by_text("256 × 256 PNG")).to_be_visible()
    expect(first.get_by_role("link", name="Original")).to_have_attribute(
        "href", host.url("seed/1.png")
    )
    image = first.locator("img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    first.locator(".thumbnail").click()
    page.get_by_role("link", name="Full page").click()
    page.wait_for_url("**/images/*")
    expect(page.get_by_role("heading", name="1.png", exact=True)).to_be_visible()
    # Back to the results; the server still has the query image.
    page.go_back()
    page.get_by_role("link", name="Close").click()
    expect(page.locator("#hits li .badge.copy").first).to_be_visible()
    expect(page.locator("#preview img")).to_be_visible()
    page.reload()
    expect(page.locator("#hits li .badge.copy").first).to_be_visible()


def test_the_slider_moves_results_across_the_threshold(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(png(1)))
    expect(page.locator("#hits li")).not_to_have_count(0)
    page.get_by_text("Options").click()
    expect(page.locator("#lowest")).to_have_text("0.90")
    everything = sorted(similarities(page, "#hits") + similarities(page, "#below"), reverse=True)
    assert len(everything) == 7
    # Whatever the threshold, what is proved to be the same image is a result.
    proved = similarities(page, "#hits")
    assert page.locator("#hits li[data-proved]").count() == len(proved) == 2
    for lowest in (0.5, 0.9, 1.0, 0.75):
        page.locator("#min_similarity").fill(str(lowest))
        expect(page.locator("#lowest")).to_have_text(f"{lowest:.2f}")
        shown = [s for s in everything if s >= lowest or s in proved]
        assert similarities(page, "#hits") == shown
        assert similarities(page, "#below") == everything[len(shown) :]
        expect(page.locator("#count")).to_have_text(str(len(shown)))


def test_without_results_the_closest_images_are_shown_openly(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(png(60)))
    expect(page.get_by_text("No image in the index is that similar")).to_be_visible()
    expect(page.get_by_role("heading", name="The closest images")).to_be_visible()
    expect(page.locator("#below li").first).to_be_in_viewport()


@pytest.mark.parametrize("event", [PASTE, DROP], ids=["paste", "drop"])
def test_a_pasted_or_dropped_image_is_searched_for(
    indexed: Server, new_page: Callable[..., Page], event: str
) -> None:
    page = new_page()
    page.goto("/")
    page.evaluate(event, base64.b64encode(png(3)).decode())
    expect(page.locator("#hits li .badge.exact")).to_be_visible()
    expect(page.locator("#preview img")).to_be_visible()


def test_a_search_by_url_can_be_shared(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.locator("#text").fill(host.url("seed/2.png"))
    page.keyboard.press("Enter")
    expect(page.locator("#hits li .badge.exact")).to_be_visible()
    expect(page.locator("#preview img")).to_be_visible()
    # The URL is the query image now; the field is free for words.
    expect(page.locator("#text")).to_have_value("")
    shared = page.url
    assert "url=" in shared
    other = new_page()
    other.goto(shared)
    expect(other.locator("#hits li .badge.exact")).to_be_visible()


def test_the_last_query_image_counts(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(png(1)))
    first = page.locator("#hits li").first.get_by_role("link", name="Original")
    expect(first).to_have_attribute("href", host.url("seed/1.png"))
    page.locator("#text").fill(host.url("seed/2.png"))
    page.get_by_role("button", name="Search", exact=True).click()
    expect(first).to_have_attribute("href", host.url("seed/2.png"))
    page.set_input_files("#file", file(png(4)))
    expect(first).to_have_attribute("href", host.url("seed/4.png"))
    expect(page.locator("#given")).to_have_count(1)
    assert "url=" not in page.url


def test_a_problem_is_shown_and_the_page_still_works(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(b"not an image", "notes.txt"))
    expect(page.get_by_role("alert")).to_contain_text("not an image")
    page.set_input_files("#file", file(png(1)))
    expect(page.locator("#hits li .badge.exact")).to_be_visible()


def test_everything_works_with_the_keyboard(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    tab_to("#text")
    page.keyboard.type(host.url("seed/2.png"))
    tab_to("#file")
    tab_to("button")
    page.keyboard.press("Enter")
    expect(page.locator("#hits li")).not_to_have_count(0)
    tab_to("#options summary")
    page.keyboard.press("Enter")
    tab_to("#min_similarity")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#lowest")).to_have_text("0.89")
    page.keyboard.press("Escape")
    expect(page.locator("#options summary")).to_be_focused()
    # Next, the filters, and a result to mark.
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#open-filters")).to_be_focused()
    page.keyboard.press("Enter")
    # The filters are loaded when the panel is opened.
    expect(page.locator("#filters input[name=formats][value=jpeg]")).to_be_visible()
    tab_to("#filters input[name=formats][value=jpeg]")
    page.keyboard.press("Space")
    expect(page).to_have_url(re.compile("formats=jpeg"))
    expect(page.locator("#below li, #hits li")).to_have_count(1)
    tab_to("#filters input[name=formats][value=png]")
    tab_to("#below button[name=like]")
    page.keyboard.press("Enter")
    expect(page.locator("[name=like][type=hidden]")).to_have_count(1)
    # A region, set with the arrow keys.
    tab_to("#preview")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("crop=0.3000%2C0.2500%2C0.5000%2C0.5500"))
    tab_to(".chip:has([name=like]) .remove")
    page.keyboard.press("Enter")
    expect(page.locator("[name=like][type=hidden]")).to_have_count(0)


TITLES = ("Red boat", "Blue boat", "A dog in the snow", "A tree", "A lamp", "A shoe")


def describe(server: Server, host: ImageHost) -> Server:
    """Index six images with titles and tags."""
    server.upsert(
        [
            {"url": host.url(f"seed/{n}.png"), "title": title, "tags": ["sea"] if n < 2 else []}
            for n, title in enumerate(TITLES)
        ]
    )
    return server


@pytest.fixture
def described(server: Server, host: ImageHost) -> Server:
    return describe(server, host)


@pytest.fixture
def words_only(silent: Server, host: ImageHost) -> Server:
    """Images with titles, on a server that finds them by their words only."""
    return describe(silent, host)


def titles(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#hits .caption").all_inner_texts()]


def test_results_follow_the_words_as_they_are_typed(
    words_only: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page(words_only)
    page.goto("/")
    entries = page.evaluate("history.length")
    page.locator("#text").press_sequentially("boat")
    expect(page.locator("#hits li")).to_have_count(2)
    expect(page.locator("#hits .badge").first).to_have_text("words")
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator(".note")).to_contain_text("embeds images only")
    page.locator("#text").press_sequentially("s - red")
    expect(page.locator("#hits li")).to_have_count(1)
    assert titles(page) == ["Blue boat"]
    # Typing adds no history entries; the URL is that of the search.
    assert page.evaluate("history.length") == entries
    other = new_page(words_only)
    other.goto(page.url)
    expect(other.locator(".chip .words")).to_have_text(["boats", "red"])
    assert other.locator(".chip select").evaluate_all("all => all.map(s => s.value)") == [
        "1.0",
        "-1.0",
    ]
    expect(other.locator("#hits li")).to_have_count(1)
    page.locator("#text").fill("submarine")
    expect(page.get_by_text("No images match these words")).to_be_visible()


def test_a_phrase_ranks_all_images_and_unknown_words_are_named(
    described: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    expect(page.get_by_label("Search by words, or by the URL of an image")).to_be_visible()
    page.locator("#text").fill("a flurble in the snow")
    expect(page.locator("#hits li")).to_have_count(6)
    expect(page.locator(".note")).to_have_text("The encoder builtin does not know: flurble.")
    # The similarity of a phrase and an image means nothing to people, and the rank is seen.
    expect(page.get_by_role("heading", name="Best matches")).to_be_visible()
    expect(page.locator("#hits .similarity, #hits meter")).to_have_count(0)
    expect(page.locator("#hits").get_by_text("%")).to_have_count(0)
    page.locator("#text").fill("flurble")
    expect(page.locator(".note")).to_contain_text("knows none of the words in “flurble”")
    expect(page.get_by_text("No images match these words")).to_be_visible()


def test_marked_results_change_the_search_and_back_undoes_it(
    words_only: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page(words_only)
    page.goto("/?text=boat")
    page.get_by_role("button", name="More like Red boat").click()
    expect(page.locator(".chip:has([name=like]) img")).to_have_attribute("alt", "Red boat")
    expect(page.locator("#hits li")).to_have_count(5)
    assert "Red boat" not in titles(page)
    page.get_by_role("button", name="Less like A tree").click()
    expect(page.locator(".chip:has([name=unlike]) img")).to_have_attribute("alt", "A tree")
    expect(page.locator("#hits li")).to_have_count(4)
    shared = page.url
    page.get_by_role("link", name="Remove Red boat").click()
    expect(page.locator(".chip:has([name=like])")).to_have_count(0)
    page.go_back()
    expect(page.locator(".chip:has([name=like]) img")).to_have_attribute("alt", "Red boat")
    page.go_back()
    expect(page.locator(".chip:has([name=unlike])")).to_have_count(0)
    page.go_back()
    expect(page.locator("#hits li")).to_have_count(2)
    other = new_page(words_only)
    other.goto(shared)
    expect(other.locator("#hits li")).to_have_count(4)
    expect(other.locator(".chip img")).to_have_count(2)


def test_filters_have_counts_and_narrow_the_search(
    words_only: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    words_only.upsert([{"url": host.add("b.jpg", altered(png(1))), "title": "Old boat"}])
    page = new_page(words_only)
    page.goto("/")
    page.locator("#text").fill("boat")
    expect(page.locator("#hits li")).to_have_count(3)
    page.locator("#open-filters").click()
    expect(page.get_by_label("jpeg 1")).to_be_visible()
    expect(page.locator("#text")).to_have_value("boat")
    page.get_by_label("sea 2").check()
    expect(page.locator("#hits li")).to_have_count(2)
    expect(page.get_by_label("sea 2")).to_be_checked()
    page.get_by_label("Width").fill("9999")
    page.keyboard.press("Tab")
    expect(page.get_by_text("No images match the filters")).to_be_visible()
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator("#hits li")).to_have_count(3)


def test_filters_alone_show_the_images_that_match(
    described: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.locator("#open-filters").click()
    page.get_by_label("sea 2").check()
    expect(
        page.get_by_role("heading", name="Images that match the filters, newest first")
    ).to_be_visible()
    expect(page.locator("#answer .thumbnail img")).to_have_count(2)
    assert "tags=sea" in page.url
    page.get_by_label("Width").fill("9999")
    page.keyboard.press("Tab")
    expect(page.get_by_text("No images match the filters")).to_be_visible()


def test_a_region_is_drawn_on_the_preview(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    both = Image.new("RGB", (1024, 512))
    both.paste(photo(1).resize((512, 512)), (0, 0))
    both.paste(photo(4).resize((512, 512)), (512, 0))
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(encode(both)))
    expect(page.locator("#below li")).not_to_have_count(0)
    image = page.locator("#preview img")
    image.evaluate("image => image.decode()")
    box = image.bounding_box()
    assert box is not None
    first = page.locator("#hits li").first.get_by_role("link", name="Original")
    for left, seed in ((0.5, 4), (0.0, 1)):
        x, y = box["x"] + left * box["width"], box["y"]
        page.mouse.move(x + 2, y + 2)
        page.mouse.down()
        page.mouse.move(x + box["width"] / 2 - 2, y + box["height"] - 2, steps=4)
        page.mouse.up()
        expect(first).to_have_attribute("href", host.url(f"seed/{seed}.png"))
    expect(page.locator(".region-frame")).to_be_visible()
    page.reload()
    expect(first).to_have_attribute("href", host.url("seed/1.png"))
    expect(page.locator(".region-frame")).to_be_visible()
    page.get_by_role("link", name="Search by the whole image").click()
    expect(page.locator(".region-frame")).to_be_hidden()


def test_a_region_is_moved_and_resized(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(f"/?url={host.url('seed/1.png')}&crop=0.25,0.25,0.5,0.5")
    page.get_by_label("Crop the query image").click()
    image = page.locator("#preview img")

    def region() -> list[float]:
        return [float(part) for part in page.locator("[name=crop]").input_value().split(",")]

    def drag(x: float, y: float, to_x: float, to_y: float) -> list[float]:
        image.evaluate("image => image.decode()")
        box = image.bounding_box()
        assert box is not None
        left, top = box["x"], box["y"]
        page.mouse.move(left + x * box["width"], top + y * box["height"])
        page.mouse.down()
        page.mouse.move(left + to_x * box["width"], top + to_y * box["height"], steps=3)
        page.mouse.up()
        expected = page.locator("[name=crop]").input_value()
        expect(page).to_have_url(re.compile(re.escape(expected.replace(",", "%2C"))))
        expect(page.locator("#answer[aria-busy]")).to_have_count(0)
        return region()

    for edges in ("nw", "n", "ne", "e", "se", "s", "sw", "w"):
        target = page.locator(f"#crop-{edges}").bounding_box()
        assert target is not None
        assert min(target["width"], target["height"]) >= 24
    # It is searched for when a handle is let go: a corner, an edge, and the whole.
    assert drag(0.75, 0.75, 0.9, 0.85) == pytest.approx([0.25, 0.25, 0.65, 0.6], abs=0.02)
    assert drag(0.25, 0.55, 0.1, 0.9) == pytest.approx([0.1, 0.25, 0.8, 0.6], abs=0.02)
    assert drag(0.5, 0.5, 0.9, 0.2) == pytest.approx([0.2, 0, 0.8, 0.6], abs=0.02)
    # An edge goes no further than to the opposite one, or to the end of the image.
    assert drag(0.6, 0.6, 0.6, -0.5) == pytest.approx([0.2, 0, 0.8, 0.03], abs=0.02)


@pytest.mark.parametrize("on_page_of_image", [False, True])
def test_a_region_is_resized_by_keyboard(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost, on_page_of_image: bool
) -> None:
    [image] = indexed.client.get("/api/images?q=seed/1.png").json()["images"]
    page = new_page()
    page.goto(f"/images/{image['id']}" if on_page_of_image else f"/?url={host.url('seed/1.png')}")
    box = page.get_by_role("group", name="Search region")
    box.focus()
    page.keyboard.press("ArrowRight")
    expect(box.locator("output")).to_have_text(
        "25% from the left, 25% from the top, 50% wide, 50% high"
    )
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Top left corner")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    page.get_by_role("button", name="Right edge").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(box.locator("output")).to_have_text(
        "20% from the left, 20% from the top, 60% wide, 55% high"
    )
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("crop=0.2000%2C0.2000%2C0.6000%2C0.5500"))
    if not on_page_of_image:
        expect(page.get_by_role("button", name="Right edge")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator(".region-frame")).to_be_hidden()
        expect(page).not_to_have_url(re.compile("crop="))


def test_results_wait_for_a_handle_that_is_held(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto(f"/?url={host.url('seed/1.png')}&crop=0.25,0.25,0.5,0.5")
    held: list[Route] = []
    server_root = f"{indexed.address}/"
    page.route(server_root, lambda route: held.append(route))
    page.get_by_text("Options").click()
    page.get_by_label("Varied results").check()
    while not held:
        page.evaluate("1")
    page.locator("#options summary").click()
    handle = page.locator("#crop-se").bounding_box()
    assert handle is not None
    page.mouse.move(handle["x"] + 12, handle["y"] + 12)
    page.mouse.down()
    page.mouse.move(handle["x"] + 30, handle["y"] + 30, steps=2)
    with page.expect_response(re.compile("diversity=0.5")):
        held[0].continue_()
    page.unroute(server_root)
    page.mouse.move(handle["x"] + 40, handle["y"] + 40, steps=2)
    wanted = page.locator("[name=crop]").input_value().replace(",", "%2C")
    assert "0.5000%2C0.5000" not in wanted
    page.mouse.up()
    expect(page).to_have_url(re.compile(re.escape(wanted)))


def test_a_region_of_an_indexed_image(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    both = Image.new("RGB", (512, 256))
    both.paste(photo(2), (0, 0))
    both.paste(photo(5), (256, 0))
    [outcome] = indexed.upsert([host.add("both.png", encode(both))])
    page = new_page()
    page.goto(f"/images/{outcome['id']}")
    page.locator("#image").focus()
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    for _ in range(10):
        page.keyboard.press("Shift+ArrowDown")
    page.get_by_role("button", name="Search by this region").click()
    first = page.locator("#hits li").first.get_by_role("link", name="Original")
    expect(first).to_have_attribute("href", host.url("seed/5.png"))


def test_show_more_appends_to_the_results(
    described: Server, new_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.search_pages.RESULTS", 2)
    [image, *_] = described.client.get("/api/images").json()["images"]
    page = new_page()
    page.goto(f"/?like={image['id']}")
    expect(page.locator("#hits li")).to_have_count(2)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("#hits li")).to_have_count(4)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("#hits li")).to_have_count(5)
    expect(page.get_by_role("link", name="Show more")).to_have_count(0)
    assert len(set(titles(page))) == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_issues(
    described: Server, new_page: Callable[..., Page], host: ImageHost, scheme: str
) -> None:
    [image, other, *_] = described.client.get("/api/images").json()["images"]
    page = new_page(color_scheme=scheme)
    for path in (
        "/",
        "/?panel=filters",
        "/?text=boat+%2B+2%3Asea+-+snow",
        f"/?text=boat&like={image['id']}&unlike={other['id']}&tags=sea",
        f"/?url={host.url('seed/1.png')}&min_similarity=0.5",
        "/?url=nonsense",
        f"/images/{image['id']}",
        "/index",
        "/index?moved=7f2c9a51-5d0e-4b8e-9a53-0d8e3c1f6b11",
        "/add",
        "/trash",
        "/duplicates",
        f"/compare?a={image['id']}&b={other['id']}",
        "/compare?a=nonsense&b=",
        "/docs",
    ):
        page.goto(path)
        found = Axe().run(page).response["violations"]
        serious: list[Any] = [
            (violation["id"], [node["html"][:200] for node in violation["nodes"]][:3])
            for violation in found
            if violation["impact"] in ("serious", "critical")
        ]
        assert serious == [], path


def test_a_sum_is_entered_in_the_text_field(
    described: Server, new_page: Callable[..., Page]
) -> None:
    ids = {
        image["title"]: image["id"]
        for image in described.client.get("/api/images").json()["images"]
    }
    page = new_page()
    page.goto("/")
    page.locator("#text").fill(f"2:{ids['A lamp']} + {ids['A shoe']} - {ids['A tree']}")
    page.keyboard.press("Enter")
    expect(page.locator("#hits li")).to_have_count(3)
    expect(page.locator(".chip img")).to_have_count(3)
    page.goto("/")
    page.locator("#text").fill(f"{ids['A lamp']} - {ids['A lamp']}")
    expect(page.get_by_role("alert")).to_contain_text("cancel each other")


def test_a_phrase_ranks_images_by_the_text_tower(
    settings: Settings, loop: Loop, browser: Browser, host: ImageHost, tmp_path: Path
) -> None:
    changed = settings.model_copy(update={"encoder": str(write_clip(tmp_path / "tiny"))})
    page = browser.new_page()
    with (
        loop.entered(open_lookalike(changed, announce=lambda _: None)) as lookalike,
        loop.serving(create_app(lookalike)) as address,
    ):
        entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(4)]
        loop.run(lookalike.indexer.upsert_urls(entries))
        page.goto(address)
        page.locator("#text").press_sequentially("a red cat")
        expect(page.locator("#hits li")).to_have_count(4)
        expect(page.get_by_role("heading", name="Best matches")).to_be_visible()
        expect(page.locator("#hits .similarity")).to_have_count(0)
        expect(page.locator("#min_similarity")).to_be_hidden()
    page.close()
