"""The pages in a real browser, used as a person would."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.lookalike import Lookalike, open_lookalike
from app.settings import Settings
from app.web.server import create_app
from tests.browser import file
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import altered, png


def test_a_stopped_server_is_reported(lookalike: Lookalike, loop: Loop, browser: Browser) -> None:
    page = browser.new_page()
    with loop.serving(create_app(lookalike)) as address:
        page.goto(address)
    page.set_input_files("#file", file(png(1)))
    expect(page.get_by_role("alert")).to_contain_text("is not responding")
    page.close()


def test_the_pages_work_without_javascript(
    indexed: Server, new_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/")
    page.set_input_files("#file", file(altered(png(1))))
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#hits li").first.locator(".badge")).to_have_text("Same image")
    expect(page.locator("#preview img")).to_be_visible()
    page.get_by_role("link", name="Add", exact=True).click()
    page.set_input_files("#files", [file(png(70), "new.png"), file(b"words", "words.png")])
    page.get_by_role("button", name="Add to index").click()
    # The page reloads itself while a job runs.
    expect(page.locator(".job .badge.indexed")).to_have_text("1 indexed")
    expect(page.locator(".job .failures .reason")).to_contain_text("not an image")
    expect(page.get_by_role("link", name="8 images in the index")).to_be_visible()
    page.locator(".job summary").click()
    page.get_by_role("button", name="Remove from list").click()
    expect(page.locator(".job")).to_have_count(0)


def test_indexing_shows_the_outcome_of_each_image(
    server: Server, new_page: Callable[..., Page], host: ImageHost, tmp_path: Path
) -> None:
    folder = tmp_path / "holidays"
    (folder / "sea").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(11))
    (folder / "sea" / "b.jpg").write_bytes(altered(png(12)))
    (folder / "notes.txt").write_text("not sent")
    page = new_page()
    page.goto("/add")
    page.locator("#urls").fill(f"{host.url('seed/1.png')}\n{host.url('status/404')}")
    listed = file(f"url,title\n{host.url('seed/3.png')},Third\n".encode(), "list.csv")
    page.set_input_files("#files", [file(png(2), "c.png"), listed])
    page.set_input_files("#folder", folder)
    page.get_by_role("button", name="Add to index").click()
    files = page.locator(".job", has_text="Uploads")
    urls = page.locator(".job", has_text="2 URLs")
    expect(files.locator(".badge.indexed")).to_have_text("3 indexed")
    expect(urls.locator(".badge.indexed")).to_have_text("2 indexed")
    expect(urls.locator(".badge.failed")).to_have_text("1 failed")
    expect(urls.locator(".failures")).to_contain_text("answers 404")
    expect(files.locator(".strip li")).to_have_count(3)
    page.get_by_role("link", name="5 images in the index").click()
    expect(page.locator("#indexed")).to_contain_text("Third")
    expect(page.locator("#indexed")).to_contain_text("b.jpg")


def test_a_running_job_is_followed_through_a_restart_of_the_server(
    settings: Settings, loop: Loop, browser: Browser, host: ImageHost
) -> None:
    urls = [host.add(f"{i}.png", png(i)) + ("?gate=1" if i > 2 else "") for i in range(6)]
    host.open.clear()
    page = browser.new_page()
    with (
        loop.entered(open_lookalike(settings, announce=lambda _: None)) as lookalike,
        loop.serving(create_app(lookalike)) as address,
    ):
        page.goto(f"{address}/add")
        page.locator("#urls").fill("\n".join(urls))
        page.get_by_role("button", name="Add to index").click()
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
        # The same page, not reloaded.
        expect(job.locator(".badge.indexed")).to_have_text("6 indexed", timeout=20_000)
        expect(job).to_contain_text("done, 6 images")
        expect(page.get_by_role("link", name="6 images in the index")).to_be_visible()
    page.close()


def test_a_job_is_cancelled_and_retried_with_its_buttons(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    host.open.clear()
    server.start([host.add(f"{i}.png", png(i)) + "?gate=1" for i in range(3)])
    page = new_page()
    page.goto("/add")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job .badge.cancelled")).to_have_text("3 cancelled")
    host.open.set()
    page.locator(".job summary").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".job")).to_contain_text("done, 3 images")
    page.get_by_role("button", name="Remove from list").click()
    expect(page.locator(".job")).to_have_count(0)
    expect(page.get_by_role("link", name="3 images in the index")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_the_screen_and_follow_the_colour_scheme(
    indexed: Server, new_page: Callable[..., Page], width: int, scheme: str
) -> None:
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    [image] = indexed.client.get("/api/images?limit=1").json()["images"]
    for path in (
        "/",
        "/?panel=filters",
        "/index",
        "/index?moved=7f2c9a51-5d0e-4b8e-9a53-0d8e3c1f6b11",
        "/add",
        "/trash",
        "/duplicates",
        "/docs",
        f"/images/{image['id']}",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c < 100)"
        )
        assert dark == (scheme == "dark")
    page.goto("/")
    page.set_input_files("#file", file(png(1)))
    expect(page.locator("#hits li")).not_to_have_count(0)
    expect(page.locator("#below li")).not_to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
