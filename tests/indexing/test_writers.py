"""Two who change an image at the same time both get what they wrote, whatever processes they are.

Each test has several programs on one database, whose locks within a process keep nobody apart. A
test that holds the row lets all of them read it first, and then write in turn.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.indexing.edits import Edit
from app.indexing.outcomes import Outcome
from app.lookalike import Lookalike
from app.problems import InvalidRequest, NotFound
from app.settings import Settings
from app.store.catalog import EVERYTHING
from app.store.filters import Filters
from app.store.images import Entry, ImageRow
from app.store.listing import passing
from tests.conftest import opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import png


@pytest.fixture
def programs(settings: Settings, loop: Loop, encoder: Encoder) -> Generator[list[Lookalike]]:
    with ExitStack() as stack:
        yield [stack.enter_context(opened(settings, loop, encoder)) for _ in range(2)]


@pytest.fixture
def image(programs: list[Lookalike], loop: Loop, host: ImageHost) -> ImageRow:
    outcome = loop.run(programs[0].indexer.upsert("web", Entry(host.add("a.png", png(1)))))
    assert outcome.id is not None
    return found(programs, loop, outcome.id)


def found(programs: list[Lookalike], loop: Loop, image_id: Any) -> ImageRow:
    image = loop.run(programs[0].catalog.find(image_id))
    assert image is not None
    return image


@asynccontextmanager
async def held(lookalike: Lookalike, waiters: int) -> AsyncGenerator[None]:
    """Hold every image's row, and on leaving until so many wait for it."""
    async with lookalike.database.begin() as connection:
        await connection.execute(text("SELECT 1 FROM images FOR UPDATE"))
        yield
        waiting = text(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN "
            "('transactionid', 'tuple') AND pid IN "
            "(SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
        )
        async with asyncio.timeout(60), lookalike.database.engine.connect() as watcher:
            while (await watcher.scalar(waiting) or 0) < waiters:
                await watcher.rollback()
                await asyncio.sleep(0)


def test_two_who_write_different_fields_both_succeed(
    programs: list[Lookalike], loop: Loop, image: ImageRow
) -> None:
    one, other = programs

    async def run() -> list[Any]:
        async with held(one, 2):
            named = Entry(image.url, "A lighthouse")
            title = asyncio.create_task(one.indexer.describe(image, named))
            tags = Entry(image.url, tags=["sea"], metadata={"sku": "a17"})
            tagged = asyncio.create_task(other.indexer.describe(image, tags))
        return [await title, await tagged]

    assert loop.run(run()) == ["updated", "updated"]
    now = found(programs, loop, image.id)
    assert (now.title, now.tags, now.metadata) == ("A lighthouse", ["sea"], {"sku": "a17"})
    # The words and the labels say the same.
    for words, tags in (("lighthouse", ()), ("sea", ()), ("lighthouse sea", ("sea",))):
        search = one.vectors.worded(words, limit=9, filters=Filters(tags=tags))
        assert loop.run(search) == [image.id]


def test_a_caption_fills_only_what_is_still_empty(
    programs: list[Lookalike], loop: Loop, image: ImageRow
) -> None:
    one, other = programs
    mine = Entry(image.url, "Mine", tags=["own"])
    # Read before a person wrote: `image` has no title.
    loop.run(other.indexer.describe(image, mine))
    caption = Entry(image.url, "By a model", "A caption.")
    assert loop.run(one.indexer.describe(image, caption, fills=True)) == "updated"
    now = found(programs, loop, image.id)
    assert (now.title, now.description, now.tags) == ("Mine", "A caption.", ["own"])


def test_new_bytes_leave_what_was_written_meanwhile(
    programs: list[Lookalike], loop: Loop, image: ImageRow, host: ImageHost
) -> None:
    one, other = programs
    host.add("a.png", png(2))

    async def run() -> Outcome:
        host.open.clear()
        fetching = asyncio.create_task(one.indexer.upsert("web", Entry(image.url)))
        await other.indexer.describe(image, Entry(image.url, "Written meanwhile"))
        host.open.set()
        return await fetching

    assert loop.run(run()).status == "updated"
    assert found(programs, loop, image.id).title == "Written meanwhile"


def test_two_who_add_the_same_image_lose_nothing(
    programs: list[Lookalike], loop: Loop, host: ImageHost
) -> None:
    url = host.add("new.png", png(3))
    titled, bare = Entry(url, "A title"), Entry(url, tags=["tagged"])

    async def run() -> list[Outcome]:
        # Nobody writes before both have seen that there is no such image.
        async with programs[0].database.begin() as connection:
            await connection.execute(text("LOCK TABLE images IN SHARE MODE"))
            upserts = [
                asyncio.create_task(program.indexer.upsert("web", entry))
                for program, entry in zip(programs, (titled, bare), strict=True)
            ]
            waiting = text(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'images'::regclass"
            )
            async with programs[0].database.engine.connect() as watcher, asyncio.timeout(60):
                while await watcher.scalar(waiting) != 2:
                    await watcher.rollback()
                    await asyncio.sleep(0)
        return [await upsert for upsert in upserts]

    assert sorted(outcome.status for outcome in loop.run(run())) == ["indexed", "updated"]
    now = found(programs, loop, titled.id)
    assert (now.title, now.tags) == ("A title", ["tagged"])


