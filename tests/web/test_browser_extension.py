"""The browser extension in a real browser, against a real server."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, Worker, expect, sync_playwright

from tests.browser import FLAGS
from tests.browser_setup import installed
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import png

EXTENSION = Path(__file__).parents[2] / "extension"
# What Chrome does when an entry is chosen in the menu of an image.
CHOOSE = """async ([entry, srcUrl, inTab]) => {
  const [tab] = inTab ? await chrome.tabs.query({ index: 0 }) : [];
  chrome.contextMenus.onClicked.dispatch({ menuItemId: entry, srcUrl, frameId: 0 }, tab);
}"""


class Browser:
    """A browser with the extension, whose options name the server."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.context = context
        waiting = context.service_workers or [context.wait_for_event("serviceworker")]
        self.worker: Worker = waiting[0]
        self.page = context.pages[0]
        self.set_server(server.address)

    def url(self, path: str) -> str:
        return self.worker.url.replace("background.js", path)

    def set_server(self, address: str) -> None:
        self.worker.evaluate("server => chrome.storage.sync.set({ server })", address)

    def choose(self, entry: str, image: str, *, in_tab: bool = True) -> Page:
        """Choose an entry of an image's menu; return the tab that it opens."""
        with self.context.expect_page() as opened:
            self.worker.evaluate(CHOOSE, [entry, image, in_tab])
        opened.value.set_default_timeout(30_000)
        return opened.value


@pytest.fixture
def browser_with(server: Server, tmp_path: Path) -> Generator[Callable[..., Browser]]:
    """A function that starts a browser with the extension, as after some hosts were allowed."""
    expect.set_options(timeout=30_000)
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())

        def start(*allowed: str) -> Browser:
            folder = copytree(EXTENSION, tmp_path / "extension")
            manifest = json.loads((folder / "manifest.json").read_text())
            manifest["host_permissions"] = list(allowed)
            (folder / "manifest.json").write_text(json.dumps(manifest))
            context = playwright.chromium.launch_persistent_context(
                tmp_path / "profile",
                executable_path=installed(),
                headless=True,
                ignore_default_args=["--disable-extensions", "--headless"],
                args=[
                    *FLAGS,
                    "--headless=new",
                    f"--disable-extensions-except={folder}",
                    f"--load-extension={folder}",
                ],
            )
            stack.callback(context.close)
            return Browser(context, server)

        yield start


def data_url(seed: int) -> str:
    return f"data:image/png;base64,{b64encode(png(seed)).decode()}"


def test_an_image_is_searched_by_its_url(
    server: Server, host: ImageHost, browser_with: Callable[..., Browser]
) -> None:
    server.upsert([host.url("seed/1.png")])
    browser = browser_with()
    browser.page.goto(host.url("html"))
    found = browser.choose("search", host.url("seed/1.png?a=1&b=ä"))
    expect(found.locator("#hits .badge.exact")).to_be_visible()
    assert f"{server.address}/?url=" in found.url
    assert quote("a=1&b=", safe="") in found.url
    # An image in a panel beside the tabs.
    found = browser.choose("search", host.url("seed/1.png"), in_tab=False)
    expect(found.locator("#hits .badge.exact")).to_be_visible()
    # The server fetches from the web only: this is sent, though "search" was chosen.
    found = browser.choose("search", data_url(1))
    expect(found).to_have_url(re.compile(r"/\?upload="))
    expect(found.locator("#hits .badge.exact")).to_be_visible()


def test_the_image_itself_is_sent_where_the_browser_may_read_it(
    server: Server, host: ImageHost, browser_with: Callable[..., Browser]
) -> None:
    server.upsert([host.url("seed/1.png"), host.url("seed/2.png")])
    browser = browser_with("http://127.0.0.1/*")
    browser.page.goto(host.url("html"))
    made: str = browser.page.evaluate(
        "async url => URL.createObjectURL(await (await fetch(url)).blob())", data_url(2)
    )
    # One that the page made itself, and one that the server could not fetch.
    for image, seed in ((made, 2), (host.url("seed/1.png"), 1)):
        found = browser.choose("send", image)
        expect(found).to_have_url(re.compile(r"/\?upload="))
        best = found.locator("#hits li").first
        expect(best.locator(".badge.exact")).to_be_visible()
        expect(best.locator("img")).to_have_attribute("alt", f"{seed}.png")
    assert browser.worker.evaluate("chrome.storage.session.get()") == {}
    # A page in place of an image is not sent.
    refused = browser.choose("send", host.url("html"))
    expect(refused.get_by_role("status")).to_contain_text("The image cannot be read")
    expect(refused.get_by_role("button")).to_be_hidden()


def test_permission_is_asked_for_the_host_of_the_image_alone(
    server: Server, host: ImageHost, browser_with: Callable[..., Browser]
) -> None:
    manifest = json.loads((EXTENSION / "manifest.json").read_text())
    assert "host_permissions" not in manifest
    browser = browser_with()
    browser.page.goto(host.url("html"))
    asking = browser.choose("send", host.url("seed/1.png"))
    expect(asking.get_by_role("status")).to_contain_text("May the extension read images there?")
    asking.evaluate(
        """() => {
          window.asked = [];
          chrome.permissions.request = async (wanted) => window.asked.push(wanted) && false;
        }"""
    )
    asking.get_by_role("button", name="Allow 127.0.0.1").click()
    asked: Any = asking.evaluate("window.asked")
    assert asked == [{"origins": ["http://127.0.0.1/*"]}]
    # Without what the menu left for it, the page says what to do.
    asking.goto(browser.url("send.html"))
    expect(asking.get_by_role("status")).to_contain_text("in the menu of an image")


def test_the_options_take_only_the_address_of_a_server(
    server: Server, host: ImageHost, browser_with: Callable[..., Browser]
) -> None:
    browser = browser_with()
    page = browser.page
    page.goto(browser.url("options.html"))
    field = page.get_by_label("Address of your Lookalike server")
    said = page.get_by_role("status")
    expect(field).to_have_value(server.address)
    for wrong, reason in (
        ("", "not an address"),
        ("http://", "not an address"),
        ("ftp://example.com", "begin with http"),
        ("javascript:alert(1)", "not an address"),
        ("http://me:secret@example.com", "user name and password"),
        ("http://example.com/?q=1", "without ? or #"),
    ):
        field.fill(wrong)
        page.get_by_role("button", name="Save").click()
        expect(said).to_contain_text(reason)
        expect(field).to_have_attribute("aria-invalid", "true")
    field.fill(f" {server.address.removeprefix('http://')}/ ")
    page.keyboard.press("Enter")
    expect(said).to_contain_text("Saved")
    expect(said.get_by_role("link")).to_have_attribute("href", server.address)
    expect(field).to_have_value(server.address)
    field.fill("http://127.0.0.1:1/below/")
    page.keyboard.press("Enter")
    expect(said).to_contain_text("Saved")
    page.goto(host.url("html"))
    opened = browser.choose("search", host.url("seed/1.png"))
    opened.wait_for_url(re.compile(r"^(http://127.0.0.1:1/below/\?url=|chrome-error:)"))
