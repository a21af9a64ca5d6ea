"""What a job leaves: old jobs go, and with them the uploads that only they kept."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256

import psycopg
import pytest

from app.lookalike import Lookalike
from app.settings import Settings
from app.store.images import Entry
from app.store.items import NewItem
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.jobs.test_jobs import progressed, without_worker
from tests.live import Loop
from tests.samples import png


def kept(settings: Settings) -> set[str]:
    """The hashes of the uploads whose files are there."""
    files = (settings.data_dir / "media").glob("*/*")
    # Thumbnails, where they are files, are a folder deeper.
    return {path.name for path in files if path.is_file()}


def hashes(*files: bytes) -> set[str]:
    return {sha256(data).hexdigest() for data in files}


async def left(settings: Settings, number: int) -> None:
    """Return once so many uploads have a file."""
    while len(kept(settings)) > number:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def upload_job(lookalike: Lookalike, files: Sequence[bytes]) -> int:
    originals = lookalike.indexer.originals
    async with AsyncExitStack() as stack:
        keeping = [originals.keeping(data, title="") for data in files]
        items = [await stack.enter_async_context(kept) for kept in keeping]
        return await lookalike.jobs.create("uploads", items)


def test_a_deleted_job_takes_the_uploads_that_only_it_kept(settings: Settings, loop: Loop) -> None:
    indexed, shared, alone, bad = png(1), png(2), png(3), b"words"
    with without_worker(settings, loop) as lookalike:
        loop.run(lookalike.indexer.upsert_upload(indexed, title=""))
        job_id = loop.run(upload_job(lookalike, [indexed, shared, alone, bad]))
        other = loop.run(upload_job(lookalike, [shared]))
        loop.run(lookalike.job_items.cancel(job_id))
        loop.run(lookalike.jobs.delete(job_id))
        assert kept(settings) == hashes(indexed, shared)
        loop.run(lookalike.jobs.delete(other))
        assert kept(settings) == hashes(indexed)


def test_a_failed_upload_is_kept_for_a_retry_until_its_job_goes(
    settings: Settings, loop: Loop
) -> None:
    with without_worker(settings, loop) as lookalike, loop.entered(lookalike.jobs.working()):
        job_id = loop.run(upload_job(lookalike, [png(1), b"words"]))
        loop.run(progressed(lookalike, job_id, 2))
        loop.run(lookalike.jobs.retry(job_id))
        loop.run(progressed(lookalike, job_id, 2))
        items = loop.run(lookalike.job_items.items(job_id, state="failed", after=-1, limit=9))
        assert ["not an image" in (item.reason or "") for item in items] == [True]
        loop.run(lookalike.jobs.delete(job_id))
        assert kept(settings) == hashes(png(1))
        # One that no job has is deleted as it fails.
        loop.run(lookalike.indexer.upsert_upload(b"other words", title=""))
    assert kept(settings) == hashes(png(1))


def test_an_item_that_was_indexed_keeps_no_file(settings: Settings, loop: Loop) -> None:
    """The image was deleted since: its file is no one's."""
    with without_worker(settings, loop) as lookalike:
        with loop.entered(lookalike.jobs.working()):
            job_id = loop.run(upload_job(lookalike, [png(1)]))
            loop.run(progressed(lookalike, job_id, 1))
        [image] = loop.run(lookalike.catalog.newest(limit=2))
        loop.run(lookalike.indexer.delete([image]))
        other = loop.run(upload_job(lookalike, [png(1)]))
        assert kept(settings) == hashes(png(1))
        loop.run(lookalike.jobs.delete(other))
    assert kept(settings) == set()


def test_an_upload_that_is_being_indexed_as_its_job_is_deleted_keeps_its_file(
    settings: Settings, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has read the file and stores the image after the job is gone."""

    async def run() -> None:
        read, deleted = asyncio.Event(), asyncio.Event()
        upsert = lookalike.catalog.upsert

        async def late(*arguments: object) -> object:
            read.set()
            await deleted.wait()
            return await upsert(*arguments)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(lookalike.catalog, "upsert", late)
        async with lookalike.jobs.working():
            job_id = await upload_job(lookalike, [png(1), b"words"])
            await read.wait()
            await lookalike.jobs.delete(job_id)
            assert kept(settings) >= hashes(png(1))
            deleted.set()
            while not await lookalike.catalog.count():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            await left(settings, 1)
        assert kept(settings) == hashes(png(1))

    # Its check whether the job is cancelled must not come first.
    monkeypatch.setattr("app.jobs.worker.CANCELLED_WITHIN_S", 60)
    with without_worker(settings, loop) as lookalike:
        loop.run(run())


def test_uploads_that_a_job_did_not_take_are_deleted(
    server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is cancelled after it was found, and before it is given the items."""
    answer = server.client.post(
        "/api/images", files={"file": ("a.png", png(1))}, headers={"prefer": "respond-async"}
    )
    job_id = answer.json()["id"]
    originals = server.lookalike.indexer.originals
    keeping = originals.keeping

    @asynccontextmanager
    async def slow(data: bytes, *, title: str) -> AsyncGenerator[NewItem]:
        async with keeping(data, title=title) as item:
            await server.lookalike.job_items.cancel(job_id)
            yield item

    server.done(job_id)
    monkeypatch.setattr(originals, "keeping", slow)
    answer = server.client.post(f"/api/images?job={job_id}", files={"file": ("b.png", png(2))})
    assert answer.status_code == 409
    assert kept(settings) == hashes(png(1))


def test_jobs_that_ended_long_ago_are_deleted_by_a_worker(
    settings: Settings, loop: Loop, host: ImageHost, database_url: str
) -> None:
    quick = settings.model_copy(update={"job_days": 3})
    ages = {"old": 4, "young": 2, "running": None}
    with without_worker(quick, loop) as lookalike:
        ids = {
            title: loop.run(
                lookalike.jobs.create(title, [NewItem("web", Entry(host.url("never")))])
            )
            for title in ages
        }
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DELETE FROM procrastinate_jobs")
            connection.execute("UPDATE jobs SET created_at = 'epoch'")
            for title, days in ages.items():
                if days is not None:
                    loop.run(lookalike.job_items.cancel(ids[title]))
                    connection.execute(
                        "UPDATE jobs SET ended_at = now() - make_interval(days => %s) "
                        "WHERE id = %s AND ended_at IS NOT NULL",
                        [days, ids[title]],
                    )

        async def gone() -> None:
            while await lookalike.job_items.progress(ids["old"]) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        with loop.entered(lookalike.jobs.working()):
            loop.run(gone())
        left = loop.run(lookalike.job_items.newest(limit=9))
        assert {job.title for job in left} == {"young", "running"}
        with psycopg.connect(database_url) as connection:
            [items] = connection.execute("SELECT count(*) FROM job_items").fetchall()
    assert items == (2,)
