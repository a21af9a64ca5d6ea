"""The file of an upload is there as long as its image is, whoever deletes meanwhile."""

import asyncio
import hashlib
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.indexing.media import Media
from app.lookalike import Lookalike
from app.problems import StorageUnavailable
from app.settings import Settings
from app.store.catalog import EVERYTHING
from app.store.claims import UPLOAD_LOCKS
from app.store.images import Entry
from tests.conftest import opened
from tests.live import Loop
from tests.samples import png

DATA = png(1)
SHA256 = hashlib.sha256(DATA).hexdigest()
ENTRY = Entry(f"upload:{SHA256}")


@pytest.fixture
def programs(settings: Settings, loop: Loop, encoder: Encoder) -> Generator[list[Lookalike]]:
    with ExitStack() as stack:
        yield [stack.enter_context(opened(settings, loop, encoder)) for _ in range(2)]


def files(settings: Settings) -> Sequence[Path]:
    return [path for path in (settings.data_dir / "media").rglob("*") if path.is_file()]


async def is_whole(lookalike: Lookalike) -> bool:
    """Return whether the image is there; if so, its file is."""
    image = await lookalike.catalog.find(ENTRY.id)
    if image is not None:
        assert await lookalike.indexer.originals.read(image) == DATA
    return image is not None


def test_uploads_and_deletes_at_once_never_leave_an_image_without_its_file(
    programs: list[Lookalike], loop: Loop, settings: Settings
) -> None:
    one, other = programs

    async def run() -> None:
        for _ in range(10):
            first = await one.indexer.upsert_upload(DATA, title="a.png")
            assert first.problem is None
            start = asyncio.Barrier(3)

            async def upload(program: Lookalike, start: asyncio.Barrier = start) -> Any:
                await start.wait()
                return await program.indexer.upsert_upload(DATA, title="a.png")

            async def delete(start: asyncio.Barrier = start) -> None:
                await start.wait()
                await other.indexer.delete_all(EVERYTHING)

            outcomes = await asyncio.gather(upload(one), upload(other), delete())
            assert [outcome.problem for outcome in outcomes[:2]] == [None, None]
            if not await is_whole(one):
                assert not files(settings)

    loop.run(run())


def test_a_delete_takes_no_file_that_an_upload_has_claimed(
    programs: list[Lookalike], loop: Loop, settings: Settings
) -> None:
    one, other = programs

    async def run() -> None:
        await one.indexer.upsert_upload(DATA, title="a.png")
        async with one.indexer.originals.keeping(DATA, title="a.png") as item:
            await other.indexer.delete_all(EVERYTHING)
            assert (await one.indexer.upsert("upload", item.entry)).status == "indexed"
        assert await is_whole(other)
        async with one.indexer.originals.keeping(DATA, title="a.png"):
            await other.indexer.delete_all(EVERYTHING)
            assert len(files(settings)) == 1
        # Nothing came of it.
        assert not files(settings)

    loop.run(run())


def test_a_file_that_a_delete_is_about_to_remove_is_written_again(
    programs: list[Lookalike], loop: Loop
) -> None:
    """The delete's transaction has ended; both wait for the lock, the delete before the upload."""
    one, other = programs

    async def run() -> None:
        await one.indexer.upsert_upload(DATA, title="a.png")
        async with one.database.begin() as connection:
            key = int(SHA256[:8], 16) - 2**31
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({UPLOAD_LOCKS}, {key})"))
            deleting = asyncio.create_task(other.indexer.delete_all(EVERYTHING))
            await waiting(one, 1)
            uploading = asyncio.create_task(one.indexer.upsert_upload(DATA, title="a.png"))
            await waiting(one, 2)
            assert await one.catalog.find(ENTRY.id) is None
        await deleting
        assert (await uploading).status == "indexed"
        assert await is_whole(other)

    loop.run(run())


async def waiting(lookalike: Lookalike, number: int) -> None:
    """Return once so many wait for an advisory lock of this database."""
    query = text(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    async with asyncio.timeout(60):
        while True:
            async with lookalike.database.begin() as connection:
                if await connection.scalar(query) == number:
                    return


def test_a_job_keeps_the_files_of_its_items(
    programs: list[Lookalike], loop: Loop, settings: Settings
) -> None:
    one, other = programs

    async def run() -> None:
        await other.indexer.upsert_upload(DATA, title="a.png")
        async with one.indexer.originals.keeping(DATA, title="a.png") as item:
            job_id = await one.jobs.create("Uploads", [item])
        await other.indexer.delete_all(EVERYTHING)
        [due] = await one.job_items.due(job_id, 0)
        assert (await one.indexer.upsert("upload", due.entry, item=due)).status == "indexed"
        assert await is_whole(other)
        # Now it is the image that needs it, however the job ends.
        await one.jobs.delete(job_id)
        assert await is_whole(other)
        await other.indexer.delete_all(EVERYTHING)
        assert not files(settings)

    loop.run(run())


def test_what_is_no_image_leaves_no_file(
    programs: list[Lookalike], loop: Loop, settings: Settings
) -> None:
    outcome = loop.run(programs[0].indexer.upsert_upload(b"<html>", title="a.png"))
    assert outcome.status == "failed"
    assert not files(settings)


def test_a_stored_file_is_not_written_again(tmp_path: Path) -> None:
    media = Media(str(tmp_path))
    asyncio.run(media.save(SHA256, DATA))
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = path.stat()
    asyncio.run(media.save(SHA256, DATA))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    # An older version, which wrote in place, was interrupted; who reads it now reads to its end.
    path.write_bytes(DATA[:100])
    with path.open("rb") as reader:
        asyncio.run(media.save(SHA256, DATA))
        assert len(reader.read()) == 100
    assert path.read_bytes() == DATA


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = Media(str(tmp_path))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageUnavailable):
        asyncio.run(media.save(SHA256, DATA))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
