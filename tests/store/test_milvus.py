"""The outbox of Milvus, its rows and expressions, and what happens while it is away.

`test_milvus_server.py` has a real one.
"""

import asyncio
import re
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import text

from app.lookalike import Lookalike
from app.problems import MilvusUnavailable, WriteConflict, WrongSetting
from app.settings import read_settings
from app.store import cascade
from app.store.database import Database, open_database
from app.store.encoders import drop_vectors
from app.store.filters import Box, Filters
from app.store.hnsw import existing
from app.store.index import open_index
from app.store.index_kinds import rebuild_index
from app.store.milvus import client, outbox
from app.store.milvus.client import Brought, Milvus
from app.store.milvus.rows import StoredRow, expression, fields_of, label_hash
from app.store.near_urls import near_urls
from app.store.nearest import Beyond
from app.store.row_counts import row_count
from app.store.vectors import VectorTable
from tests.conftest import Server, settings_of
from tests.image_host import ImageHost
from tests.live import Loop
from tests.samples import png
from tests.store.milvus_tables import DIMENSIONS, LIMIT, Tabled, made, row

VECTORS = made(3000).astype(np.float16).astype(np.float32)
NOWHERE = "http://127.0.0.1:1"


class Brings(Milvus):
    """A Milvus that brings these ids, whatever is asked."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        super().__init__(NOWHERE)
        self.ids = ids
        # As it has them, of each id.
        self.vectors: dict[int, Any] = {}
        self.asked = 0

    def search(self, name: str, vectors: Any, **options: Any) -> list[Brought]:
        assert name == "brought"
        self.asked += 1
        ids = self.ids[: options["limit"]]
        whole = len(ids) == options["limit"]
        return [
            Brought(ids, 1 - float(self.vectors[ids[-1]] @ vector)) if whole else Brought(ids)
            for vector in vectors
        ]


@pytest.fixture
def database(database_url: str, tmp_path: Any) -> Generator[Database]:
    database = open_database(settings_of(database_url, tmp_path))
    yield database
    asyncio.run(database.close())


def in_milvus(database: Database, milvus: Milvus) -> Tabled:
    """An empty table whose index is said to be in Milvus."""
    tabled = Tabled.of(database, milvus, "noted", wanted="halfvec")
    with database.set_up() as connection:
        outbox.note_changes(connection, tabled.vectors.table)
        outbox.add_collection(connection, tabled.vectors.table, "brought", "active")
    row_count(tabled.vectors.table).collection = "brought"
    return tabled


@pytest.fixture
def tabled(database: Database) -> Tabled:
    return in_milvus(database, Brings())


def noted(tabled: Tabled) -> dict[int, int]:
    """Return the versions of the rows in the outbox."""
    with tabled.database.sync_engine.begin() as connection:
        found = connection.execute(text("SELECT row_id, version FROM vector_outbox ORDER BY 1"))
        return dict(found.tuples().all())


def places(first: int, last: int) -> list[Any]:
    return [row(place, VECTORS[place], [f"t{place}"]) for place in range(first, last)]


def ids(tabled: Tabled) -> list[int]:
    with tabled.database.sync_engine.begin() as connection:
        return list(connection.scalars(text("SELECT id FROM data_noted ORDER BY id")))


def ids_by_place(tabled: Tabled) -> list[int]:
    """Return the ids of rows that `places` made; rows are written by their images' ids."""
    with tabled.database.sync_engine.begin() as connection:
        found = connection.execute(text("SELECT node_id, id FROM data_noted"))
        by_image = dict(found.tuples().all())
    return [by_image[str(new.entry.id)] for new in places(0, len(by_image))]


CHANGES = {
    "a new vector": "UPDATE data_noted SET embedding = (SELECT embedding FROM data_noted "
    "WHERE id = 2) WHERE id = 1",
    "a new label": "UPDATE data_noted SET labels = array_append(labels, 'tag:x') WHERE id = 1",
    "no label": "UPDATE data_noted SET labels = NULL WHERE id = 1",
    "a place": "UPDATE data_noted SET latitude = 1, longitude = 2 WHERE id = 1",
    "a size": "UPDATE data_noted SET width = 3 WHERE id = 1",
    "a time": "UPDATE data_noted SET taken_at = now() WHERE id = 1",
    "deleted": "DELETE FROM data_noted WHERE id = 1",
}


