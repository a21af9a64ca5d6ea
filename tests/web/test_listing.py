"""A search with filters only lists what passes; hits carry what is asked for."""

from collections.abc import Callable
from typing import Any

import pytest

from app.encoding.encoder import Encoder
from app.settings import Settings
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode, photo, png
from tests.statements import counting
from tests.web.test_problems import check

SIZES = [(64, 64), (90, 64), (64, 90), (128, 128), (64, 64), (90, 64), (300, 300)]


@pytest.fixture
def urls(server: Server, host: ImageHost) -> list[str]:
    """Images of several sizes, some of them equal, all with the tag `a` and every other with `b`.

    One at a time, so that each has a time of its own.
    """
    added: list[str] = []
    for number, size in enumerate(SIZES):
        data = encode(photo(number).resize(size))
        url = host.add(f"listed-{number}.png", data)
        server.upsert([{"url": url, "tags": ["a", "b"] if number % 2 else ["a"]}])
        added.append(url)
    server.upsert([{"url": host.url("seed/99.png"), "tags": ["other"]}])
    return added


def post(server: Server, **wanted: Any) -> dict[str, Any]:
    answer = server.client.post("/api/search", json=wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pages(server: Server, **wanted: Any) -> list[list[str]]:
    found, answer = [], post(server, **wanted)
    while True:
        found.append([hit["url"] for hit in answer["results"]])
        if answer["next"] is None:
            return found
        answer = post(server, cursor=answer["next"], limit=wanted["limit"])


def test_filters_alone_list_what_passes_newest_first(server: Server, urls: list[str]) -> None:
    answer = post(server, tags=["a"])
    assert [hit["url"] for hit in answer["results"]] == urls[::-1]
    assert (answer["next"], answer["min_similarity"], answer["notes"]) == (None, None, [])
    for hit in answer["results"]:
        assert (hit["similarity"], hit["match"], hit["matched"]) == (None, None, [])
    form = server.client.post("/api/search", data={"tags": ["a", "b"], "min_width": "90"})
    assert [hit["url"] for hit in form.json()["results"]] == [urls[5], urls[3], urls[1]]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("best", lambda urls: urls[::-1]),
        ("newest", lambda urls: urls[::-1]),
        ("oldest", lambda urls: urls),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_are_a_partition(
    server: Server, urls: list[str], sort: str, order: Callable[[list[str]], list[str]], limit: int
) -> None:
    found = pages(server, tags=["a"], sort=sort, limit=limit)
    assert [url for page in found for url in page] == order(urls)
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]


def test_the_biggest_first_with_equal_ones_on_several_pages(
    server: Server, urls: list[str]
) -> None:
    found = [url for page in pages(server, tags=["a"], sort="biggest", limit=2) for url in page]
    sizes = dict(zip(urls, SIZES, strict=True))
    areas = [sizes[url][0] * sizes[url][1] for url in found]
    assert areas == sorted(areas, reverse=True)
    assert sorted(found) == sorted(urls)


def test_a_list_misses_and_repeats_nothing_while_it_changes(
    server: Server, host: ImageHost, urls: list[str]
) -> None:
    first = post(server, tags=["a"], limit=3)
    server.client.delete(f"/api/images/{first['results'][-1]['id']}")
    server.upsert([{"url": host.url("seed/50.png"), "tags": ["a"]}])
    rest = post(server, cursor=first["next"], limit=100)
    assert [hit["url"] for hit in rest["results"]] == urls[::-1][3:]


def test_nothing_passes(server: Server, urls: list[str]) -> None:
    assert post(server, tags=["none"])["results"] == []


def test_neither_query_nor_filter_is_a_problem(server: Server) -> None:
    for wanted in ({}, {"sort": "newest"}, {"include": ["exif"]}):
        document = check(server.client.post("/api/search", json=wanted), 400)
        assert document["type"] == "/docs#no-picture"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("match", "copy"),
        ("thorough", True),
        ("diversity", 0.5),
        ("min_similarity", 0.5),
        ("sort", "changed"),
        ("crop", {"x": 0, "y": 0, "width": 1, "height": 1}),
    ],
)
def test_what_only_a_query_has_is_refused(server: Server, field: str, value: object) -> None:
    body = {"tags": ["a"], field: value}
    document = check(server.client.post("/api/search", json=body), 422)
    assert document["detail"].startswith(f"{field}:")


