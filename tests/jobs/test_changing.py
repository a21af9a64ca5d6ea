"""Changes of all images that a page's search finds: a few at once, many by a job."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import psycopg
import pytest

from app.indexing.changes import Change, Changer
from app.indexing.edits import Edit
from app.lookalike import Lookalike
from app.store.catalog import Selection
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop

FEW = 3


@pytest.fixture(autouse=True)
def many_is_few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("app.jobs.jobs", "app.web.index_pages"):
        monkeypatch.setattr(f"{module}.MANY", FEW)


@pytest.fixture
def ids(server: Server, host: ImageHost) -> list[str]:
    images = [
        {"url": host.url(f"seed/{n}.png"), "title": f"{'Beach' if n else 'Hill'} {n}"}
        for n in range(8)
    ]
    return [image["id"] for image in server.upsert(images)]


def post(server: Server, path: str = "/index/images", **fields: str) -> dict[str, str]:
    """Send a form; return the fields of the URL that it redirects to."""
    answer = server.client.post(path, data=fields)
    assert answer.status_code == 303, answer.text
    given = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in given.items()}


def shown(server: Server, fields: dict[str, str], path: str = "/index") -> str:
    text = server.client.get(path, params=fields).text
    return " ".join(re.sub("<[^>]*>", "", text).split())


def titles(server: Server) -> list[str]:
    images = server.client.get("/api/images").json()["images"]
    return sorted(image["title"] for image in images)


def trashed(server: Server) -> int:
    return server.client.get("/api/trash").json()["total"]


@contextmanager
def locked(database_url: str, *ids: str) -> Generator[psycopg.Connection[Any]]:
    """Keep images' rows from everyone else."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "SELECT FROM images WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE", [list(ids)]
        )
        yield connection


def changer_of(lookalike: Lookalike) -> Changer:
    return Changer(
        database=lookalike.database,
        catalog=lookalike.catalog,
        indexer=lookalike.indexer,
        trash=lookalike.trash,
        job_items=lookalike.job_items,
    )


def test_a_few_are_changed_at_once_and_only_those_that_match(
    server: Server, ids: list[str]
) -> None:
    went = post(server, q="hill", matching="true", action="tag", tag="green")
    assert went == {"q": "hill", "edited": "1"}
    assert server.client.get("/api/images?q=green").json()["total"] == 1
    assert "Select all 7 images that match" in shown(server, {"q": "beach"})
    assert "Select all 8 images in the index" in shown(server, {})


def test_many_are_edited_by_a_job(server: Server, ids: list[str]) -> None:
    edit = {"action": "edit", "field": "title", "how": "add", "text": "at night"}
    went = post(server, q="beach", matching="true", **edit)
    job = server.done(int(went["job"]))
    assert (job["title"], job["total"], job["updated"]) == ("Edit titles", 7, 7)
    assert titles(server) == [*(f"Beach {n} at night" for n in range(1, 8)), "Hill 0"]
    assert "Edit titles done, 7 images" in shown(server, went)
    # What was given with the selection does not count beside all that match.
    went = post(server, ids=ids[0], matching="true", q="beach", **edit | {"how": "remove"})
    assert server.done(int(went["job"]))["total"] == 7
    assert titles(server) == [*(f"Beach {n}" for n in range(1, 8)), "Hill 0"]


def test_an_edit_is_made_of_what_each_row_has_by_then(
    server: Server, ids: list[str], database_url: str, loop: Loop
) -> None:
    with locked(database_url, ids[5]) as connection:
        went = post(
            server, matching="true", action="edit", field="title", how="add", text="at night"
        )
        connection.execute("UPDATE images SET title = 'Harbour' WHERE id = %s", [ids[5]])
        connection.commit()
    assert server.done(int(went["job"]))["updated"] == 8
    assert "Harbour at night" in titles(server)


def test_an_image_that_cannot_be_edited_fails_alone(server: Server, ids: list[str]) -> None:
    server.client.patch(f"/api/images/{ids[2]}", json={"title": "x" * 995})
    went = post(server, matching="true", action="edit", field="title", how="add", text="at night")
    job = server.done(int(went["job"]))
    assert (job["updated"], job["failed"]) == (7, 1)
    failed = server.client.get(f"/api/jobs/{job['id']}/items?state=failed").json()["items"]
    assert "at most 1,000 characters" in failed[0]["reason"]


def test_many_go_to_the_trash_by_a_job_and_come_back_with_one_undo(
    server: Server, ids: list[str]
) -> None:
    went = post(server, q="beach", matching="true", action="trash")
    job = server.done(int(went["job"]))
    assert (job["title"], job["total"], job["moved"]) == ("Move to the trash", 7, 7)
    assert [item["id"] for item in job["recent"]] == [None] * 7
    assert titles(server) == ["Hill 0"]
    assert "7 images moved to the trash" in shown(server, went)
    undone = post(server, "/trash", moved=went["moved"])
    job = server.done(int(undone["job"]))
    assert (job["title"], job["moved"]) == ("Restore from the trash", 7)
    assert len(titles(server)) == 8
    assert trashed(server) == 0


def test_the_whole_index_can_be_meant(server: Server, ids: list[str]) -> None:
    went = post(server, matching="true", action="trash")
    assert server.done(int(went["job"]))["moved"] == 8
    assert titles(server) == []


