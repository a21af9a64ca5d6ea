"""Groups of duplicates, resolved over HTTP and on the page."""

from uuid import uuid4

import pytest

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import altered, png
from tests.web.test_trash import listed


@pytest.fixture
def ids(server: Server, host: ImageHost) -> list[str]:
    small = {"url": host.add("small.jpg", altered(png(1))), "title": "Leaves", "tags": ["green"]}
    return [r["id"] for r in server.upsert([small, host.add("large.png", png(1))])]


def test_the_best_is_kept_and_gets_what_the_others_say(server: Server, ids: list[str]) -> None:
    found = server.client.get("/api/duplicates").json()
    assert found["best"] == ids[1:]
    keep = {"keep": ids[1], "others": ids, "merge": True}
    assert server.client.post("/api/duplicates/keep", json=keep).json() == {"trashed": 1}
    assert listed(server) == ids[:1]
    image = server.client.get(f"/api/images/{ids[1]}").json()
    assert (image["title"], image["tags"]) == ("Leaves", ["green"])
    assert server.client.get("/api/duplicates").json()["groups"] == []
    server.client.post("/api/trash/restore", json={"all": True})
    assert len(server.client.get("/api/duplicates").json()["groups"]) == 1


def test_nothing_goes_without_the_image_to_keep(server: Server, ids: list[str]) -> None:
    keep = {"keep": str(uuid4()), "others": ids}
    assert server.client.post("/api/duplicates/keep", json=keep).status_code == 404
    assert server.client.post("/api/duplicates/keep", json={"keep": ids[0]}).status_code == 422
    assert listed(server) == []


def test_what_is_denied_can_be_allowed_again(server: Server, ids: list[str]) -> None:
    client = server.client
    assert client.post("/api/duplicates/deny", json={"ids": ids}).json() == {"images": 2}
    assert client.get("/api/duplicates").json()["groups"] == []
    client.post("/api/duplicates/deny", json={"ids": ids, "undo": True})
    assert len(client.get("/api/duplicates").json()["groups"]) == 1


def test_the_page_resolves_groups(server: Server, ids: list[str]) -> None:
    client = server.client
    page = client.get("/duplicates").text
    assert f'value="{ids[1]}" checked' in page
    form = {"ids": ",".join(ids), "keep": ids[1], "action": "keep"}
    assert client.post("/duplicates", data=form).headers["location"] == "/trash"
    assert listed(server) == ids[:1]
    client.post("/trash", data={"all": "true", "action": "restore"})
    answer = client.post("/duplicates", data={"ids": ",".join(ids), "action": "deny"})
    assert answer.status_code == 303
    assert "No duplicates found" in client.get("/duplicates").text
    assert client.post("/duplicates", data={"action": "keep"}).status_code == 422
