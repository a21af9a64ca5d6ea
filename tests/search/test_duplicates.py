"""Duplicates within the index, and one file at several URLs."""

from typing import Any

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, png


def groups_of(server: Server, **query: Any) -> list[set[str]]:
    """The URLs of every group, over all pages."""
    found: list[set[str]] = []
    cursor: str | None = None
    while True:
        given = {"cursor": cursor} if cursor else {}
        answer = server.client.get("/api/duplicates", params={**query, **given})
        assert answer.status_code == 200, answer.text
        found += [{hit["url"] for hit in group} for group in answer.json()["groups"]]
        cursor = answer.json()["next"]
        if cursor is None:
            return found


def test_duplicates_are_found_in_groups(server: Server, host: ImageHost) -> None:
    same = [host.add(name, png(1)) for name in ("a.png", "b.png", "c.png")]
    near = [host.add("d.png", png(2)), host.add("e.jpg", altered(png(2)))]
    server.upsert([*same, *near, host.url("seed/3.png"), host.url("seed/4.png")])
    found = groups_of(server)
    assert sorted(found, key=len) == [set(near), set(same)]
    assert sorted(groups_of(server, limit=1), key=len) == sorted(found, key=len)
    assert groups_of(server, min_similarity=1, max_bits=0) == [set(same)]
    [group] = server.client.get("/api/duplicates?min_similarity=1&max_bits=0").json()["groups"]
    assert [hit["match"] for hit in group] == [None, "exact", "exact"]


def test_the_duplicates_page_shows_groups_and_errors(server: Server, host: ImageHost) -> None:
    assert "No duplicates found" in server.client.get("/duplicates").text
    server.upsert([host.add("a.png", png(1)), host.add("b.jpg", altered(png(1)))])
    assert "2 images" in server.client.get("/duplicates").text
    answer = server.client.get("/duplicates?min_similarity=7")
    assert answer.status_code == 422
    assert "min_similarity" in answer.text
    assert server.client.get("/api/duplicates?max_bits=99").status_code == 422


def test_one_file_at_several_urls_is_one_result(server: Server, host: ImageHost) -> None:
    places = [host.add(f"{i}.png", png(1)) for i in range(30)]
    server.upsert([*places, host.url("seed/2.png"), host.url("seed/3.png")])
    assert server.lookalike.encoder.images.items == 3
    first, *others = server.search(png(1), limit=3, min_similarity=-1)
    assert {first["url"], *(place["url"] for place in first["places"])} == set(places)
    assert {hit["url"] for hit in others} == {host.url("seed/2.png"), host.url("seed/3.png")}
    # The guide's query returns URLs, and so all of them.
    assert set(server.query(png(1))) == set(places)
    image = server.client.get(f"/images/{first['id']}")
    assert "Same file:" in image.text