def test_undo_cancels_a_job_that_still_moves_images(
    server: Server, ids: list[str], database_url: str, loop: Loop
) -> None:
    lookalike = server.lookalike
    with locked(database_url, ids[0]):
        # The chunk's transaction waits for this row; by the time that it gets it, it is cancelled.
        went = post(server, matching="true", action="trash")
        assert "8 images are being moved to the trash" in shown(server, went)
        assert post(server, "/trash", moved=went["moved"]) == {}
    job = server.done(int(went["job"]))
    assert (job["state"], job["cancelled"], job["moved"]) == ("cancelled", 8, 0)
    assert len(titles(server)) == 8
    items = loop.run(lookalike.job_items.items(job["id"], state=None, after=-1, limit=99))
    # A worker that had read the items before they were cancelled.
    loop.run(changer_of(lookalike).change(items))
    assert (len(titles(server)), trashed(server)) == (8, 0)


def test_what_is_found_in_the_trash_is_restored(server: Server, ids: list[str]) -> None:
    server.client.patch(f"/api/images/{ids[0]}", json={"tags": ['say "hi"', "c:\\d"]})
    went = post(server, matching="true", action="trash")
    server.done(int(went["job"]))
    assert "7 images found" in shown(server, {"q": "BEACH"}, "/trash")
    assert "No matching images" in shown(server, {"q": "50%"}, "/trash")
    for text in ('"hi"', "c:\\d"):
        assert "1 image found" in shown(server, {"q": text}, "/trash")
    assert (
        server.client.post(
            "/trash", data={"q": "hill", "all": "true", "action": "delete"}
        ).status_code
        == 422
    )
    assert post(server, "/trash", q="hill", all="true", action="restore") == {}
    assert titles(server) == ["Hill 0"]
    restored = post(server, "/trash", q="beach", all="true", action="restore")
    assert server.done(int(restored["job"]))["moved"] == 7
    assert "Restore from the trash done, 7 images" in shown(server, restored, "/trash")
    assert (len(titles(server)), trashed(server)) == (8, 0)


def test_an_image_that_is_gone_by_then_fails_alone(
    server: Server, ids: list[str], database_url: str, loop: Loop
) -> None:
    jobs, trash = server.lookalike.jobs, server.lookalike.trash
    edit = Edit(field="tags", how="add", text="sea")
    changes = [Change(do="edit", edit=edit), Change(do="trash", at=loop.run(trash.table.now()))]
    for number, change in enumerate(changes, 1):
        chosen = Selection(ids=[UUID(i) for i in ids[number:4]])
        with locked(database_url, ids[number]) as connection:
            job_id = loop.run(jobs.change(change, chosen))
            connection.execute("DELETE FROM images WHERE id = %s", [ids[number]])
            connection.commit()
        job = server.done(job_id)
        assert (job["failed"], job["updated"] + job["moved"]) == (1, 3 - number)


def test_an_edit_is_made_once_and_not_after_it_was_cancelled(
    server: Server, ids: list[str], database_url: str, loop: Loop
) -> None:
    lookalike, edit = server.lookalike, Edit(field="title", how="add", text="at night")
    # Each image is edited on its own, so that a quick worker edits every one that is not locked.
    with locked(database_url, *ids):
        job_id = loop.run(lookalike.jobs.change(Change(do="edit", edit=edit), Selection()))
        items = loop.run(lookalike.job_items.items(job_id, state=None, after=-1, limit=99))
        server.client.post(f"/api/jobs/{job_id}/cancel")
    assert server.done(job_id)["cancelled"] == 8
    # A worker that had read the items before they were cancelled.
    loop.run(changer_of(lookalike).change(items))
    assert "night" not in "".join(titles(server))
    server.client.post(f"/api/jobs/{job_id}/retry")
    assert server.done(job_id)["updated"] == 8
    # Another that was taken for dead, and goes on.
    loop.run(changer_of(lookalike).change(items))
    assert titles(server) == [*(f"Beach {n} at night" for n in range(1, 8)), "Hill 0 at night"]


def test_what_a_retried_job_moves_is_kept_in_the_trash_from_then_on(
    server: Server, ids: list[str], database_url: str, loop: Loop
) -> None:
    jobs = server.lookalike.jobs
    with locked(database_url, ids[0]):
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        job_id = loop.run(jobs.change(Change(do="trash", at=long_ago), Selection()))
        server.client.post(f"/api/jobs/{job_id}/cancel")
    server.done(job_id)
    server.client.post(f"/api/jobs/{job_id}/retry")
    assert server.done(job_id)["moved"] == 8
    loop.run(jobs.keep_up())
    assert trashed(server) == 8


def test_a_job_that_was_deleted_meanwhile_changes_nothing(
    server: Server, ids: list[str], database_url: str, loop: Loop
) -> None:
    lookalike = server.lookalike
    with locked(database_url, ids[0]):
        change = Change(do="restore")
        job_id = loop.run(lookalike.jobs.change(change, Selection()))
        items = loop.run(lookalike.job_items.items(job_id, state=None, after=-1, limit=99))
        server.client.post(f"/api/jobs/{job_id}/cancel")
    server.done(job_id)
    assert server.client.delete(f"/api/jobs/{job_id}").status_code in (200, 204)
    loop.run(changer_of(lookalike).change(items))
