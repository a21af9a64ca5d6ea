"""Fixtures for tests in a real browser, loaded by conftest.py."""

from collections.abc import Callable, Generator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser_setup import installed
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import encode, photo

# No requests but those of the page itself; and no sandbox, which root in a container cannot use.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    # On a busy machine, five seconds are short.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Browser, server: Server) -> Generator[Callable[..., Page]]:
    """A function that opens pages, which must log no errors and request nothing from elsewhere."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []
    origins: set[str] = set()
    addresses: list[str] = []

    def new_page(at: Server = server, **options: Any) -> Page:
        addresses.append(at.address)
        context = browser.new_context(base_url=at.address, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: errors.append(message.text) if message.type == "error" else None,
        )
        page.on("request", lambda request: origins.add(request.url))
        return page

    yield new_page
    for context in contexts:
        context.close()
    expected = "the server responded with a status of 4"
    assert [message for message in errors if expected not in message] == []
    others = [url for url in origins if not url.startswith((*addresses, "data:", "blob:"))]
    assert others == []


@pytest.fixture
def indexed(server: Server, host: ImageHost) -> Server:
    """Six images, and a blurred copy of the second."""
    blurred = encode(photo(1).resize((40, 40)).resize((256, 256)), "JPEG")
    server.upsert([host.url(f"seed/{seed}.png") for seed in range(6)])
    server.upsert([host.add("blurred.jpg", blurred)])
    return server


def file(data: bytes, name: str = "query.jpg") -> Any:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}
