"""Streams of events: what the pages and programs get, and how many of them."""

import json
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Server
from tests.image_host import ImageHost
from tests.samples import png


def gated(server: Server, host: ImageHost, jobs: int) -> list[int]:
    """Start jobs of two images, of which one waits for the host to open."""
    host.open.clear()
    late = host.add("late.png", png(50)) + "?gate=1"
    return [server.start([host.url(f"seed/{n}.png"), f"{late}&{n}"])["id"] for n in range(jobs)]


def test_one_stream_carries_all_jobs_of_a_page(server: Server, host: ImageHost) -> None:
    ids = gated(server, host, 7)
    states: dict[int, str] = {}
    with server.client.stream("GET", f"/index/events?jobs={','.join(map(str, ids))}") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                job = json.loads(line.removeprefix("data: "))
                states[job["id"]] = job["state"]
                assert 'data-part="bar"' in job["html"]
                if len(states) == len(ids):
                    host.open.set()
            if line == "event: end":
                break
    assert states == dict.fromkeys(ids, "done")


@pytest.mark.parametrize("jobs", ["", "x", "1,", "1,,2", "9" * 19, ",".join("1" * 101)])
def test_a_page_names_its_jobs(server: Server, jobs: str) -> None:
    answer = server.client.get("/index/events", params={"jobs": jobs})
    assert (answer.status_code, "`jobs`" in answer.json()["detail"]) == (422, True)


def test_a_stream_of_deleted_jobs_ends(server: Server) -> None:
    answer = server.client.get("/index/events?jobs=999,998")
    assert answer.text.endswith("event: end\ndata:\n\n")


def test_a_client_has_so_many_streams_and_no_more(
    server: Server, host: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.stream_counter.MOST_PER_CLIENT", 20)
    [job_id] = gated(server, host, 1)
    paths = [f"/api/jobs/{job_id}/events", f"/index/events?jobs={job_id}"]

    held: list[object] = []

    def begin(stack: ExitStack, path: str) -> None:
        lines = stack.enter_context(server.client.stream("GET", path)).iter_lines()
        assert next(lines) == "retry: 1000"
        # One that no one holds closes its stream.
        held.append(lines)

    with ExitStack() as stack:
        for number in range(20):
            begin(stack, paths[number % 2])
        for path in paths:
            answer = server.client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
            assert answer.json()["type"] == "/docs#too-many-streams"
        # The database has connections left for everything else.
        assert server.client.get("/api/stats").status_code == 200
        assert server.lookalike.database.engine.pool.checkedout() <= 2  # pyright: ignore[reportAttributeAccessIssue]
        monkeypatch.setattr("app.web.stream_counter.MOST_PER_CLIENT", 50)
        monkeypatch.setattr("app.web.stream_counter.MOST_IN_ALL", 20)
        assert server.client.get(paths[0]).status_code == 503
    host.open.set()
    # Those that have ended do not count.
    server.done(job_id)
    for _ in range(30):
        assert server.client.get(paths[0]).text.endswith("event: end\ndata:\n\n")


def test_a_page_opens_one_stream_for_seven_jobs(
    server: Server, new_page: Callable[..., Page], host: ImageHost
) -> None:
    gated(server, host, 7)
    page = new_page()
    opened: list[str] = []
    page.on("request", lambda request: opened.append(request.url))
    page.goto("/add")
    expect(page.locator(".job[data-state=running]")).to_have_count(7)
    host.open.set()
    expect(page.locator(".job progress[value='2']")).to_have_count(7)
    expect(page.get_by_role("link", name="14 images in the index")).to_be_visible()
    assert len([url for url in opened if "/events" in url]) == 1


def test_a_page_says_that_a_cancelled_job_takes_no_more(
    server: Server, new_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    create = server.lookalike.jobs.create

    async def create_cancelled(*arguments: object) -> int:
        job_id = await create(*arguments)  # pyright: ignore[reportArgumentType]
        await server.lookalike.job_items.cancel(job_id)
        return job_id

    monkeypatch.setattr(server.lookalike.jobs, "create", create_cancelled)
    page = new_page()
    page.goto("/add")
    files = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": png(n)} for n in range(9)]
    page.set_input_files("#files", files)  # pyright: ignore[reportArgumentType]
    page.get_by_role("button", name="Add to index").click()
    expect(page.get_by_role("alert")).to_contain_text("was cancelled, and takes no more images")
