"""What a title, tag or file name is found by, as it is typed at the API."""

import unicodedata
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import png

TITLES = [
    "t-shirt",
    "Spider-Man",
    "AC/DC",
    "2019-05-06",
    "The Who",
    "to be or not to be",
    unicodedata.normalize("NFD", "Café Zürich"),
    "日本語",
    "C++ 🦜",
    "me@example.org",
    "0:30",
    "2001: A Space Odyssey",
    UUID(int=2**127 + 5).hex,
    "...",
]
FOUND = {
    "t-shirt": 0,
    "T-Shirts": 0,
    "spider-man": 1,
    "spider man": 1,
    "AC/DC": 2,
    "ac dc": 2,
    "2019-05-06": 3,
    "2019": 3,
    "The Who": 4,
    "to be or not to be": 5,
    '"to be or not to be"': 5,
    "zürich": 6,
    "zurich": 6,
    "本語": 7,
    "C++": 8,
    "🦜": 8,
    "me@example.org": 9,
    "0:30": 10,
    "2001: A Space Odyssey": 11,
    TITLES[12]: 12,
    "plain-name": 2,
    "Plain-Name 2.png": 2,
    "münchen": 3,
    "straße-4.png": 4,
    "strasse": 4,
    "%E6%9D%B1%E4%BA%AC-5.png": 5,
    "東": 5,
}
NAMES = {2: "plain-name 2", 3: "München 3", 4: "straße-4", 5: "東京-5"}


def ask(server: Server, **fields: Any) -> httpx.Response:
    return server.client.post("/api/search", json={"limit": 100, **fields})


def by_words(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["results"] if "text" in hit["matched"]]


def indexed(server: Server, host: ImageHost) -> list[str]:
    given: list[dict[str, str]] = []
    for number, title in enumerate(TITLES):
        name = f"{NAMES.get(number, number)}.png"
        host.add(name, png(number))
        given.append({"url": host.url(f"pictures/{quote(name)}"), "title": title})
    return [outcome["id"] for outcome in server.upsert(given)]


def test_what_is_stored_is_found_as_it_is_typed(server: Server, host: ImageHost) -> None:
    ids = indexed(server, host)
    for text, number in FOUND.items():
        assert ids[number] in by_words(ask(server, text=text)), text
    for text in ("...", "!?", "'", "-"):
        assert by_words(ask(server, text=text)) == []
    assert by_words(ask(server, text="name -plain")) == []
    assert by_words(ask(server, text='"name plain"')) == []


def test_words_follow_what_is_changed(server: Server, host: ImageHost) -> None:
    url = host.add("a.png", png(1))
    [image_id] = [outcome["id"] for outcome in server.upsert([url])]
    path = f"/api/images/{image_id}"
    for title, words in (("First-Title", "title first"), ("Second/Titles", "second/title")):
        assert server.client.patch(path, json={"title": title, "tags": ["x-1"]}).status_code == 200
        assert by_words(ask(server, text=words)) == [image_id]
    assert by_words(ask(server, text="first")) == []
    assert by_words(ask(server, text="x-1")) == [image_id]
    server.upsert([{"url": url, "title": "Third", "tags": []}])
    assert by_words(ask(server, text="third")) == [image_id]
    assert by_words(ask(server, text="x-1")) == []


LONG = "thousands of words " * 526


@pytest.mark.parametrize(
    "query",
    [
        {"text": LONG},
        {"text": f'"{LONG[:9990]}"'},
        {"text": "a-" * 5000},
        {"text": "-a " * 3333},
        {"text": "or " * 3333},
        {"text": '"' * 9999},
        {"text": '-"' * 5000},
        {"text": "(" * 10_000},
        {"text": "日本語" * 3333},
        {"text": "❤" * 10_000},
        {"text": "x" * 10_000},
        {"text": "\N{COMBINING ACUTE ACCENT}" * 10_000},
        {"query": [{"text": f"{n} {LONG}"[:600]} for n in range(16)]},
        {"query": [{"text": f"{n} {LONG}"[:600], "weight": (-1) ** n} for n in range(16)]},
    ],
    ids=range(14),
)
def test_a_query_of_any_length_is_answered(
    server: Server, host: ImageHost, query: dict[str, Any]
) -> None:
    server.upsert([{"url": host.add("a.png", png(1)), "title": LONG[:1000]}])
    answer = ask(server, **query)
    assert answer.status_code < 500, answer.text
    assert answer.status_code == 200 or answer.json()["detail"]