def test_what_was_deleted_is_not_described(
    programs: list[Lookalike], loop: Loop, image: ImageRow, host: ImageHost
) -> None:
    one, other = programs
    loop.run(other.indexer.delete_all(EVERYTHING))
    with pytest.raises(NotFound, match="no longer in the index"):
        loop.run(one.indexer.describe(image, Entry(image.url, "Late")))
    # A refresh brings nothing back, and an upsert does.
    assert loop.run(one.indexer.upsert("refresh", Entry(image.url))).status == "failed"
    assert loop.run(one.catalog.count()) == loop.run(one.vectors.count()) == 0
    assert loop.run(one.indexer.upsert("web", Entry(image.url))).status == "indexed"


def test_an_upsert_and_a_delete_at_once_leave_an_image_or_none(
    programs: list[Lookalike], loop: Loop, image: ImageRow
) -> None:
    one, other = programs
    known = replace(image)

    async def run() -> Outcome:
        async with held(one, 2):
            deleting = asyncio.create_task(other.indexer.delete([known]))
            entry = Entry(image.url, "Changed")
            changing = asyncio.create_task(one.indexer.upsert("web", entry))
        await deleting
        return await changing

    outcome = loop.run(run())
    left = loop.run(one.catalog.find(image.id))
    assert outcome.status in ("indexed", "updated")
    assert (left is None) == (loop.run(one.vectors.count()) == 0)


def test_edits_of_one_field_by_two_are_both_made(
    programs: list[Lookalike], loop: Loop, image: ImageRow
) -> None:
    async def run() -> None:
        async with held(programs[0], 2):
            edits = [
                asyncio.create_task(
                    program.indexer.describe(
                        image,
                        Entry(image.url),
                        edit=Edit(field="tags", how="add", text=f"tag {number}").of,
                    )
                )
                for number, program in enumerate(programs)
            ]
        await asyncio.gather(*edits)

    loop.run(run())
    assert sorted(found(programs, loop, image.id).tags) == ["tag 0", "tag 1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a red boat", "a boat"),
        ("red boat", "boat"),
        ("a boat, red", "a boat,"),
        ("a bored  man", "a bo  man"),
        ("a boat", "a boat"),
    ],
)
def test_a_removed_word_leaves_one_blank(
    programs: list[Lookalike], loop: Loop, image: ImageRow, before: str, after: str
) -> None:
    indexer = programs[0].indexer
    loop.run(indexer.describe(image, Entry(image.url, before)))
    removal = Edit(field="title", how="remove", text="red")
    loop.run(indexer.describe(image, Entry(image.url), edit=removal.of))
    assert found(programs, loop, image.id).title == after


def test_an_edit_that_is_too_long_fails_alone(
    programs: list[Lookalike], loop: Loop, image: ImageRow
) -> None:
    describe = programs[0].indexer.describe
    edit = Edit(field="title", how="add", text="x" * 600).of

    async def run() -> list[Any]:
        await describe(image, Entry(image.url), edit=edit)
        return await asyncio.gather(
            describe(image, Entry(image.url), edit=edit),
            describe(image, Entry(image.url, description="A boat")),
            return_exceptions=True,
        )

    too_long, status = loop.run(run())
    assert isinstance(too_long, InvalidRequest)
    assert status == "updated"
    row = found(programs, loop, image.id)
    assert (row.title, row.description) == ("x" * 600, "A boat")


def test_a_reindex_keeps_what_is_written_meanwhile(
    programs: list[Lookalike], loop: Loop, image: ImageRow, host: ImageHost
) -> None:
    one, other = programs

    async def run() -> None:
        async with one.database.begin() as connection:
            table = one.vectors.table.name
            await connection.execute(text(f"UPDATE {table} SET labels = NULL"))

        async def reindex() -> None:
            async for _ in one.reindexer.run(one.index.spaces.all):
                pass

        async with held(one, 2):
            described = asyncio.create_task(
                other.indexer.describe(image, Entry(image.url, tags=["meanwhile"]))
            )
            reindexing = asyncio.create_task(reindex())
        await described
        await reindexing

    loop.run(run())
    tagged = passing(one.vectors, Filters(tags=["meanwhile"]), order="newest", limit=9)
    assert [position.id for position in loop.run(tagged)] == [image.id]