def test_what_is_written_is_noted_and_again_if_it_is_replaced(tabled: Tabled) -> None:
    tabled.write(places(0, 3))
    first = noted(tabled)
    assert sorted(first) == ids(tabled)
    tabled.write([row(1, VECTORS[7], ["t1"])])
    again = noted(tabled)
    assert again.keys() == first.keys()
    assert [i for i in first if first[i] != again[i]] == [ids_by_place(tabled)[1]]


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_noted(tabled: Tabled, change: str) -> None:
    tabled.write(places(0, 3))
    tabled.execute("DELETE FROM vector_outbox")
    tabled.execute(CHANGES[change])
    assert list(noted(tabled)) == [1]


def test_what_milvus_has_not_is_not_noted(tabled: Tabled) -> None:
    tabled.write(places(0, 3))
    tabled.execute("DELETE FROM vector_outbox")
    tabled.execute("UPDATE data_noted SET metadata_ = '{}', text = 'x'")
    tabled.execute("UPDATE data_noted SET width = width, labels = labels")
    assert not noted(tabled)


def test_a_change_that_is_rolled_back_is_not_noted(tabled: Tabled) -> None:
    tabled.write(places(0, 1))
    tabled.execute("DELETE FROM vector_outbox")
    with tabled.database.sync_engine.connect() as connection:
        connection.execute(text("DELETE FROM data_noted"))
        connection.rollback()
    assert not noted(tabled)


def test_an_emptied_table_is_noted(tabled: Tabled) -> None:
    tabled.write(places(0, 3))
    tabled.execute("DELETE FROM vector_outbox")
    tabled.execute("TRUNCATE data_noted")
    assert list(noted(tabled)) == [1, 2, 3]


def test_every_way_to_write_images_is_noted(server: Server, host: ImageHost) -> None:
    """Uploads, edits, the trash and back, and what is deleted for good."""
    lookalike: Lookalike = server.lookalike
    table = lookalike.vectors.table

    def noted_then() -> int:
        with lookalike.database.sync_engine.begin() as connection:
            gone = connection.execute(text("DELETE FROM vector_outbox RETURNING row_id"))
            return len(gone.all())

    with lookalike.database.set_up() as connection:
        outbox.note_changes(connection, table)
    host.pictures["a.png"] = png(1)
    [added] = server.upsert([{"url": host.url("pictures/a.png")}])
    assert noted_then() == 1
    server.upsert([{"url": host.url("pictures/a.png"), "tags": ["x"]}])
    assert noted_then() == 1
    deleted = server.client.delete(f"/api/images/{added['id']}")
    assert (deleted.status_code, noted_then()) == (204, 1)
    server.upsert([{"url": host.url("pictures/a.png")}])
    assert noted_then() == 1


def test_only_what_is_unchanged_since_is_marked_as_told(tabled: Tabled) -> None:
    tabled.write(places(0, 3))
    told = list(noted(tabled).items())
    tabled.write([row(0, VECTORS[9], [])])

    async def mark() -> None:
        async with tabled.database.begin() as connection:
            await outbox.mark_applied(connection, tabled.vectors.table, told)

    tabled.run(mark)
    assert tabled.waiting() == (1, 2)


def test_what_a_writer_changes_at_the_moment_is_neither_waited_for_nor_marked(
    tabled: Tabled,
) -> None:
    tabled.write(places(0, 2))
    told = list(noted(tabled).items())

    async def mark_and_remove() -> None:
        async with tabled.database.begin() as connection:
            await outbox.mark_applied(connection, tabled.vectors.table, told)
            await outbox.remove_applied(
                connection, tabled.vectors.table, datetime.max.replace(tzinfo=UTC)
            )

    with tabled.database.sync_engine.begin() as writer:
        writer.execute(text("UPDATE data_noted SET width = 9 WHERE id = 1"))
        tabled.run(mark_and_remove)
        assert list(noted(tabled)) == [1]
    assert tabled.waiting() == (1, 0)


def test_one_process_tells_at_a_time(tabled: Tabled) -> None:
    async def lock_twice() -> bool:
        async with tabled.database.begin() as one, tabled.database.begin() as other:
            assert await outbox.lock(one, tabled.vectors.table)
            return await outbox.lock(other, tabled.vectors.table)

    assert tabled.run(lock_twice) is False


def many(database: Database, milvus: Milvus) -> Tabled:
    """A table of more rows than are compared one by one, and nothing in the outbox."""
    tabled = in_milvus(database, milvus)
    tabled.write(places(0, len(VECTORS)))
    tabled.execute("DELETE FROM vector_outbox")
    tabled.analyse()
    tabled.forget()
    if isinstance(milvus, Brings):
        milvus.vectors = dict(zip(ids_by_place(tabled), VECTORS, strict=True))
    return tabled


