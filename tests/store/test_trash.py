"""The trash: nothing shows what is in it, and what is restored is as it was."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.lookalike import Lookalike, open_lookalike
from app.search.query import Query, Term
from app.settings import Settings
from app.store.catalog import EVERYTHING, Selection
from app.store.encoders import drop_vectors
from app.store.filters import Filters
from app.store.images import UPLOAD_SCHEME, Entry
from app.store.listing import passing
from app.store.spaces import open_vectors
from tests.conftest import opened
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import altered, png

SAID: dict[str, Any] = {
    "title": "A harbour",
    "description": "Boats at dusk",
    "tags": ["boat", "it's"],
    "metadata": {"sku": "a17", "price": 3.25, "sold": False, "number": 2**53 + 1},
}


async def rows_of(lookalike: Lookalike, image_id: UUID) -> dict[str, Any]:
    """Everything that the database has of an image, by table."""
    async with lookalike.database.begin() as connection:
        names = await connection.scalars(
            text("SELECT relname FROM pg_class WHERE relname LIKE 'data\\_%' AND relkind = 'r'")
        )
        tables = {"images": "id", "keypoints": "image_id"} | dict.fromkeys(names, "node_id")
        found: dict[str, Any] = {}
        for table, key in tables.items():
            query = text(
                f"SELECT to_jsonb(t) - '{{id}}'::text[] FROM {table} t WHERE {key}::text = :id"
            )
            rows = (await connection.scalars(query, {"id": str(image_id)})).all()
            found[table] = [json.dumps(row, sort_keys=True) for row in rows]
        return found


async def make_keypoints(lookalike: Lookalike) -> None:
    while await lookalike.keypoint_maker.make_some():
        pass


async def embed_missing(lookalike: Lookalike) -> None:
    async for _ in lookalike.reindexer.run(lookalike.index.spaces.all):
        pass


@pytest.fixture
def entry(lookalike: Lookalike, loop: Loop, host: ImageHost) -> Entry:
    """An image with all that one may have, beside another one."""
    entry = Entry(host.add("a.png", png(1)), **SAID)
    other = Entry(host.add("b.png", png(2)), title="A harbour")
    loop.run(lookalike.indexer.upsert_urls([entry, other]))
    loop.run(make_keypoints(lookalike))
    return entry


def shown(lookalike: Lookalike, loop: Loop, entry: Entry) -> dict[str, bool]:
    """Where an image is shown."""
    image_id, now = entry.id, lookalike.vectors

    async def collect() -> dict[str, set[UUID]]:
        similar = await lookalike.searcher.search(
            Query([Term(png(1))], min_similarity=-1, limit=50)
        )
        images = await lookalike.catalog.newest(limit=50)
        filtered = await passing(now, Filters(tags=["boat"]), order="newest", limit=50)
        copies = await lookalike.duplicates.find(
            cursor=None, limit=50, min_similarity=-1, max_bits=64
        )
        return {
            "search": {hit.image.id for hit in similar.hits + similar.below},
            "words": set(await now.worded("boat", limit=50, filters=Filters())),
            "list": {image.id for image in images},
            "found": set(await lookalike.catalog.find_all([image_id])),
            "text": {i.id for i in await lookalike.catalog.newest(Selection(text="dusk"), limit=9)},
            "filter": {position.id for position in filtered},
            "same bytes": set((await lookalike.catalog.same_bytes([_sha(1)])).values()),
            "walk": {i.id for i in await lookalike.catalog.walk(after=None, limit=50)},
            "fetch": set(await now.fetch([image_id])),
            "keypoints": set(await lookalike.index.keypoints.find([image_id])),
            "duplicates": {hit.image.id for group in copies.groups for hit in group},
        }

    return {place: image_id in ids for place, ids in loop.run(collect()).items()}


def _sha(seed: int) -> str:
    return hashlib.sha256(png(seed)).hexdigest()


def test_nothing_shows_a_trashed_image_and_a_restore_brings_back_everything(
    lookalike: Lookalike, loop: Loop, host: ImageHost, entry: Entry
) -> None:
    loop.run(lookalike.indexer.upsert("web", Entry(host.add("copy.jpg", altered(png(1))))))
    before, rows = shown(lookalike, loop, entry), loop.run(rows_of(lookalike, entry.id))
    assert all(before.values()), before
    counts = loop.run(lookalike.index.stats())
    assert loop.run(lookalike.trash.put([entry.id])).number == 1
    assert not any(shown(lookalike, loop, entry).values())
    assert not any(loop.run(rows_of(lookalike, entry.id)).values())
    stats = loop.run(lookalike.index.stats())
    assert (stats.images, stats.vectors, stats.trash) == (2, 2, 1)
    assert loop.run(lookalike.vectors.facets(Filters())).total == 2
    assert loop.run(lookalike.catalog.count(EVERYTHING)) == 2
    [trashed] = loop.run(lookalike.trash.table.newest(limit=9))
    assert (trashed.id, trashed.url, trashed.title) == (entry.id, entry.url, "A harbour")
    assert loop.run(lookalike.trash.restore([entry.id])) == 1
    assert loop.run(rows_of(lookalike, entry.id)) == rows
    assert shown(lookalike, loop, entry) == before
    after = loop.run(lookalike.index.stats())
    assert after.model_copy(update={"tables": [], "encoder": counts.encoder}) == counts.model_copy(
        update={"tables": []}
    )
    assert loop.run(lookalike.trash.restore([entry.id])) == 0


def test_vectors_of_all_encoders_are_restored_but_those_of_dropped_ones(
    settings: Settings, loop: Loop, encoder: Encoder, host: ImageHost, tmp_path: Path
) -> None:
    entries = [Entry(host.url(f"seed/{seed}.png")) for seed in range(3)]
    ids = [entry.id for entry in entries]
    with opened(settings, loop, encoder) as first:
        loop.run(first.indexer.upsert_urls(entries))
    changed = settings.model_copy(update={"encoder": str(write_clip(tmp_path / "tiny"))})
    with loop.entered(open_lookalike(changed, announce=lambda _: None)) as second:
        loop.run(embed_missing(second))
        before = [loop.run(rows_of(second, image_id)) for image_id in ids]
        assert all(len(rows) == 4 and all(map(len, rows.values())) for rows in before)
        loop.run(second.trash.put(ids))
        loop.run(second.trash.restore(ids[:1]))
        assert loop.run(rows_of(second, ids[0])) == before[0]
        with second.database.set_up() as connection:
            drop_vectors(connection, first.vectors.table.name)
        assert loop.run(second.trash.restore(None)) == 2
        assert len(loop.run(second.vectors.fetch(ids))) == 3
    with opened(settings, loop, encoder) as first:
        assert not loop.run(first.vectors.fetch(ids))
        loop.run(embed_missing(first))
        assert len(loop.run(first.vectors.fetch(ids))) == 3


def test_images_of_an_older_schema_are_restored_beside_newer_ones(
    lookalike: Lookalike, loop: Loop, entry: Entry, host: ImageHost
) -> None:
    """A later migration may add columns and drop some; what was trashed before it is restored."""
    other = Entry(host.add("b.png", png(2)))
    loop.run(lookalike.trash.put([entry.id]))

    async def run(statement: str) -> Any:
        async with lookalike.database.begin() as connection:
            result = await connection.execute(text(statement))
            return result.all() if result.returns_rows else None

    loop.run(run("ALTER TABLE images ADD COLUMN stars integer NOT NULL DEFAULT 3"))
    loop.run(run("UPDATE images SET stars = 5"))
    loop.run(run("UPDATE trash SET image = image || '{\"forgotten\": 1}'"))
    loop.run(lookalike.trash.put([other.id]))
    assert loop.run(lookalike.trash.restore(None)) == 2
    stars = loop.run(run("SELECT id, stars FROM images"))
    assert {row.id: row.stars for row in stars} == {entry.id: 3, other.id: 5}
    assert all(shown(lookalike, loop, entry)[place] for place in ("search", "words", "keypoints"))


def test_indexing_a_trashed_url_restores_it(
    lookalike: Lookalike, loop: Loop, host: ImageHost, entry: Entry
) -> None:
    rows = loop.run(rows_of(lookalike, entry.id))
    loop.run(lookalike.trash.put([entry.id]))
    embedded = lookalike.encoder.images.items
    outcome = loop.run(lookalike.indexer.upsert("web", Entry(entry.url)))
    assert (outcome.status, outcome.id) == ("unchanged", entry.id)
    assert lookalike.encoder.images.items == embedded
    restored = loop.run(rows_of(lookalike, entry.id))
    assert {t: r for t, r in restored.items() if t != "images"} == {
        t: r for t, r in rows.items() if t != "images"
    }
    # Other bytes at that URL, by now.
    loop.run(lookalike.trash.put([entry.id]))
    host.add("a.png", png(3))
    assert loop.run(lookalike.indexer.upsert("web", Entry(entry.url))).status == "updated"
    image = loop.run(lookalike.catalog.find(entry.id))
    assert image is not None
    assert (image.title, image.metadata, image.sha256) == ("A harbour", SAID["metadata"], _sha(3))
    assert loop.run(lookalike.trash.table.count()) == 0


def test_what_does_not_index_does_not_restore(
    lookalike: Lookalike, loop: Loop, host: ImageHost, entry: Entry
) -> None:
    image = loop.run(lookalike.catalog.find(entry.id))
    assert image is not None
    loop.run(lookalike.trash.put([entry.id]))
    refreshed = loop.run(lookalike.indexer.upsert("refresh", Entry(entry.url)))
    assert refreshed.status == "failed"
    host.pictures.pop("a.png")
    assert loop.run(lookalike.indexer.upsert("web", Entry(entry.url))).status == "failed"
    with pytest.raises(Exception, match="no longer in the index"):
        loop.run(lookalike.indexer.describe(image, Entry(entry.url, title="B")))
    assert loop.run(lookalike.trash.table.count()) == 1


def test_an_image_is_in_the_index_or_in_the_trash(
    lookalike: Lookalike, loop: Loop, entry: Entry
) -> None:
    """Whoever writes an image that is being moved waits, and then restores it."""

    async def race() -> None:
        for _ in range(6):
            moving = lookalike.trash.put([entry.id])
            writing = lookalike.indexer.upsert("web", Entry(entry.url))
            restoring = lookalike.trash.restore([entry.id])
            await asyncio.gather(moving, writing, restoring)
            there = await lookalike.catalog.find(entry.id)
            trashed = await lookalike.trash.table.newest(limit=9)
            assert (there is None) == (entry.id in {image.id for image in trashed})
            await lookalike.trash.restore(None)
            image = await lookalike.catalog.find(entry.id)
            assert image is not None
            assert (image.title, image.metadata) == ("A harbour", SAID["metadata"])

    loop.run(race())


def test_uploads_are_kept_in_the_trash_and_go_when_it_is_emptied(
    lookalike: Lookalike, loop: Loop, tmp_path: Path
) -> None:
    media = tmp_path / "data" / "media"
    outcomes = [loop.run(lookalike.indexer.upsert_upload(png(n), title=f"{n}")) for n in (1, 2)]
    ids = [outcome.id for outcome in outcomes if outcome.id]
    files = [media / _sha(n)[:2] / _sha(n) for n in (1, 2)]
    loop.run(lookalike.trash.put(ids))
    assert all(file.exists() for file in files)
    # The same bytes again, under another name.
    outcome = loop.run(lookalike.indexer.upsert_upload(png(1), title="other"))
    assert (outcome.status, outcome.id) == ("unchanged", ids[0])
    assert loop.run(lookalike.trash.empty(None)) == 1
    assert [file.exists() for file in files] == [True, False]
    image = loop.run(lookalike.catalog.find(ids[0]))
    assert image is not None
    assert image.title == "1"
    assert image.url == UPLOAD_SCHEME + _sha(1)


def test_files_elsewhere_are_never_deleted(
    lookalike: Lookalike, loop: Loop, tmp_path: Path
) -> None:
    file = tmp_path / "mine.png"
    file.write_bytes(png(1))
    entry = Entry(str(file))
    loop.run(lookalike.indexer.upsert("file", entry))
    loop.run(lookalike.trash.put([entry.id]))
    loop.run(lookalike.trash.empty([entry.id]))
    assert loop.run(lookalike.trash.table.count()) == 0
    assert file.read_bytes() == png(1)


def test_upkeep_deletes_what_is_old(lookalike: Lookalike, loop: Loop, entry: Entry) -> None:
    other = next(i for i in loop.run(lookalike.catalog.newest(limit=9)) if i.id != entry.id)
    loop.run(lookalike.trash.put([entry.id, other.id]))

    async def age() -> None:
        async with lookalike.database.begin() as connection:
            old = "trashed_at = now() - interval '30 days 1 minute'"
            await connection.execute(
                text(f"UPDATE trash SET {old} WHERE image_id = :id"), {"id": entry.id}
            )

    loop.run(age())
    loop.run(lookalike.jobs.keep_up())
    assert [image.id for image in loop.run(lookalike.trash.table.newest(limit=9))] == [other.id]


def test_the_vectors_of_what_is_restored_have_their_table(
    lookalike: Lookalike, loop: Loop, entry: Entry, encoder: Encoder
) -> None:
    """Searches by the index of the table find it, also after the table was made anew."""
    loop.run(lookalike.trash.put([entry.id]))
    with lookalike.database.set_up() as connection:
        drop_vectors(connection, lookalike.vectors.table.name)
    open_vectors(lookalike.database, encoder)
    loop.run(lookalike.trash.restore([entry.id]))
    assert set(loop.run(lookalike.vectors.fetch([entry.id]))) == {entry.id}
