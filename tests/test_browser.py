"""The pages in a real browser, used as a person would."""

import base64
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from app.lookalike import Lookalike, open_lookalike
from app.server import create_app
from app.settings import Settings
from tests.browser_setup import installed
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, encode, photo, png

# Nothing but the page itself may ask for anything (and root needs no sandbox in a container).
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
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


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Browser, server: Server) -> Generator[Callable[..., Page]]:
    """Opens pages that may complain of nothing and ask no one else for anything."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    origins: set[str] = set()

    def new_page(**options: Any) -> Page:
        context = browser.new_context(base_url=server.address, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        page.on("request", lambda request: origins.add(request.url))
        return page

    yield new_page
    for context in contexts:
        context.close()
    expected = "the server responded with a status of 4"
    assert [said for said in complaints if expected not in said] == []
    others = [url for url in origins if not url.startswith((server.address, "data:", "blob:"))]
    assert others == []


@pytest.fixture
def indexed(server: Server, host: ImageHost) -> Server:
    """Six pictures, and a blurred copy of the second."""
    blurred = encode(photo(1).resize((40, 40)).resize((256, 256)), "JPEG")
    server.upsert([host.url(f"seed/{seed}.png") for seed in range(6)])
    server.upsert([host.add("blurred.jpg", blurred)])
    return server


def file(data: bytes, name: str = "query.jpg") -> Any:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def similarities(page: Page, listed: str) -> list[float]:
    return [
        float(item.get_attribute("data-similarity") or "")
        for item in page.locator(f"{listed} li").all()
    ]


def test_choosing_a_picture_shows_a_preview_and_the_results(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(altered(png(1))))
    expect(page.locator("#hits li")).not_to_have_count(0)
    expect(page.locator("#preview img")).to_be_visible()
    first = page.locator("#hits li").first
    expect(first.locator(".badge")).to_have_text("copy")
    expect(first.get_by_text("256 × 256 PNG")).to_be_visible()
    expect(first.get_by_role("link", name="Original")).to_have_attribute(
        "href", host.url("seed/1.png")
    )
    image = first.locator("img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    # More like this.
    first.get_by_role("link", name="More like this").click()
    page.wait_for_url("**/images/*#alike")
    expect(page.get_by_role("heading", name="1.png")).to_be_visible()


def test_the_slider_moves_results_over_the_threshold(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(png(1)))
    expect(page.locator("#hits li")).not_to_have_count(0)
    expect(page.locator("#lowest")).to_have_text("0.90")
    everything = sorted(similarities(page, "#hits") + similarities(page, "#below"), reverse=True)
    assert len(everything) == 7
    for lowest in (0.5, 0.9, 1.0, 0.75):
        page.locator("#min_similarity").fill(str(lowest))
        expect(page.locator("#lowest")).to_have_text(f"{lowest:.2f}")
        shown = [similarity for similarity in everything if similarity >= lowest]
        assert similarities(page, "#hits") == shown
        assert similarities(page, "#below") == everything[len(shown) :]
        expect(page.locator("#count")).to_have_text(str(len(shown)))


def test_nothing_above_the_threshold_offers_the_closest(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(png(60)))
    expect(page.get_by_text("Nothing in the index is that similar")).to_be_visible()
    expect(page.locator("#below li").first).to_be_hidden()
    page.get_by_text("Show the closest anyway").click()
    expect(page.locator("#below li").first).to_be_visible()


@pytest.mark.parametrize("event", [PASTE, DROP], ids=["paste", "drop"])
def test_a_pasted_or_dropped_picture_is_searched_for(
    indexed: Server, new_page: Callable[..., Page], event: str
) -> None:
    page = new_page()
    page.goto("/")
    page.evaluate(event, base64.b64encode(png(3)).decode())
    expect(page.locator("#hits li .badge.exact")).to_be_visible()
    expect(page.locator("#preview img")).to_be_visible()


def test_an_address_is_searched_for_and_can_be_shared(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.get_by_label("Or its address").fill(host.url("seed/2.png"))
    page.keyboard.press("Enter")
    expect(page.locator("#hits li .badge.exact")).to_be_visible()
    expect(page.locator("#preview img")).to_be_visible()
    shared = page.url
    assert "url=" in shared
    other = new_page()
    other.goto(shared)
    expect(other.locator("#hits li .badge.exact")).to_be_visible()


def test_what_was_asked_last_counts(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(png(1)))
    first = page.locator("#hits li").first.get_by_role("link", name="Original")
    expect(first).to_have_attribute("href", host.url("seed/1.png"))
    page.get_by_label("Or its address").fill(host.url("seed/2.png"))
    page.get_by_role("button", name="Search").click()
    expect(first).to_have_attribute("href", host.url("seed/2.png"))
    page.set_input_files("#file", file(png(4)))
    expect(first).to_have_attribute("href", host.url("seed/4.png"))
    expect(page.get_by_label("Or its address")).to_have_value("")


def test_what_is_wrong_is_said_and_the_page_goes_on(
    indexed: Server, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.goto("/")
    page.set_input_files("#file", file(b"no picture", "notes.txt"))
    expect(page.get_by_role("alert")).to_contain_text("not a picture")
    page.set_input_files("#file", file(png(1)))
    expect(page.locator("#hits li .badge.exact")).to_be_visible()


def test_a_server_that_is_gone_is_said(lookalike: Lookalike, loop: Loop, browser: Browser) -> None:
    page = browser.new_page()
    with loop.serving(create_app(lookalike)) as address:
        page.goto(address)
    page.set_input_files("#file", file(png(1)))
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.close()


def test_everything_can_be_reached_with_the_keyboard(
    indexed: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    page = new_page()
    page.goto("/")

    def tab_to(selector: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    tab_to("#file")
    tab_to("#url")
    page.keyboard.type(host.url("seed/2.png"))
    tab_to("#min_similarity")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#lowest")).to_have_text("0.89")
    tab_to("button")
    page.keyboard.press("Enter")
    expect(page.locator("#hits li")).not_to_have_count(0)
    tab_to("#hits a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/images/*")


def test_without_javascript_forms_do_the_same(
    indexed: Server, new_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/")
    page.set_input_files("#file", file(altered(png(1))))
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#hits li").first.locator(".badge")).to_have_text("copy")
    expect(page.locator("#preview img")).to_be_visible()
    page.get_by_role("link", name="Index", exact=True).click()
    page.set_input_files("#files", [file(png(70), "new.png"), file(b"words", "words.png")])
    page.get_by_role("button", name="Add to the index").click()
    # The page asks again by itself while a job runs.
    expect(page.locator(".job .badge.indexed")).to_have_text("1 indexed")
    expect(page.locator(".job .failures .reason")).to_contain_text("not a picture")
    expect(page.get_by_role("heading", name="8 pictures in the index")).to_be_visible()
    page.get_by_role("button", name="Remove from this list").click()
    expect(page.locator(".job")).to_have_count(0)


def test_indexing_shows_what_becomes_of_each_picture(
    server: Server, new_page: Callable[..., Page], host: ImageHost, tmp_path: Path
) -> None:
    folder = tmp_path / "holidays"
    (folder / "sea").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(11))
    (folder / "sea" / "b.jpg").write_bytes(altered(png(12)))
    (folder / "notes.txt").write_text("not sent")
    page = new_page()
    page.goto("/index")
    page.locator("#urls").fill(f"{host.url('seed/1.png')}\n{host.url('status/404')}")
    listed = file(f"url,title\n{host.url('seed/3.png')},Third\n".encode(), "list.csv")
    page.set_input_files("#files", [file(png(2), "c.png"), listed])
    page.set_input_files("#folder", folder)
    page.get_by_role("button", name="Add to the index").click()
    files, urls = page.locator(".job").nth(1), page.locator(".job").nth(0)
    expect(files.locator(".badge.indexed")).to_have_text("3 indexed")
    expect(urls.locator(".badge.indexed")).to_have_text("2 indexed")
    expect(urls.locator(".badge.failed")).to_have_text("1 failed")
    expect(urls.locator(".failures")).to_contain_text("answers 404")
    expect(files.locator(".strip li")).to_have_count(3)
    expect(page.get_by_role("heading", name="5 pictures in the index")).to_be_visible()
    expect(page.locator("#indexed")).to_contain_text("Third")
    expect(page.locator("#indexed")).to_contain_text("b.jpg")


def test_a_running_job_is_seen_moving_through_a_restart_of_the_server(
    settings: Settings, loop: Loop, browser: Browser, host: ImageHost
) -> None:
    urls = [host.add(f"{i}.png", png(i)) + ("?gate=1" if i > 2 else "") for i in range(6)]
    host.open.clear()
    page = browser.new_page()
    with (
        loop.entered(open_lookalike(settings, announce=lambda _: None)) as lookalike,
        loop.serving(create_app(lookalike)) as address,
    ):
        page.goto(f"{address}/index")
        page.locator("#urls").fill("\n".join(urls))
        page.get_by_role("button", name="Add to the index").click()
        job = page.locator(".job")
        expect(job.locator(".badge.indexed")).to_have_text("3 indexed")
        expect(job.locator(".strip img")).to_have_count(3)
        expect(job).to_contain_text("3 of 6")
        expect(job.get_by_role("button", name="Cancel")).to_be_visible()
    port = int(address.rsplit(":", 1)[1])
    with (
        loop.entered(open_lookalike(settings, announce=lambda _: None)) as lookalike,
        loop.serving(create_app(lookalike), port=port),
    ):
        host.open.set()
        # The same page, never reloaded.
        expect(job.locator(".badge.indexed")).to_have_text("6 indexed", timeout=20_000)
        expect(job).to_contain_text("done, 6 pictures")
        expect(page.get_by_role("heading", name="6 pictures in the index")).to_be_visible()
    page.close()


def test_a_job_is_cancelled_and_tried_again_with_its_buttons(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    host.open.clear()
    server.start([host.add(f"{i}.png", png(i)) + "?gate=1" for i in range(3)])
    page = new_page()
    page.goto("/index")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job .badge.cancelled")).to_have_text("3 cancelled")
    host.open.set()
    page.get_by_role("button", name="Try again what is missing").click()
    expect(page.locator(".job")).to_contain_text("done, 3 pictures")
    page.get_by_role("button", name="Remove from this list").click()
    expect(page.locator(".job")).to_have_count(0)
    expect(page.get_by_role("heading", name="3 pictures in the index")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_the_screen_and_can_be_read(
    indexed: Server, new_page: Callable[..., Page], width: int, scheme: str
) -> None:
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    [image] = indexed.client.get("/api/images?limit=1").json()["images"]
    for path in ("/", "/index", "/docs", f"/images/{image['id']}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c < 100)"
        )
        assert dark == (scheme == "dark")
    page.goto("/")
    page.set_input_files("#file", file(png(1)))
    expect(page.locator("#hits li")).not_to_have_count(0)
    page.get_by_text("Show the closest anyway").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
