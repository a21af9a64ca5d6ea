"""The user and password of a URL: for fetching, and for no one to see."""

import json
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from app.store.images import DROPPED, Entry
from app.store.items import NewItem
from app.store.urls import split_credentials, with_credentials, without_credentials
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import png


def locked(host: ImageHost, name: str, data: bytes, *, user: str = "me:hunter2") -> str:
    """Serve a picture to those who know the password; return its URL with it."""
    host.add(name, data)
    return host.url(f"locked/{name}").replace("//", f"//{user}@")


def stored(server: Server, loop: Loop) -> str:
    """All that the database keeps of images, their vectors and jobs."""

    async def read() -> list[Any]:
        texts: list[Any] = []
        async with server.lookalike.database.begin() as connection:
            for table in ("images", "jobs", "job_items", server.lookalike.vectors.table.name):
                rows = await connection.exec_driver_sql(f"SELECT to_jsonb(t) FROM {table} t")
                texts += rows.scalars()
        return texts

    return json.dumps(loop.run(read()), ensure_ascii=False)


@pytest.mark.parametrize(
    ("url", "stripped", "credentials"),
    [
        ("http://me:pw@h/x", "http://h/x", "me:pw"),
        ("HTTPS://me@h:8080?x=@", "HTTPS://h:8080?x=@", "me"),
        ("http://a@b:c@h/x@y", "http://h/x@y", "a@b:c"),
        ("http://:pw@h/", "http://h/", ":pw"),
        ("http://@h/", "http://h/", None),
        ("http://h/a@b", "http://h/a@b", None),
        ("http://h#a@b", "http://h#a@b", None),
        (" http:/me:pw@h/", " http:/h/", "me:pw"),
        ("file:///a@b:c.jpg", "file:///a@b:c.jpg", None),
        ("s3://key:secret@bucket/x", "s3://key:secret@bucket/x", None),
        ("upload:abc", "upload:abc", None),
        ("", "", None),
    ],
)
def test_an_entry_keeps_them_apart(url: str, stripped: str, credentials: str | None) -> None:
    assert split_credentials(url) == (stripped, credentials)
    entry = Entry(url, "A title")
    assert (entry.url, entry.credentials, entry.title) == (stripped, credentials, "A title")
    assert entry.id == uuid5(NAMESPACE_URL, stripped)
    assert "pw" not in repr(entry)
    if credentials and url.startswith("http://"):
        assert with_credentials(stripped, credentials) == url
        assert entry.former_id == uuid5(NAMESPACE_URL, url)


def test_a_text_is_shown_without_them() -> None:
    text = "http://a:b@x/1, and https://c@y/2 by me@example.com"
    assert without_credentials(text) == "http://x/1, and https://y/2 by me@example.com"


def test_what_is_fetched_with_a_password_is_stored_and_shown_without(
    server: Server, loop: Loop, host: ImageHost
) -> None:
    url = locked(host, "a.png", png(1))
    [outcome] = server.upsert([url])
    bare = host.url("locked/a.png")
    assert (outcome["status"], outcome["url"]) == ("indexed", bare)
    assert server.client.get(f"/api/images/{outcome['id']}").json()["url"] == bare
    [hit] = server.search(png(1))
    assert (hit["id"], hit["url"]) == (outcome["id"], bare)
    assert server.query(png(1)) == [bare]
    [again] = server.upsert([url])
    assert (again["status"], again["id"]) == ("unchanged", outcome["id"])
    # Without them, or with others, its server refuses, and the image stays.
    for other in (bare, url.replace("hunter2", "hunter3")):
        [refused] = server.upsert([other])
        assert "answers 401" in refused["reason"]
    assert server.client.get("/api/images").json()["total"] == 1
    assert "hunter" not in stored(server, loop)
    assert "hunter" not in server.client.get("/index").text


def test_a_query_may_have_them(server: Server, host: ImageHost) -> None:
    answer = server.client.post("/api/search", json={"url": locked(host, "a.png", png(1))})
    assert answer.status_code == 200


def test_an_item_of_a_job_has_them_until_it_ends(
    server: Server, loop: Loop, host: ImageHost
) -> None:
    urls = [locked(host, "a.png", png(1)), locked(host, "b.png", png(2), user="me:hunter3")]
    job = server.start([urls[0]])
    assert job["title"] == host.url("locked/a.png")
    assert server.done(job["id"])["indexed"] == 1
    [item] = server.client.get(f"/api/jobs/{job['id']}/items").json()["items"]
    assert item["url"] == host.url("locked/a.png")
    table = f"url\n{urls[1]}\n"
    headers = {"content-type": "text/csv"}
    job = server.client.post("/api/upsert", content=table, headers=headers).json()
    assert server.done(job["id"])["failed"] == 1
    assert "hunter" not in stored(server, loop)
    # To try again would be to ask without.
    server.client.post(f"/api/jobs/{job['id']}/retry")
    server.done(job["id"])
    [item] = server.client.get(f"/api/jobs/{job['id']}/items").json()["items"]
    assert "user and password, which are not kept" in item["reason"]


def test_a_cancelled_item_forgets_them(server: Server, loop: Loop, host: ImageHost) -> None:
    async def cancel() -> None:
        items = server.lookalike.job_items
        async with server.lookalike.database.begin() as connection:
            job_id = await items.create(connection, "Not queued")
            await items.append(connection, job_id, [NewItem("web", Entry("http://a:hunter2@h/"))])
        [waiting] = await items.items(job_id, state=None, after=-1, limit=1)
        assert waiting.entry.credentials == "a:hunter2"
        await items.cancel(job_id)
        [cancelled] = await items.items(job_id, state=None, after=-1, limit=1)
        assert cancelled.entry.credentials == DROPPED

    loop.run(cancel())
    assert "hunter" not in stored(server, loop)


def test_a_refresh_says_that_it_cannot_ask(server: Server, host: ImageHost) -> None:
    server.upsert([locked(host, "a.png", png(1)), host.url("seed/2.png")])
    job = server.client.post("/api/refresh").json()
    done = server.done(job["id"])
    assert (done["unchanged"], done["failed"]) == (1, 1)
    [item] = server.client.get(f"/api/jobs/{job['id']}/items?state=failed").json()["items"]
    assert item["url"] == host.url("locked/a.png")
    assert item["reason"] == (
        "The URL was fetched with a user and password, which are not kept: send it again with them."
    )


def test_an_image_that_no_longer_needs_them_is_asked_for_again(
    server: Server, loop: Loop, host: ImageHost
) -> None:
    [outcome] = server.upsert([locked(host, "a.png", png(1))])

    async def needed() -> bool:
        image = await server.lookalike.catalog.find(Entry(outcome["url"]).id)
        assert image is not None
        return image.needs_credentials

    assert loop.run(needed())
    host.password = ""
    host.add("a.png", png(3))
    [again] = server.upsert([outcome["url"]])
    assert (again["status"], again["id"]) == ("updated", outcome["id"])
    assert not loop.run(needed())


def test_a_server_that_hides_what_is_locked_does_not_make_it_gone(
    server: Server, host: ImageHost
) -> None:
    url = locked(host, "a.png", png(1))
    [outcome] = server.upsert([url])
    host.refusal = 404
    [refused] = server.upsert([outcome["url"]])
    assert "answers 404" in refused["reason"]
    assert server.client.get(f"/api/images/{outcome['id']}").json()["gone_at"] is None
    del host.pictures["a.png"]
    server.upsert([url])
    assert server.client.get(f"/api/images/{outcome['id']}").json()["gone_at"] is not None