def test_what_is_noted_is_found_and_what_is_gone_is_not(database: Database) -> None:
    brings = Brings()
    tabled = many(database, brings)
    rows = ids_by_place(tabled)
    brings.ids = rows[100:400]
    query = VECTORS[2000]
    images = [new.entry.id for new in places(0, len(VECTORS))]
    assert images[2000] not in tabled.nearest(query)
    tabled.write([row(2000, VECTORS[2000], ["new"])])
    assert tabled.nearest(query)[0] == images[2000]
    # Milvus still brings it, and Postgres knows better.
    tabled.execute("DELETE FROM data_noted WHERE id = :id", id=rows[150])
    assert images[150] not in tabled.nearest(VECTORS[150])
    found = tabled.run(lambda: tabled.vectors.neighbours([images[2000], images[120]], limit=5))
    assert found[images[2000]][0] == (images[2000], pytest.approx(1, abs=1e-3))
    assert images[120] == found[images[120]][0][0]
    assert len(found[images[120]]) == 5
    # Milvus brings nothing yet of what was stored a moment ago.
    brings.ids = []
    found = tabled.run(lambda: tabled.vectors.neighbours([images[2000]], limit=5))
    assert found[images[2000]][0][0] == images[2000]


def test_pages_go_on_behind_the_last_and_have_what_is_noted(database: Database) -> None:
    brings = Brings()
    tabled = many(database, brings)
    rows, query = ids_by_place(tabled), VECTORS[5]
    similarities = VECTORS @ query
    order = [int(place) for place in np.argsort(-similarities)]
    images = [new.entry.id for new in places(0, len(VECTORS))]
    # All but those at odd places come from Milvus, as far as it is asked; those from the outbox.
    odd = order[1:60:2]
    tabled.write([row(place, VECTORS[place], ["new"]) for place in odd])
    brings.ids = [rows[place] for place in order if place not in odd]
    seen: list[UUID] = []
    beyond = None
    for _ in range(4):
        page = tabled.run(
            lambda beyond=beyond: tabled.vectors.nearest(query, limit=10, beyond=beyond)
        )
        seen += [image_id for image_id, _ in page]
        last = page[-1]
        place = images.index(last[0])
        beyond = Beyond(1 - last[1], [f"{place:016x}"])
    assert len(set(seen)) == len(seen)
    assert set(seen) == {images[place] for place in order[: len(seen)]}


def test_what_is_noted_and_far_takes_no_place_of_what_milvus_has_not_brought_yet(
    database: Database,
) -> None:
    brings = Brings()
    tabled = many(database, brings)
    rows, query = ids_by_place(tabled), VECTORS[5]
    order = [int(place) for place in np.argsort(-(VECTORS @ query))]
    images = [new.entry.id for new in places(0, len(VECTORS))]
    # Of the nearest, Milvus brings more that are gone since than it is asked for beside the others.
    gone, right = order[:65], order[65:75]
    brings.ids = [rows[place] for place in order]
    for place in gone:
        tabled.execute("DELETE FROM data_noted WHERE id = :id", id=rows[place])
    tabled.write([row(place, VECTORS[place], ["new"]) for place in order[-20:]])
    assert tabled.nearest(query) == [images[place] for place in right]
    # One that Milvus has in its old place says nothing of how far it has brought the rest.
    tabled.write([row(order[66], VECTORS[order[-1]], ["moved"])])
    found = tabled.nearest(query)
    assert found == [images[place] for place in [right[0], *right[2:], order[75]]]
    # Nor is any more asked for because what it has brought is noted, too.
    tabled.execute("UPDATE data_noted SET width = width + 1")
    brings.asked = 0
    assert tabled.nearest(VECTORS[order[0]])
    assert brings.asked <= 2


def test_a_process_that_was_idle_learns_that_the_index_is_in_milvus_now(
    database: Database,
) -> None:
    brings = Brings()
    tabled = many(database, brings)
    brings.ids = ids_by_place(tabled)[:100]
    images = [new.entry.id for new in places(0, len(VECTORS))]
    searched = [
        lambda: tabled.vectors.nearest(VECTORS[2000], limit=LIMIT),
        lambda: tabled.vectors.neighbours([images[2000]], limit=LIMIT),
        lambda: near_urls(
            tabled.database,
            tabled.vectors.table,
            VECTORS[2000],
            limit=LIMIT,
            above=0,
            outside=tabled.vectors.outside,
        ),
    ]
    for asked, search in enumerate(searched):
        row_count(tabled.vectors.table).collection = None
        tabled.forget()
        tabled.run(search)
        assert brings.asked == asked + 1


