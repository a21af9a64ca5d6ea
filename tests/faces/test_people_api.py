"""People over HTTP: listed, named, merged, split, shown; and who may."""

from typing import Any

import pytest
from PIL import Image, ImageOps
from pydantic import SecretStr

from app.store.keys import ApiKeys
from tests.conftest import Server
from tests.faces.conftest import Opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import encode


@pytest.fixture
def album(host: ImageHost, astronaut: Image.Image) -> list[str]:
    """Three photos of one person."""
    photos = [astronaut, ImageOps.mirror(astronaut), ImageOps.expand(astronaut, 20)]
    return [host.add(f"{number}.png", encode(photo)) for number, photo in enumerate(photos)]


def people(server: Server, **asked: Any) -> list[dict[str, Any]]:
    answer = server.client.get("/api/people", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["people"]


def test_people_are_listed_named_split_and_merged(server_with: Opened, album: list[str]) -> None:
    with server_with(faces="vectors") as server:
        client = server.client
        ids = [image["id"] for image in server.upsert(album)]
        [person] = people(server)
        assert (person["name"], person["faces"], person["images"]) == ("", 3, 3)
        assert person["cover"]["id"] in ids
        path = f"/api/people/{person['id']}"
        named = client.patch(path, json={"name": " Eileen "}).json()
        assert named["name"] == "Eileen"
        assert people(server, q="EIL") == [named]
        assert people(server, q="x") == []
        assert client.get("/api/people?q=x").json()["total"] == 0

        chosen = {"faces": [{"id": ids[0], "order": 0}]}
        other = client.post(f"{path}/split", json=chosen | {"name": "Bo"}).json()
        assert (other["name"], other["faces"]) == ("Bo", 1)
        assert client.post(f"{path}/split", json=chosen).status_code == 404
        assert [p["faces"] for p in people(server)] == [2, 1]
        # A page each.
        first = client.get("/api/people?limit=1").json()
        second = client.get("/api/people", params={"limit": 1, "cursor": first["next"]}).json()
        assert [first["people"][0]["name"], second["people"][0]["name"]] == ["Eileen", "Bo"]
        assert (first["total"], second["next"]) == (2, None)

        merged = client.post(f"{path}/merge", json={"others": [other["id"]]}).json()
        assert (merged["name"], merged["faces"]) == ("Eileen", 3)
        assert client.get(f"/api/people/{other['id']}").status_code == 404
        assert client.post(f"{path}/merge", json={"others": [other["id"]]}).status_code == 404

        assert client.post(f"{path}/remove", json=chosen).status_code == 204
        shown = client.get(path).json()
        assert sorted(face["id"] for face in shown["shown"]) == sorted(ids[1:])
        one = client.get(f"{path}?limit=1").json()
        two = client.get(path, params={"limit": 1, "cursor": one["next"]}).json()
        assert [face["id"] for face in one["shown"] + two["shown"]] == sorted(ids[1:])
        assert people(server)[0]["faces"] == 2

        assert client.delete(path).status_code == 204
        assert client.delete(path).status_code == 404
        assert people(server) == []


def test_the_pages_do_the_same(server_with: Opened, album: list[str]) -> None:
    with server_with(faces="vectors") as server:
        client = server.client
        ids = [image["id"] for image in server.upsert(album)]
        [person] = people(server)
        page = client.get("/people")
        assert page.status_code == 200
        assert f'href="/people/{person["id"]}"' in page.text
        path = f"/people/{person['id']}"
        client.post(path, data={"action": "rename", "name": "Eileen"})
        assert "Eileen" in client.get(path).text
        done = client.post(path, data={"action": "split", "face": f"{ids[0]}:0"})
        assert done.status_code == 303
        other = done.headers["location"].rpartition("/")[2]
        assert client.post("/people", data={"person": [person["id"]]}).status_code == 422
        done = client.post("/people", data={"person": [person["id"], other]})
        assert done.headers["location"] == path
        client.post(path, data={"action": "remove", "face": [f"{ids[0]}:0", f"{ids[1]}:0"]})
        assert people(server)[0]["faces"] == 1
        # A button that there is not does nothing.
        [left] = client.get(f"/api{path}").json()["shown"]
        chosen = {"face": f"{left['id']}:{left['order']}"}
        for action in ({}, {"action": "other"}):
            assert client.post(path, data=action | chosen).status_code == 422
        assert people(server)[0]["faces"] == 1
        assert client.post(path, data={"action": "forget"}).headers["location"] == "/people"
        assert people(server) == []


def test_boxes_are_shown_on_the_page_of_an_image(server_with: Opened, portrait: str) -> None:
    with server_with(faces="vectors") as server:
        [image] = server.upsert([portrait])
        for path in (f"/images/{image['id']}", f"/images/{image['id']}?part=lightbox"):
            page = server.client.get(path).text
            assert f'href="/?face={image["id"]}:0"' in page
        page = server.client.get(f"/?face={image['id']}:0")
        assert page.status_code == 200
    with server_with(faces="boxes") as server:
        page = server.client.get(f"/images/{image['id']}").text
        assert 'class="faces"' in page
        assert "/?face=" not in page
        assert 'href="/people"' not in page
        assert server.client.get("/people").status_code == 404
        assert server.client.get("/api/people").status_code == 422


def test_without_faces_nothing_of_them_is_shown(server_with: Opened, portrait: str) -> None:
    with server_with(faces="vectors") as server:
        [image] = server.upsert([portrait])
    with server_with() as server:
        for path in ("/", "/index", f"/images/{image['id']}", f"/?show={image['id']}"):
            page = server.client.get(path)
            assert page.status_code == 200
            assert "face" not in page.text.replace("interface", "").lower()
            assert "/people" not in page.text
        assert server.client.get("/people").status_code == 404
        assert server.client.get("/api/people").status_code == 403


def test_who_may_see_and_change_people(server_with: Opened, loop: Loop, album: list[str]) -> None:
    with server_with(faces="vectors", api_keys=(SecretStr("k" * 40),)) as server:
        client = server.client
        keys = ApiKeys(server.lookalike.database)
        secrets = {
            name: loop.run(keys.add(name, scopes))[1]
            for name, scopes in (
                ("reads", ["read", "faces"]),
                ("writes", ["write"]),
                ("both", ["write", "faces"]),
            )
        }
        client.headers["authorization"] = f"Bearer {secrets['both']}"
        server.upsert(album)
        [person] = people(server)
        path = f"/api/people/{person['id']}"
        statuses = {}
        for name, secret in secrets.items():
            client.headers["authorization"] = f"Bearer {secret}"
            statuses[name] = [
                client.get("/api/people").status_code,
                client.get(f"/people/{person['id']}").status_code,
                client.patch(path, json={"name": name}).status_code,
                client.post("/people", data={"person": ["a"]}).status_code,
            ]
        assert statuses == {
            "reads": [200, 200, 403, 403],
            "writes": [403, 403, 403, 403],
            "both": [200, 200, 200, 422],
        }
