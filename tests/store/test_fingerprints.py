import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from app.settings import Settings
from app.store.catalog import Catalog, Entry, NewImage
from app.store.database import open_database
from app.store.fingerprints import Fingerprints, brief
from tests.samples import facts

FILES = [1, 1, 1, 2, 3]
URLS = [f"https://example.com/{number}" for number in range(len(FILES))]
IDS = [Entry(url).id for url in URLS]


@asynccontextmanager
async def fingerprints_of(settings: Settings) -> AsyncGenerator[Fingerprints]:
    database = open_database(settings)
    fingerprints = Fingerprints(database)
    assert await fingerprints.newest() is None
    async with database.begin() as connection:
        images = [
            NewImage(Entry(url).over(None), facts(sha256=f"{file:064x}", dhash=file))
            for url, file in zip(URLS, FILES, strict=True)
        ]
        await Catalog(database).upsert(connection, images)
    yield fingerprints
    await database.close()


def test_images_are_found_by_id_and_by_its_beginning(settings: Settings) -> None:
    async def run() -> None:
        async with fingerprints_of(settings) as fingerprints:
            unknown = [UUID(int=0), UUID(int=2**128 - 1), UUID(int=IDS[0].int ^ 1 << 100)]
            found = await fingerprints.find([*IDS[:2], *unknown])
            assert set(found) == set(IDS[:2])
            assert (found[IDS[0]].sha256, found[IDS[0]].dhash) == (f"{1:064x}", 1)
            by_brief = await fingerprints.find_brief([brief(i) for i in [*IDS, *unknown]])
            assert {start: image.id for start, image in by_brief.items()} == {
                brief(i): i for i in IDS
            }
            assert await fingerprints.find_brief([]) == {}

    asyncio.run(run())


def test_images_are_found_by_file_and_in_the_order_of_ids(settings: Settings) -> None:
    async def run() -> None:
        async with fingerprints_of(settings) as fingerprints:
            walked = [image.id for image in await fingerprints.walk(after=None, limit=10)]
            assert walked == sorted(IDS)
            behind = await fingerprints.walk(after=walked[1], limit=2)
            assert [image.id for image in behind] == walked[2:4]
            newest = await fingerprints.newest()
            assert newest is not None
            hashes = [f"{file:064x}" for file in (1, 2, 9)]
            found = await fingerprints.of_files(hashes, until=newest, limit=2)
            assert {sha256: [image.id for image in same] for sha256, same in found.items()} == {
                hashes[0]: sorted(IDS[:3])[:2],
                hashes[1]: [IDS[3]],
            }
            earlier = newest - timedelta(microseconds=1)
            assert await fingerprints.of_files(hashes, until=earlier, limit=2) == {}

    asyncio.run(run())
