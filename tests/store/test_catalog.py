import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from app.pictures.decoding import decode
from app.settings import Settings
from app.store.catalog import Catalog
from app.store.database import Database, open_database
from app.store.images import Entry, ImageRow, NewImage
from tests.samples import png


@asynccontextmanager
async def catalog_of(settings: Settings) -> AsyncGenerator[tuple[Database, Catalog]]:
    database = open_database(settings)
    yield database, Catalog(database)
    await database.close()


def picture(seed: int):
    return decode(png(seed), max_pixels=10**6)


def test_the_id_depends_on_the_url_alone() -> None:
    # The output of `uuidgen --sha1 --namespace @url --name https://example.com/a`.
    assert Entry("https://example.com/a").id == UUID("6639460f-3425-5329-8097-a58f06127860")
    assert Entry("https://example.com/a", title="x").id == Entry("https://example.com/a").id
    assert Entry("https://example.com/b").id != Entry("https://example.com/a").id


def test_upsert_inserts_once_and_then_replaces(settings: Settings) -> None:
    async def run() -> ImageRow:
        async with catalog_of(settings) as (database, catalog):
            entry = Entry("https://example.com/a", "A", "first", ["x"])
            for seed, is_new in ((1, True), (2, False)):
                async with database.begin() as connection:
                    new = await catalog.upsert(connection, [NewImage(entry, picture(seed))])
                    assert new == ({entry.id} if is_new else set())
            assert await catalog.count() == 1
            image = await catalog.find(entry.id)
            assert image is not None
            return image

    image = asyncio.run(run())
    assert image.sha256 == picture(2).sha256
    assert (image.title, image.description, image.tags) == ("A", "first", ["x"])
    assert image.updated_at > image.indexed_at


def test_upsert_stores_every_part_of_a_picture(settings: Settings) -> None:
    async def run() -> None:
        async with catalog_of(settings) as (database, catalog):
            entry, given = Entry("https://example.com/a").over(None), picture(3)
            async with database.begin() as connection:
                await catalog.upsert(connection, [NewImage(entry, given)])
            image = await catalog.find(entry.id)
            assert image is not None
            assert (image.width, image.height, image.format) == (256, 256, "PNG")
            assert (image.dhash, image.bytes, image.exif) == (given.dhash, given.file_bytes, {})
            assert await catalog.thumbnail(entry.id) == (given.sha256, given.thumbnail)

    asyncio.run(run())


def test_concurrent_upserts_of_one_url_make_one_row(settings: Settings) -> None:
    async def run() -> None:
        async with catalog_of(settings) as (database, catalog):
            entry = Entry("https://example.com/a").over(None)

            async def upsert() -> bool:
                async with database.begin() as connection:
                    return bool(await catalog.upsert(connection, [NewImage(entry, picture(1))]))

            assert sorted(await asyncio.gather(*(upsert() for _ in range(8)))) == [False] * 7 + [
                True
            ]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Entry("u"), ("title", "description", ["tag"])),
        (Entry("u", title=""), ("", "description", ["tag"])),
        (Entry("u", tags=[]), ("title", "description", [])),
    ],
)
def test_metadata_that_an_entry_omits_is_kept(
    settings: Settings, entry: Entry, expected: tuple[str, str, list[str]]
) -> None:
    async def run() -> Entry:
        async with catalog_of(settings) as (database, catalog):
            async with database.begin() as connection:
                stored = Entry("u", "title", "description", ["tag"])
                await catalog.upsert(connection, [NewImage(stored, picture(1))])
            return entry.over(await catalog.find(entry.id))

    merged = asyncio.run(run())
    assert (merged.title, merged.description, merged.tags) == expected
