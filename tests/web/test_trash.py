"""The trash over HTTP, on its page and on the command line."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from app.cli.main import cli
from tests.conftest import Server
from tests.image_host import ImageHost


@pytest.fixture
def ids(server: Server, host: ImageHost) -> list[str]:
    return [r["id"] for r in server.upsert([host.url(f"seed/{n}.png") for n in range(4)])]


def listed(server: Server, path: str = "/api/trash", **query: Any) -> list[str]:
    """The ids of a list, over all pages."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        answer = server.client.get(path, params=query | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        found += [image["id"] for image in answer.json()["images"]]
        cursor = answer.json()["next"]
        if cursor is None:
            return found


def test_deleting_is_final_unless_to_the_trash(server: Server, ids: list[str]) -> None:
    client = server.client
    assert client.delete(f"/api/images/{ids[0]}").status_code == 204
    assert client.delete(f"/api/images/{ids[1]}?trash=true").status_code == 204
    assert client.delete(f"/api/images/{ids[1]}?trash=true").status_code == 404
    assert client.delete("/api/images?trash=true").status_code == 422
    answer = client.delete("/api/images", params={"ids": ",".join(ids[2:]), "trash": "true"})
    assert answer.json() == {"deleted": 2}
    assert sorted(listed(server)) == sorted(listed(server, limit=1)) == sorted(ids[1:])
    assert listed(server, "/api/images") == []
    for path in (f"/api/images/{ids[1]}", f"/images/{ids[1]}", f"/images/{ids[1]}/thumbnail"):
        assert client.get(path).status_code == 404
    [image] = client.get("/api/trash?limit=1").json()["images"]
    assert client.get(image["thumbnail"]).headers["content-type"] == "image/jpeg"
    assert image["deleted_at"] > image["trashed_at"]
    answer = client.post("/api/trash/restore", json={"ids": ids[:2]})
    assert answer.json() == {"restored": 1}
    assert listed(server, "/api/images") == [ids[1]]
    assert client.delete(f"/api/trash?ids={ids[0]},{ids[2]}").json() == {"deleted": 1}
    assert client.post("/api/trash/restore", json={"all": True}).json() == {"restored": 1}
    assert sorted(listed(server, "/api/images")) == sorted([ids[1], ids[3]])


def test_what_of_the_trash_must_be_said(server: Server, ids: list[str]) -> None:
    server.client.delete(f"/api/images/{ids[0]}?trash=true")
    for body in ({}, {"ids": ids, "all": True}, {"ids": ["x"]}, {"every": True}):
        assert server.client.post("/api/trash/restore", json=body).status_code == 422
    for query in ("", "?all=false", "?ids=x", f"?ids={ids[0]}&all=true"):
        assert server.client.delete(f"/api/trash{query}").status_code == 422
    assert server.client.get("/api/trash?cursor=x").status_code == 422
    assert listed(server) == ids[:1]


def test_the_pages_move_to_the_trash_and_back(server: Server, ids: list[str]) -> None:
    assert "The trash is empty" in server.client.get("/trash").text
    answer = server.client.post(f"/images/{ids[0]}", data={"delete": "trash"})
    location = answer.headers["location"]
    assert "1 image moved to the" in server.client.get(location).text
    moved = parse_qs(urlsplit(location).query)["moved"][0]
    assert server.client.post("/trash", data={"moved": moved}).headers["location"] == "/index"
    assert listed(server) == []
    # There is nothing to undo any longer.
    assert "moved to the <a" not in server.client.get(location).text
    server.client.post("/trash", data={"moved": moved})
    server.client.post(f"/images/{ids[0]}", data={"delete": "trash"})
    shown = server.client.get("/trash").text
    assert ids[0] in shown
    assert ids[1] not in shown
    server.client.post("/trash", data={"ids": ids[0], "action": "restore"})
    assert listed(server) == []
    server.client.post(f"/images/{ids[0]}", data={"delete": "trash"})
    server.client.post("/trash", data={"all": "true", "action": "delete"})
    assert len(listed(server, "/api/images")) == 3
    assert "The trash is empty" in server.client.get("/trash").text
    assert server.client.post("/trash", data={"action": "delete"}).status_code == 422


def test_one_undo_restores_all_that_was_moved_together(
    server: Server, host: ImageHost, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In several transactions, as of many images.
    monkeypatch.setattr("app.indexing.trash.AT_ONCE", 3)
    more = [r["id"] for r in server.upsert([host.url(f"seed/{n}.png?beach") for n in range(10)])]
    server.client.delete(f"/api/images/{ids[0]}?trash=true")
    all_beaches = {"q": "beach", "matching": "true", "action": "trash"}
    page = server.client.post("/index/images", data=all_beaches).headers["location"]
    server.client.delete(f"/api/images/{ids[1]}?trash=true")
    assert "10 images moved to the" in server.client.get(page).text
    # What became of some of them meanwhile stays so.
    server.client.post("/api/trash/restore", json={"ids": more[:1]})
    server.client.delete(f"/api/trash?ids={more[1]}")
    assert "8 images moved to the" in server.client.get(page).text
    server.client.post("/trash", data={"moved": parse_qs(urlsplit(page).query)["moved"][0]})
    assert sorted(listed(server)) == sorted(ids[:2])
    assert set(listed(server, "/api/images")) == {*ids[2:], *more} - {more[1]}
    for moved in ("", "x", "2026-11-28", "0001-01-01T00:00:00+23:59", "9" * 400):
        assert server.client.get("/index", params={"moved": moved}).status_code == 200
        answer = server.client.post("/trash", data={"moved": moved})
        assert answer.status_code in (303, 422)
    assert sorted(listed(server)) == sorted(ids[:2])


def test_the_commands(server: Server, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = server.lookalike.settings
    assert settings.database_url
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("ENCODER", "builtin")

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["trash", *arguments])
        return result.exit_code, result.stdout

    server.client.delete(f"/api/images/{ids[0]}?trash=true")
    code, output = run("list", "--json")
    assert code == 0
    assert [image["id"] for image in json.loads(output)] == ids[:1]
    assert ids[0] in run("list")[1]
    assert run("restore")[0] == run("empty", ids[0], "--all")[0] == 2
    assert run("restore", ids[0]) == (0, "1 restored\n")
    assert run("restore", "--all")[0] == 3
    server.client.delete(f"/api/images/{ids[0]}?trash=true")
    assert run("empty", "--all", "--json") == (0, '{\n  "deleted": 1\n}\n')
    assert len(listed(server, "/api/images")) == 3
