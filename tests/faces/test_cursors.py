"""Cursors of every list, those of people too: each continues its own list and no other one."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import httpx

from tests.faces.conftest import Opened
from tests.faces.test_people import Photos, of_person
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import png

SORTS = ("newest", "oldest", "biggest", "smallest", "heaviest")


@dataclass
class Listed:
    """A list over HTTP, and the field of its answers that has its members."""

    name: str
    path: str
    members: str
    asks: dict[str, Any] = field(default_factory=dict[str, Any])
    posts: bool = False

    def page(self, client: httpx.Client, cursor: str | None = None) -> httpx.Response:
        if self.posts:
            # A cursor has what was asked in it.
            body = {"cursor": cursor} if cursor else self.asks
            return client.post(self.path, json={"limit": 1} | body)
        query = {"limit": 1} | self.asks | ({"cursor": cursor} if cursor else {})
        return client.get(self.path, params=query)

    def ids(self, answer: httpx.Response) -> list[str]:
        assert answer.status_code == 200, (self.name, answer.text)
        # A group has no id; it is a list of images.
        found: list[Any] = answer.json()[self.members]
        return [str(one["id"] if isinstance(one, dict) else one) for one in found]


def test_a_cursor_continues_its_own_list_and_is_refused_by_every_other(
    server_with: Opened, host: ImageHost, loop: Loop
) -> None:
    with server_with(faces="vectors") as server:
        client = server.client
        urls = [host.add(f"{n}{twin}.png", png(n)) for n, twin in product(range(5), "ab")]
        images = server.upsert([{"url": url, "tags": ["all"]} for url in urls])
        for image in images[-2:]:
            client.delete(f"/api/images/{image['id']}?trash=true")
        photos = Photos(server.lookalike, loop)
        for n in range(4):
            photos.add([of_person(1, n), of_person(2, n)])
        people = [person["id"] for person in client.get("/api/people").json()["people"]]
        like = {"like": [images[0]["id"]]}
        lists = [
            *(Listed(f"images {sort}", "/api/images", "images", {"sort": sort}) for sort in SORTS),
            Listed("trash", "/api/trash", "images"),
            Listed("people", "/api/people", "people"),
            *(Listed(f"faces {n}", f"/api/people/{p}", "shown") for n, p in enumerate(people)),
            Listed("duplicates", "/api/duplicates", "groups"),
            *(
                Listed(
                    f"{sort} that pass",
                    "/api/search",
                    "results",
                    {"tags": ["all"], "sort": sort},
                    posts=True,
                )
                for sort in SORTS[:3]
            ),
            Listed("similar", "/api/search", "results", like | {"min_similarity": -1}, posts=True),
        ]
        cursors: dict[str, str] = {}
        for one in lists:
            first = one.page(client)
            cursors[one.name] = first.json()["next"]
            second = one.page(client, cursors[one.name])
            assert one.ids(second) != one.ids(first), one.name
        for one, (name, cursor) in product(lists, cursors.items()):
            # Of a search, a cursor is the whole query: what is asked beside it does not count.
            is_own = one.name == name or (one.posts and name in [o.name for o in lists if o.posts])
            answer = one.page(client, cursor)
            assert answer.status_code == (200 if is_own else 422), (one.name, name, answer.text)
            if not is_own:
                assert answer.json()["type"] == "/docs#invalid-request"
                assert "cursor" in answer.json()["detail"]