def test_urls_have_what_milvus_brings_and_what_is_noted(database: Database) -> None:
    brings = Brings()
    tabled = many(database, brings)
    rows, images = ids_by_place(tabled), [new.entry.id for new in places(0, len(VECTORS))]
    tabled.execute(
        "INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format, exif, title, "
        "description, tags, thumbnail) SELECT node_id::uuid, metadata_->>'url', id::text, 0, 0, "
        "1, 1, 'PNG', '{}', '', '', '{}', '' "
        "FROM data_noted"
    )
    brings.ids = rows[:300]
    tabled.write([row(place, VECTORS[place], ["new"]) for place in (1000, 2998, 2999)])

    def nearest(place: int, *, above: float = 0.999) -> list[UUID]:
        found = tabled.run(
            lambda: near_urls(
                tabled.database,
                tabled.vectors.table,
                VECTORS[place],
                limit=3,
                above=above,
                outside=tabled.vectors.outside,
            )
        )
        return [image.id for image in found]

    assert nearest(1000) == [images[1000]]
    assert nearest(20) == [images[20]]
    assert nearest(2000) == []
    # More of the nearest are gone than are brought beside those wanted; others noted are far.
    order = [int(place) for place in np.argsort(-(VECTORS @ VECTORS[20]))]
    brings.ids = [rows[place] for place in order]
    for place in order[:60]:
        tabled.execute("DELETE FROM data_noted WHERE id = :id", id=rows[place])
    assert nearest(20, above=-1) == [images[place] for place in order[60:63]]


@pytest.fixture
def away(database: Database, monkeypatch: pytest.MonkeyPatch) -> Tabled:
    monkeypatch.setattr(client, "SEARCH_S", 0.2)
    return many(database, Milvus(NOWHERE))


def test_while_milvus_is_away_searches_of_many_say_so(away: Tabled) -> None:
    with pytest.raises(MilvusUnavailable, match="Milvus says"):
        away.nearest(VECTORS[0])
    # At once, and with the reason.
    with pytest.raises(MilvusUnavailable, match="Milvus says"):
        away.nearest(VECTORS[0])


def test_while_milvus_is_away_few_are_still_compared_and_writers_go_on(away: Tabled) -> None:
    place = 17
    found = away.nearest(VECTORS[0], filters=Filters(tags=[f"t{place}"]))
    assert found == [places(place, place + 1)[0].entry.id]
    away.write([row(place, VECTORS[place], ["changed"]) for place in range(5)])
    assert away.waiting() == (5, 0)
    with pytest.raises(MilvusUnavailable):
        away.apply()
    assert away.waiting() == (5, 0)


def test_a_server_is_ready_without_its_milvus_and_says_so(server: Server, host: ImageHost) -> None:
    vectors = server.lookalike.vectors
    assert "milvus" not in server.client.get("/readyz").json()
    assert "lookalike_milvus_up" not in server.client.get("/metrics").text
    with server.lookalike.database.set_up() as connection:
        outbox.note_changes(connection, vectors.table)
        outbox.add_collection(connection, vectors.table, "brought", "active")
    row_count(vectors.table).collection = "brought"
    host.pictures["a.png"] = png(1)
    server.upsert([{"url": host.url("pictures/a.png")}])
    for path in ("/readyz", "/api/stats"):
        answer = server.client.get(path)
        assert answer.status_code == 200
        said = answer.json()["milvus"]
        assert (said["answers"], said["waiting"], said["settling"]) == (False, 1, 0)
        assert "MILVUS_URL" in said["reason"]
    # One image is compared without it.
    assert len(server.search(png(1))) == 1


def test_a_process_that_knows_no_milvus_says_so(database: Database) -> None:
    tabled = many(database, Milvus(NOWHERE))
    tabled.vectors.outside.milvus = None
    with pytest.raises(MilvusUnavailable, match="MILVUS_URL"):
        tabled.nearest(VECTORS[0])


