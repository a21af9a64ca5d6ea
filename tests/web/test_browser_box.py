"""The one box of the search page, and what the page costs, in a real browser."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser import file
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, png

SHIFTS = """
  window.shifted = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
"""
# Of the HTML without pictures, the style sheet and the scripts of the search page, uncompressed.
BUDGET_BYTES = 60_000
MOST_SHIFTED = 0.05


@pytest.mark.parametrize(("width", "height", "most"), [(390, 844, 140), (1280, 800, 180)])
def test_results_are_in_view_below_a_small_form(
    indexed: Server, new_page: Callable[..., Page], width: int, height: int, most: int
) -> None:
    page = new_page(viewport={"width": width, "height": height})
    page.goto("/")
    page.set_input_files("#file", file(altered(png(1))))
    expect(page.locator("#hits li").first.locator(".thumbnail")).to_be_in_viewport(ratio=0.9)
    page.goto(page.url + "&text=a+boat+%2B+2:snow+-+tree&formats=png")
    expect(page.locator("#hits li").first.locator(".thumbnail")).to_be_in_viewport(ratio=0.9)
    box = page.locator("#search").bounding_box()
    assert box is not None
    assert box["height"] <= most
    # Also for who has scrolled down: a new search shows its results.
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#text").fill("dog")
    page.locator("#text").press("Enter")
    expect(page.locator("#hits li").first.locator(".thumbnail")).to_be_in_viewport(ratio=0.9)


def test_what_is_typed_while_results_are_on_their_way_is_not_lost(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page, held, root = new_page(), list[Route](), f"{indexed.address}/"

    def hold() -> Route:
        while not held:
            page.evaluate("1")
        return held.pop()

    page.goto("/")
    page.route(root, lambda route: held.append(route))
    page.set_input_files("#file", file(png(1)))
    route, text = hold(), page.locator("#text")
    # Without an event, as what is typed is searched by after a while.
    text.evaluate("field => { field.focus(); field.value = 'snow - t'; }")
    route.continue_()
    expect(page.locator("#hits li").first).to_be_visible()
    expect(text).to_have_value("snow - t")
    expect(text).to_be_focused()
    page.keyboard.type("ree")
    expect(text).to_have_value("snow - tree")
    # Words that were sent become chips; what was typed behind them stays.
    page.keyboard.press("Enter")
    route = hold()
    text.evaluate("field => { field.value += ' - dog'; }")
    route.continue_()
    expect(page.get_by_role("list", name="Parts of the search").locator(".words")).to_have_text(
        ["snow", "tree"]
    )
    expect(text).to_have_value("- dog")


def test_the_parts_of_a_mixed_search_are_changed_in_their_chips(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(png(1)))
    expect(page.locator("#given img")).to_be_visible()
    page.locator("#text").fill("snow - tree")
    page.locator("#text").press("Enter")
    chips = page.get_by_role("list", name="Parts of the search")
    expect(chips.locator(".words")).to_have_text(["snow", "tree"])
    expect(page.locator("#text")).to_have_value("")
    page.get_by_label("Weight of snow").select_option("2.0")
    expect(page).to_have_url(re.compile(r"text=2%3Asnow\+-\+tree"))
    page.locator("#text").fill("dog")
    page.locator("#text").press("Enter")
    expect(chips.locator(".words")).to_have_text(["snow", "tree", "dog"])
    # Words are taken back into the field to be changed, by a click or with Backspace.
    chips.get_by_text("tree").click()
    expect(page.locator("#text")).to_have_value("- tree")
    page.locator("#text").fill("- grass")
    page.locator("#text").press("Enter")
    expect(page).to_have_url(re.compile(r"text=2%3Asnow\+%2B\+dog\+-\+grass"))
    page.locator("#text").press("Backspace")
    expect(page.locator("#text")).to_have_value("- grass")
    page.locator("#text").fill("")
    page.locator("#text").press("Enter")
    expect(chips.locator(".words")).to_have_text(["snow", "dog"])
    page.get_by_role("link", name="Remove snow").click()
    expect(page).to_have_url(re.compile(r"text=dog"))
    page.get_by_role("link", name="Remove image").click()
    # A phrase alone is no chip.
    expect(page.locator("#text")).to_have_value("dog")
    expect(chips).to_have_count(0)


@pytest.mark.parametrize("scripted", [True, False])
def test_every_part_of_a_mixed_search_has_a_weight(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost, scripted: bool
) -> None:
    ids = [i["id"] for i in indexed.client.get("/api/images").json()["images"][:2]]
    page = new_page(java_script_enabled=scripted)
    page.goto(f"/?url={host.url('seed/1.png')}&text=snow&like={ids[0]}&unlike={ids[1]}")
    chips = page.get_by_role("list", name="Parts of the search")
    chosen = chips.get_by_role("combobox")
    expect(chosen).to_have_count(4)

    def weigh(name: str, label: str) -> None:
        chips.get_by_label(name).select_option(label)
        if not scripted:
            page.get_by_role("button", name="Search", exact=True).click()

    def labels() -> list[str]:
        return chosen.locator("option:checked").all_inner_texts()

    assert labels() == ["+1", "+1", "+1", "−1"]
    before = similarities(page)
    weigh("Weight of the query image", "+3")
    expect(page).to_have_url(re.compile(r"weights=http.*seed%2F1.png%3D3"))
    assert labels() == ["+3", "+1", "+1", "−1"]
    assert similarities(page) != before
    weigh(f"Weight of {name_of(indexed, ids[0])}", "+2")
    expect(page).to_have_url(re.compile(rf"weights={ids[0]}%3D2"))
    # With the other sign it is on the other side.
    weigh(f"Weight of {name_of(indexed, ids[1])}", "+0.5")
    expect(page).to_have_url(re.compile(rf"like={ids[1]}.*weights={ids[1]}%3D0.5"))
    assert sorted(labels()) == ["+0.5", "+1", "+2", "+3"]
    # What is alone has none.
    page.goto(f"/?like={ids[0]}")
    expect(chosen).to_have_count(0)


def similarities(page: Page) -> list[str | None]:
    expect(page.locator("#hits li")).not_to_have_count(0)
    expect(page.locator("#answer[aria-busy]")).to_have_count(0)
    hits = page.locator("#hits li").all()
    return [hit.get_attribute("data-similarity") for hit in hits]


def name_of(server: Server, image_id: str) -> str:
    return server.client.get(f"/api/images/{image_id}").json()["url"].rsplit("/", 1)[-1]


def test_typing_adds_to_the_chips(indexed: Server, new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/?text=snow+-+tree")
    expect(page.locator(".chip")).to_have_count(2)
    page.locator("#text").press_sequentially("dog")
    expect(page).to_have_url(re.compile(r"text=snow\+-\+tree\+%2B\+dog"))
    page.reload()
    expect(page.locator(".chip .words")).to_have_text(["snow", "tree", "dog"])


def test_a_url_that_is_pasted_into_the_box_is_searched_by(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.locator("#text").focus()
    page.evaluate(
        """(url) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text", url);
          const options = { clipboardData, bubbles: true, cancelable: true };
          document.querySelector("#text").dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        host.url("seed/2.png"),
    )
    expect(page.locator("#hits li .badge.exact")).to_be_visible()
    expect(page.locator("#given img")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_search_page_is_small_and_holds_still(
    indexed: Server, new_page: Callable[..., Page], width: int, host: ImageHost
) -> None:
    page = new_page(viewport={"width": width, "height": 800})
    page.add_init_script(SHIFTS)
    for path in ("/", f"/?url={host.url('seed/1.png')}&min_similarity=0.5", "/?panel=filters"):
        sizes: list[int] = []
        page.on(
            "response",
            lambda answer, sizes=sizes: (
                sizes.append(len(re.sub(rb"data:image/[^\"]+", b"", answer.body())))
                if answer.request.resource_type in ("document", "stylesheet", "script")
                else None
            ),
        )
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert len(sizes) >= 3
        assert sum(sizes) < BUDGET_BYTES
        assert page.evaluate("window.shifted") < MOST_SHIFTED