@pytest.mark.parametrize("cursor", ["list_", "list_AAAA", "list_eJyrVgIAAHsAew", "list_\x00é"])
def test_a_cursor_of_a_list_that_is_none(server: Server, cursor: str) -> None:
    document = check(server.client.post("/api/search", json={"cursor": cursor}), 422)
    assert "cursor" in document["detail"]


def test_hits_carry_what_is_included(server: Server, host: ImageHost) -> None:
    [outcome] = server.upsert([{"url": host.url("seed/1.png"), "metadata": {"price": 5}}])
    shown = server.client.get(f"/api/images/{outcome['id']}").json()
    fields = {
        "exif": ["exif", "taken_at", "camera", "location"],
        "hashes": ["sha256", "dhash"],
        "colours": ["colours"],
        "metadata": ["metadata"],
    }
    every = {name for names in fields.values() for name in names} - {"metadata"}
    for include, names in fields.items():
        [hit] = post(server, url=host.url("seed/1.png"), include=[include])["results"]
        assert {name: hit[name] for name in names} == {name: shown[name] for name in names}
        assert not (every - set(names)) & set(hit)
    # In a form, by commas or repeated; and on a next page, which says so itself.
    for include in ("exif,hashes", ["exif", "hashes"]):
        answer = server.client.post(
            "/api/search", files={"file": png(1)}, data={"include": include}
        )
        [hit] = answer.json()["results"]
        assert set(hit) & every == {*fields["exif"], *fields["hashes"]}


def test_included_on_a_next_page(server: Server, urls: list[str]) -> None:
    for first in (post(server, tags=["a"], limit=2), post(server, text="a", limit=2)):
        following = post(server, cursor=first["next"], limit=2, include=["hashes"])
        assert all(len(hit["sha256"]) == 64 for hit in following["results"])


def test_unknown_names_are_refused(server: Server) -> None:
    body = {"tags": ["a"], "include": ["exif", "smell"]}
    document = check(server.client.post("/api/search", json=body), 422)
    assert "include.1" in document["detail"]


def test_few_statements_however_much_is_included(
    settings: Settings, loop: Loop, encoder: Encoder, host: ImageHost
) -> None:
    with counting(settings, loop, encoder) as (server, statements):
        images = [{"url": host.url(f"seed/{n}.png"), "tags": ["a"]} for n in range(8)]
        ids = [outcome["id"] for outcome in server.upsert(images)]
        statements.clear()
        assert len(post(server, tags=["a"], limit=5, include=["exif", "hashes"])["results"]) == 5
        # The page, and its images.
        assert len(statements) == 2
        # The first search learns what the index is like.
        post(server, like=[ids[0]])
        counts: list[int] = []
        for include in ([], ["exif", "hashes", "colours", "metadata"]):
            statements.clear()
            assert len(post(server, like=[ids[0]], include=include)["results"]) == 7
            counts.append(len(statements))
        # The marked image's vector, the nearest, their images; and perhaps how many there are.
        assert counts[0] == counts[1] <= 4


@pytest.mark.parametrize("sort", ["newest", "oldest", "biggest", "smallest", "heaviest"])
def test_the_list_of_images_has_orders(server: Server, urls: list[str], sort: str) -> None:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        asked = {"sort": sort, "limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = server.client.get("/api/images", params=asked)
        assert answer.status_code == 200, answer.text
        found += answer.json()["images"]
        cursor = answer.json()["next"]
        if cursor is None:
            break
    assert len({image["id"] for image in found}) == len(found) == len(SIZES) + 1

    def place(image: dict[str, Any]) -> int:
        return urls.index(image["url"]) if image["url"] in urls else len(urls)

    keys: dict[str, Callable[[dict[str, Any]], Any]] = {
        "newest": lambda image: -place(image),
        "oldest": place,
        "biggest": lambda image: -image["width"] * image["height"],
        "smallest": lambda image: image["width"] * image["height"],
        "heaviest": lambda image: -image["bytes"],
    }
    values = [keys[sort](image) for image in found]
    assert values == sorted(values)
    other = "biggest" if sort in ("newest", "oldest") else "newest"
    first = server.client.get("/api/images", params={"sort": sort, "limit": 1}).json()["next"]
    check(server.client.get("/api/images", params={"sort": other, "cursor": first}), 422)