def test_the_collections_of_a_table_that_is_dropped_are_to_be_dropped(tabled: Tabled) -> None:
    tabled.write(places(0, 3))
    with tabled.database.set_up() as connection:
        drop_vectors(connection, "data_noted")
        assert outbox.states(connection) == {"brought": ("data_noted", "dropped")}
        assert "data_noted" not in cascade.tables(connection)
    assert not noted(tabled)


def test_only_one_index_of_a_table_is_made_at_a_time_whatever_the_kinds(
    database: Database, database_url: str, tmp_path: Any
) -> None:
    met = list[type[Exception]]()

    def rebuild(database: Database, milvus: Milvus, kind: Any) -> None:
        vectors = VectorTable(database, "noted", dimensions=DIMENSIONS, milvus=milvus)

        async def run() -> None:
            async for _ in rebuild_index(vectors, kind):
                pass

        try:
            asyncio.run(run())
        except (WriteConflict, MilvusUnavailable) as problem:
            met.append(type(problem))

    class Meanwhile(Brings):
        def create(self, name: str, dimensions: int) -> None:
            for kind in ("bit", "milvus"):
                other = open_database(settings_of(database_url, tmp_path))
                rebuild(other, self, kind)
                asyncio.run(other.close())
            raise MilvusUnavailable

    tabled = in_milvus(database, Brings())
    rebuild(database, Meanwhile(), "milvus")
    assert met == [WriteConflict, WriteConflict, MilvusUnavailable]
    with database.sync_engine.begin() as connection:
        there = existing(connection, tabled.vectors.table)
    assert [index.kind for index in there] == ["halfvec"]


def test_nothing_is_noted_where_there_is_no_milvus(database: Database) -> None:
    tabled = Tabled.of(database, Brings(), "plain", wanted="auto")
    tabled.write(places(0, 5))
    assert tabled.waiting() == (0, 0)
    with database.sync_engine.begin() as connection:
        triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'data_plain'::regclass"
        assert connection.scalar(text(triggers)) == 0


def test_rows_are_numbers_also_where_there_is_none() -> None:
    bare = fields_of(StoredRow(7, None, None, None, None, None, None, None))
    assert bare["labels"] == []
    assert all(isinstance(value, int | float | list) for value in bare.values())
    at = datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)
    full = fields_of(StoredRow(7, ["tag:x"], 640, 480, at, -1.5, 200.0, None))
    assert full["labels"] == [label_hash("tag:x")]
    assert full["taken_at"] == -1_000_000


def test_expressions_have_only_numbers_whatever_labels_say() -> None:
    hostile = ['x") or id > 0 or ("', "ja\\'", "]) or 1 == 1 --", "\0", "🙂"]
    at = datetime(2020, 1, 1, tzinfo=UTC)
    said = expression(
        Filters(
            tags=hostile,
            hosts=hostile,
            metadata={'k"': 'v"'},
            taken_after=at,
            taken_before=at,
            min_width=1,
            min_height=2,
            located=True,
            box=Box(170.0, -1e-7, -170.0, 5.0),
        )
    )
    words = r"array_contains_any|array_contains|labels|taken_at|width|height|latitude|longitude"
    assert re.fullmatch(rf"(({words}|and|or)\b|[-0-9.]+|[<>=]+|[\[\](), ])*", said), said
    assert "-0.0000001" in said
    assert expression(Filters(ranges={"price": (1.0, None)})) == ""


def test_hashes_of_labels_are_63_bits_and_differ() -> None:
    hashes = {label_hash(f"tag:{number}") for number in range(10_000)}
    assert len(hashes) == 10_000
    assert all(0 <= number < 2**63 for number in hashes)


def test_milvus_without_its_url_is_one_clear_line(loop: Loop, tmp_path: Any) -> None:
    settings = read_settings(vector_index="milvus", data_dir=tmp_path)

    async def start() -> None:
        async with open_index(settings, announce=lambda _: None):
            pass

    with pytest.raises(WrongSetting, match="needs MILVUS_URL"):
        loop.run(start())


@pytest.mark.parametrize("url", ["ftp://x", "http://me:secret@host:19530", "host:19530"])
def test_other_urls_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(WrongSetting, match="MILVUS_URL") as refused:
        read_settings(milvus_url=url)
    assert "secret" not in refused.value.detail


def test_a_new_index_says_that_milvus_does_not_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SEARCH_S", 0.2)
    with pytest.raises(WrongSetting, match="MILVUS_URL: Milvus does not answer"):
        Tabled.of(database, Milvus(NOWHERE), "new", wanted="milvus")
