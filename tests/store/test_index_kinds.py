"""The kinds of vector index: what they find, and how one takes the place of another."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import event, text

from app.problems import WriteConflict
from app.store import cascade, hnsw, index_kinds, scans
from app.store import near_urls as near_urls_module
from app.store import nearest as nearest_module
from app.store.database import Database, open_database
from app.store.filters import NO_FILTERS, Filters
from app.store.hnsw import BUILDING_LOCK, existing
from app.store.images import Entry
from app.store.index_choice import Choice
from app.store.index_kinds import begin_bulk, end_bulk, rebuild_index, set_up_vectors
from app.store.near_urls import near_urls
from app.store.nearest import FILE_DIGITS, Beyond
from app.store.row_counts import row_count
from app.store.scans import SCANS, Kind
from app.store.vectors import NewVector, VectorTable
from tests.conftest import databases, settings_of
from tests.samples import facts

T = TypeVar("T")

ROWS, DIMENSIONS, LIMIT = 2_500, 256, 10
SHARES = (100, 10, 1)
KINDS: tuple[Kind, ...] = ("halfvec", "bit")


def made(seed: int, number: int) -> Any:
    """Unit vectors like the built-in encoder's: of few dimensions, most of them in few components.

    One component is the same in all.
    """
    directions = np.random.default_rng(7).normal(size=(24, DIMENSIONS))
    directions[:, ::2] *= 0.05
    found = np.random.default_rng(seed).normal(size=(number, 24)) @ directions
    found[:, 0] = 1.3 * np.sqrt((found[:, 1:] ** 2).sum(1))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


VECTORS = made(0, ROWS).astype(np.float16).astype(np.float32)
TAGGED = {share: np.random.default_rng(share).random(ROWS) * 100 < share for share in SHARES}


def row(place: int) -> NewVector:
    tags = [f"p{share}" for share in SHARES if TAGGED[share][place]]
    entry = Entry(f"https://example.com/{place}", "", "", tags, {})
    return NewVector(entry, facts(), f"{place:016x}{place:048x}", VECTORS[place])


PLACES = {row(place).entry.id: place for place in range(ROWS)}


@dataclass
class Filled:
    """A table of vectors, with synchronous calls."""

    database: Database
    vectors: VectorTable

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            found = await work()
            await self.database.engine.dispose()
            return found

        return asyncio.run(run())

    def nearest(self, vector: Any, **options: Any) -> list[tuple[UUID, float]]:
        return self.run(lambda: self.vectors.nearest(vector, limit=LIMIT, **options))

    def write(self, places: range) -> None:
        async def write() -> None:
            async with self.database.begin() as connection:
                await self.vectors.upsert(connection, [row(place) for place in places])

        self.run(write)

    def kinds(self) -> list[tuple[str, bool]]:
        with self.database.sync_engine.connect() as connection:
            return [(i.kind, i.valid) for i in existing(connection, self.vectors.table)]

    def rebuild(self, kind: Kind) -> list[float]:
        async def rebuild() -> list[float]:
            return [share async for share in rebuild_index(self.vectors, kind)]

        return self.run(rebuild)

    def forget(self) -> None:
        """Let what is known of rows and index be read again."""
        row_count(self.vectors.table)._until = -float("inf")  # pyright: ignore[reportPrivateUsage]


def table(database: Database, name: str, kind: Kind = "halfvec") -> VectorTable:
    vectors = VectorTable(database, name, dimensions=DIMENSIONS, kind=kind)
    with database.set_up() as connection:
        vectors.set_up(connection)
    return vectors


@pytest.fixture(scope="module")
def database(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Database]:
    with databases(postgres) as make:
        database = open_database(settings_of(make(), tmp_path_factory.mktemp("kinds")))
        yield database
        asyncio.run(database.close())


def fill(database: Database, name: str, kind: Kind, rows: int) -> Filled:
    filled = Filled(database, table(database, name, kind))

    async def fill() -> None:
        await begin_bulk(filled.vectors)
        async with database.begin() as connection:
            await filled.vectors.upsert(connection, [row(place) for place in range(rows)])
        async for _ in end_bulk(filled.vectors):
            pass
        async with database.begin() as connection:
            await connection.execute(text(f"ANALYZE {filled.vectors.table.name}"))

    filled.run(fill)
    return filled


@pytest.fixture(scope="module", params=KINDS)
def searched(database: Database, request: pytest.FixtureRequest) -> Filled:
    return fill(database, f"of_{request.param}", request.param, ROWS)


@pytest.fixture(params=KINDS)
def small(database: Database, request: pytest.FixtureRequest) -> Generator[Filled]:
    """A table whose index is replaced."""
    filled = fill(database, "small", request.param, 200)
    yield filled
    with database.sync_engine.begin() as connection:
        cascade.remove(connection, "data_small")
        connection.execute(text("DROP TABLE data_small"))


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> None:
    # The index is used however few rows there are, and however few pass.
    for module in (nearest_module, near_urls_module):
        monkeypatch.setattr(module, "most_of_small", lambda _: 0)
    monkeypatch.setattr(nearest_module, "ROWS_PER_CANDIDATE", 0)
    # Of so few, that signs say too little would not show among more.
    monkeypatch.setattr(scans, "MIN_RERANKED", 100)
    monkeypatch.setattr(index_kinds, "GRACE_S", 0)


def exact(vector: Any, share: int, number: int = LIMIT, *, rows: int = ROWS) -> set[int]:
    similarities = np.where(TAGGED[share][:rows], VECTORS[:rows] @ vector, -2)
    return set(np.argsort(-similarities)[:number].tolist())


def filters_of(share: int) -> Filters:
    return NO_FILTERS if share == 100 else Filters(tags=[f"p{share}"])


@pytest.mark.parametrize("share", SHARES)
def test_each_kind_finds_the_nearest_with_their_similarities(searched: Filled, share: int) -> None:
    recalls: list[float] = []
    for query in made(1, 20):
        found = searched.nearest(query, filters=filters_of(share))
        assert len(found) == LIMIT
        places = [PLACES[image_id] for image_id, _ in found]
        assert all(TAGGED[share][place] for place in places)
        similarities = [similarity for _, similarity in found]
        assert similarities == pytest.approx((VECTORS[places] @ query).tolist(), abs=1e-3)
        assert similarities == sorted(similarities, reverse=True)
        recalls.append(len(set(places) & exact(query, share)) / LIMIT)
    assert np.mean(recalls) >= 0.97


def test_searches_use_the_index_that_there_is(searched: Filled) -> None:
    [query] = made(2, 1)
    ids = [row(place).entry.id for place in range(3)]
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        asked.append((statement, given))

    engine = searched.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    searched.nearest(query)
    searched.nearest(query, filters=filters_of(10))
    searched.run(lambda: searched.vectors.neighbours(ids, limit=5))
    event.remove(engine, "before_cursor_execute", note)
    plans: list[str] = []
    with searched.database.sync_engine.begin() as connection:
        for statement, given in asked:
            if "set_config" in statement:
                connection.exec_driver_sql(statement, given)
            elif "<=>" in statement:
                explained = connection.exec_driver_sql(f"EXPLAIN {statement}", given)
                plans.append("\n".join(explained.scalars()))
    assert len(plans) == 3
    for plan in plans:
        assert f"Index Scan using {searched.vectors.index.name}" in plan


def test_a_query_for_urls_finds_the_same(searched: Filled) -> None:
    with searched.database.sync_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO images (id, url, sha256, dhash, bytes, width, height, format, exif, "
                "title, description, tags, thumbnail) SELECT node_id::uuid, metadata_->>'url', "
                "metadata_->>'sha256', 0, 0, 1, 1, 'PNG', '{}', '', '', '{}', '' "
                f"FROM {searched.vectors.table.name} ON CONFLICT DO NOTHING"
            )
        )
    for query in made(3, 5):
        expected = searched.nearest(query)
        near = searched.run(
            lambda query=query: near_urls(
                searched.database, searched.vectors.table, query, limit=LIMIT, above=-1
            )
        )
        assert [image.id for image in near] == [image_id for image_id, _ in expected]


def test_neighbours_are_those_of_the_vectors(searched: Filled) -> None:
    ids = [row(place).entry.id for place in range(20)]
    found = searched.run(lambda: searched.vectors.neighbours(ids, limit=5))
    hits = [
        len({PLACES[other] for other, _ in found[image_id]} & exact(VECTORS[place], 100, 5))
        for place, image_id in enumerate(ids)
    ]
    assert sum(hits) >= 0.97 * 5 * len(ids)


def test_pages_neither_skip_nor_repeat(searched: Filled) -> None:
    [query] = made(4, 1)
    pages: list[UUID] = []
    beyond: Beyond | None = None
    for _ in range(4):
        page = searched.nearest(query, beyond=beyond)
        pages += [image_id for image_id, _ in page]
        last = page[-1][1]
        shown = [f"{PLACES[i]:0{FILE_DIGITS}x}" for i, s in page if s <= last + 1e-6]
        beyond = Beyond(1 - last - 1e-7, shown)
    assert len(set(pages)) == len(pages) == 4 * LIMIT
    assert len({PLACES[i] for i in pages} & exact(query, 100, 4 * LIMIT)) >= 4 * LIMIT - 1


def test_another_kind_takes_the_place_of_an_index_once_it_is_whole(
    small: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small.vectors.kind
    after: Kind = "bit" if before == "halfvec" else "halfvec"
    seen: list[list[tuple[str, bool]]] = []
    drop_named = hnsw.drop_named

    def noting(*given: Any, **how: Any) -> None:
        seen.append(small.kinds())
        drop_named(*given, **how)

    monkeypatch.setattr(hnsw, "drop_named", noting)
    [query] = made(5, 1)
    assert small.nearest(query)
    assert row_count(small.vectors.table).kind == before
    assert small.rebuild(after)[-1] == 1
    # The old one was there until the new one was whole.
    assert seen[-1] == [(before, True), (after, True)]
    assert small.kinds() == [(after, True)]
    small.forget()
    found = {PLACES[image_id] for image_id, _ in small.nearest(query)}
    assert len(found & exact(query, 100, rows=200)) >= LIMIT - 1
    assert row_count(small.vectors.table).kind == after


def test_what_an_interrupted_rebuild_left_is_replaced(small: Filled) -> None:
    kind = small.vectors.kind
    other: Kind = "bit" if kind == "halfvec" else "halfvec"
    name = SCANS[other].index(small.vectors.table, m=16, ef_construction=64).name
    small.vectors.kind = other
    with small.database.sync_engine.begin() as connection:
        small.vectors.index.create(connection)
        connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(:name)"),
            {"name": name},
        )
    again = table(small.database, "small")
    # What is not whole does not count, and a start leaves it alone.
    assert again.kind == kind
    assert small.kinds() == [(kind, True), (other, False)]
    small.rebuild(other)
    assert small.kinds() == [(other, True)]


def test_searches_go_on_beside_an_index_that_somebody_else_has_made(small: Filled) -> None:
    name = small.vectors.table.name
    with small.database.sync_engine.begin() as connection:
        connection.execute(
            text(f"CREATE INDEX {name}_theirs ON {name} USING hnsw (embedding halfvec_cosine_ops)")
        )
    small.forget()
    [query] = made(9, 1)
    found = small.run(lambda: small.vectors.nearest(query, limit=LIMIT))
    assert {PLACES[image_id] for image_id, _ in found} == exact(query, 100, rows=200)


def test_two_do_not_rebuild_at_once(small: Filled) -> None:
    """A build waits for the transactions that may write; this one writes until it is refused."""
    other: Kind = "bit" if small.vectors.kind == "halfvec" else "halfvec"

    async def run() -> None:
        async with small.database.begin() as connection:
            await connection.execute(text("LOCK data_small IN ROW EXCLUSIVE MODE"))
            first = rebuild_index(small.vectors, other)
            await anext(first)
            while not await connection.scalar(
                text("SELECT count(*) FROM pg_stat_progress_create_index")
            ):
                await anext(first)
            with pytest.raises(WriteConflict):
                async for _ in rebuild_index(small.vectors, other):
                    pass
        assert [share async for share in first][-1] == 1

    small.run(run)
    assert small.kinds() == [(other, True)]


def test_who_begins_second_is_refused_before_anything_is_built(small: Filled) -> None:
    """The first one has its lock, and has not begun to build."""
    before, other = small.kinds(), "bit" if small.vectors.kind == "halfvec" else "halfvec"

    async def run() -> None:
        async with small.database.begin() as connection:
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:lock, to_regclass('data_small')::oid::int)"),
                {"lock": BUILDING_LOCK},
            )
            with pytest.raises(WriteConflict, match="being built already"):
                async for _ in rebuild_index(small.vectors, other):
                    pass

    small.run(run)
    assert small.kinds() == before


def test_an_index_stays_of_its_kind_and_a_start_says_what_is_wanted(small: Filled) -> None:
    kind = small.vectors.kind
    other: Kind = "bit" if kind == "halfvec" else "halfvec"
    said: list[str] = []
    for wanted in (kind, "auto", other):
        vectors = VectorTable(small.database, "small", dimensions=DIMENSIONS)
        with small.database.set_up() as connection:
            set_up_vectors(connection, vectors, wanted, said.append, name="one")
        assert vectors.kind == kind
    assert said == [
        f"The index of one's vectors is still of the kind {kind}: `lookalike vectors rebuild` "
        "makes one as VECTOR_INDEX wants it"
    ]
    assert small.kinds() == [(kind, True)]


@pytest.mark.parametrize("wanted", KINDS)
def test_a_new_index_is_of_the_kind_that_is_wanted(database: Database, wanted: Kind) -> None:
    vectors = VectorTable(database, f"new_{wanted}", dimensions=DIMENSIONS)
    said: list[str] = []
    with database.set_up() as connection:
        set_up_vectors(connection, vectors, wanted, said.append, name="one")
        assert [index.kind for index in existing(connection, vectors.table)] == [wanted]
    assert (vectors.kind, said) == (wanted, [])


GB = 1_000_000_000


@pytest.mark.parametrize(
    ("rows", "memory", "expected"),
    [
        (0, GB, "halfvec"),
        (1_000_000, 16 * GB, "halfvec"),
        (10_000_000, 16 * GB, "bit"),
        (10_000_000, 64 * GB, "halfvec"),
        (100_000_000, 64 * GB, "bit"),
    ],
)
def test_what_does_not_fit_the_memory_is_indexed_by_bits(
    rows: int, memory: int, expected: Kind
) -> None:
    assert Choice("auto", memory).kind(rows, 512) == expected
    assert Choice("halfvec", memory).kind(rows, 512) == "halfvec"
