"""Vectors whose index is in Milvus, with the server that the package `milvus` carries."""

import asyncio
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import text

from app.problems import MilvusUnavailable
from app.store import near_urls as near_urls_module
from app.store import nearest as nearest_module
from app.store import vectors as vectors_module
from app.store.database import Database, open_database
from app.store.encoders import drop_vectors
from app.store.filters import NO_FILTERS, Box, Filters
from app.store.index_kinds import begin_bulk, kind_of, rebuild_index
from app.store.milvus import applying, outbox, searching
from app.store.milvus.applying import Applier
from app.store.milvus.client import Milvus
from app.store.nearest import FILE_DIGITS, Beyond
from tests.conftest import databases, settings_of
from tests.milvus_server import MilvusServer
from tests.store.milvus_tables import LIMIT, SHARES, Tabled, made, queries, row

pytestmark = pytest.mark.slow

ROWS, QUERIES = 20_000, 50
VECTORS = made(ROWS).astype(np.float16).astype(np.float32)
QUERIED = queries(QUERIES)
TAGGED = {f"p{s}": np.random.default_rng(9).random(ROWS) * 100 < s for s in SHARES}
# All that is not much like the first query.
TAGGED["far"] = VECTORS @ QUERIED[0] < np.quantile(VECTORS @ QUERIED[0], 0.7)


def rows(places: range) -> list[Any]:
    return [
        row(place, VECTORS[place], [tag for tag, chosen in TAGGED.items() if chosen[place]])
        for place in places
    ]


@pytest.fixture(scope="session")
def server() -> Generator[MilvusServer]:
    with TemporaryDirectory(prefix="milvus-") as folder:
        server = MilvusServer(Path(folder))
        server.start()
        yield server
        server.close()


@pytest.fixture(scope="session")
def milvus(server: MilvusServer) -> Generator[Milvus]:
    milvus = Milvus(server.url)
    yield milvus
    milvus.close()


@pytest.fixture(scope="module")
def database(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Database]:
    with databases(postgres) as make:
        database = open_database(settings_of(make(), tmp_path_factory.mktemp("milvus")))
        yield database
        asyncio.run(database.close())


@pytest.fixture(scope="module")
def filled(database: Database, milvus: Milvus) -> Tabled:
    """Rows that were indexed in Postgres, moved to Milvus."""
    filled = Tabled.of(database, milvus, "filled", wanted="halfvec")
    filled.run(lambda: begin_bulk(filled.vectors))
    for first in range(0, ROWS, 5000):
        filled.write(rows(range(first, first + 5000)))
    filled.analyse()
    rebuild(filled, "milvus")
    return filled


def rebuild(tabled: Tabled, kind: Any) -> None:
    async def run() -> list[float]:
        return [share async for share in rebuild_index(tabled.vectors, kind)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.store.index_kinds.GRACE_S", 0)
        shares = tabled.run(run)
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.fixture
def small(database: Database, milvus: Milvus) -> Generator[Tabled]:
    """A new table, in Milvus from the start."""
    small = Tabled.of(database, milvus, f"small_{next(_numbers)}", wanted="milvus")
    yield small
    with database.set_up() as connection:
        drop_vectors(connection, small.vectors.table.name)


_numbers = count()


def until(done: Callable[[], bool], what: str, *, within_s: float = 300) -> None:
    deadline = monotonic() + within_s
    while not done():
        assert monotonic() < deadline, what
        sleep(0.5)


@pytest.fixture(params=[False, True], ids=["as it decides", "always Milvus"])
def asked(request: pytest.FixtureRequest) -> None:
    """Whether Milvus is asked even where few rows pass."""
    if request.param:
        request.getfixturevalue("always")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milvus is asked however few rows there are."""
    monkeypatch.setattr(searching, "ROWS_PER_CANDIDATE", 0)
    for module in (nearest_module, near_urls_module, vectors_module, searching):
        monkeypatch.setattr(module, "most_of_small", lambda _: 0)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("share", SHARES)
def test_what_milvus_brings_is_what_comparing_each_row_brings(filled: Tabled, share: float) -> None:
    filters = NO_FILTERS if share == 100 else Filters(tags=[f"p{share}"])
    found = expected = 0
    for query in QUERIED:
        right = filled.right(query, filters)
        found += len(set(right) & set(filled.nearest(query, filters=filters)))
        expected += len(right)
    assert expected >= QUERIES * min(LIMIT, ROWS * share / 100 / 2)
    assert found / expected >= 0.99


@pytest.mark.parametrize("share", [50, 10])
def test_pages_of_what_passes_a_filter_lose_little(filled: Tabled, share: float) -> None:
    filters, query = Filters(tags=[f"p{share}"]), QUERIED[0]
    files = {image(place): rows(range(place, place + 1))[0].sha256 for place in range(ROWS)}
    nearest = filled.vectors.nearest
    shown: list[UUID] = []
    beyond = None
    for _ in range(40):
        found = filled.run(lambda: nearest(query, limit=LIMIT, filters=filters, beyond=beyond))  # noqa: B023
        shown += [image_id for image_id, _ in found]
        beyond = Beyond(1 - found[-1][1], [files[shown[-1]][:FILE_DIGITS]])
    order = np.argsort(-(VECTORS @ query))
    right = [image(place) for place in order if TAGGED[f"p{share}"][place]]
    assert len(set(shown)) == len(shown) == 40 * LIMIT
    assert len(set(shown) & set(right[: len(shown)])) / len(shown) >= 0.99


@pytest.mark.usefixtures("asked")
def test_a_filter_may_keep_away_all_that_is_near(filled: Tabled) -> None:
    filters = Filters(tags=["far"])
    found = filled.nearest(QUERIED[0], filters=filters)
    assert len(found) == LIMIT
    # By a graph that leads away from them, not all are found.
    assert len(set(found) & set(filled.right(QUERIED[0], filters))) > LIMIT / 2


def test_what_is_brought_reaches_as_far_as_its_last(filled: Tabled) -> None:
    [near] = filled.milvus.search(filled.collection, [VECTORS[0]], limit=100, ef=200)
    vectors = filled.vectors.table.name
    query = f"SELECT embedding <=> :vector ::halfvec FROM {vectors} WHERE id = :id"
    with filled.database.sync_engine.begin() as connection:
        given = {"vector": str(VECTORS[0].tolist()), "id": near.ids[-1]}
        assert connection.scalar(text(query), given) == pytest.approx(near.reach, abs=1e-5)
    [near] = filled.milvus.search(filled.collection, [VECTORS[0]], limit=2, ef=200)
    assert near.ids[0] != near.ids[1]
    assert 0 < near.reach < 1


def image(place: int) -> UUID:
    return rows(range(place, place + 1))[0].entry.id


def brought(tabled: Tabled, place: int) -> bool:
    """Return whether Milvus itself brings the row of a place as the nearest."""
    tabled.forget()
    query = f"SELECT id FROM {tabled.vectors.table.name} WHERE node_id = :id"
    with tabled.database.sync_engine.begin() as connection:
        wanted = connection.scalar(text(query), {"id": str(image(place))})
    [found] = tabled.milvus.search(tabled.collection, [VECTORS[place]], limit=5, ef=100)
    return found.ids[:1] == [wanted]


def forget_noted(tabled: Tabled) -> None:
    """Let the outbox forget all: what is found then, Milvus finds."""
    tabled.execute("DELETE FROM vector_outbox")


@pytest.mark.usefixtures("always")
def test_what_a_process_left_is_told_by_the_next(small: Tabled) -> None:
    small.write(rows(range(200)))
    # The process ended between its commit and telling Milvus.
    assert small.milvus.count(small.collection) == 0
    assert small.nearest(VECTORS[7])[0] == image(7)
    assert small.apply() == 1
    assert small.milvus.count(small.collection) == 200
    # At once, although Milvus answers as of some seconds ago.
    assert small.nearest(VECTORS[8])[0] == image(8)
    until(lambda: brought(small, 8), "Milvus does not find what it was told")


@pytest.mark.usefixtures("always")
def test_rows_told_again_and_again_are_there_once_and_deleted_ones_never(small: Tabled) -> None:
    for _ in range(3):
        for turn in range(3):
            tags = [f"turn {turn}"]
            small.write([row(place, VECTORS[place], tags) for place in range(50)])
        small.apply()
    assert small.milvus.count(small.collection) == 50
    small.execute(f"DELETE FROM {small.vectors.table.name} WHERE node_id = :id", id=str(image(3)))
    assert image(3) not in small.nearest(VECTORS[3])
    small.apply()
    assert small.milvus.count(small.collection) == 49
    assert image(3) not in small.nearest(VECTORS[3])


HOSTILE = ['x") or id > 0 or ("', "ja\\'", "]) or 1 == 1 --", "a\nb", "🙂", "%", "null"]


@pytest.mark.usefixtures("always")
def test_hostile_labels_filter_like_others(small: Tabled) -> None:
    small.write([row(place, VECTORS[place], [tag]) for place, tag in enumerate(HOSTILE)])
    small.apply()
    until(lambda: brought(small, 0), "Milvus does not find what it was told")
    forget_noted(small)
    for place, tag in enumerate(HOSTILE):
        assert small.nearest(VECTORS[0], filters=Filters(tags=[tag])) == [image(place)]


@pytest.mark.usefixtures("always")
def test_every_filter_that_milvus_has_is_one_it_understands(small: Tabled) -> None:
    taken = datetime(1960, 1, 1, tzinfo=UTC)
    small.write(rows(range(3)))
    small.execute(
        f"UPDATE {small.vectors.table.name} SET taken_at = :at, latitude = -33.9, "
        "longitude = 179.5, width = 50, height = 60 WHERE node_id = :id",
        at=taken,
        id=str(image(1)),
    )
    small.apply()
    until(lambda: brought(small, 1), "Milvus does not find what it was told")
    forget_noted(small)
    after, before = taken - timedelta(days=1), taken + timedelta(days=1)
    for filters in (
        Filters(taken_after=after, taken_before=before),
        Filters(taken_before=before),
        Filters(located=True),
        Filters(box=Box(170.0, -40.0, -170.0, 1e-7)),
        Filters(box=Box(170.0, -40.0, 180.0, 0.0), min_width=50, min_height=60),
    ):
        assert small.nearest(VECTORS[1], filters=filters) == [image(1)]
    assert set(small.nearest(VECTORS[1], filters=Filters(located=False))) == {image(0), image(2)}
    assert small.nearest(VECTORS[1], filters=Filters(box=Box(0.0, 0.0, 1.0, 1.0))) == []


def test_the_outbox_forgets_what_milvus_finds_by_an_index(
    small: Tabled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "FLUSH_S", 0)
    monkeypatch.setattr(applying, "SETTLE_S", 0)
    small.write(rows(range(2000)))
    applier = Applier(small.database, small.milvus)

    def settled() -> bool:
        small.run(applier.once)
        return small.waiting() == (0, 0)

    until(settled, "the outbox forgets nothing")
    assert brought(small, 1500)
    assert small.milvus.is_indexed(small.collection)


@pytest.mark.usefixtures("always")
def test_an_index_goes_to_milvus_again_and_back(small: Tabled) -> None:
    small.write(rows(range(300)))
    first = small.collection
    rebuild(small, "milvus")
    assert small.collection != first
    assert brought(small, 20)
    # What is written goes on.
    small.write([row(0, VECTORS[0], ["other"])])
    assert small.waiting()[0] == 1
    for kind in ("bit", "halfvec"):
        rebuild(small, kind)
        assert kind_of(small.vectors) == kind
        assert small.waiting() == (0, 0)
        small.write([row(1, VECTORS[1], [kind])])
        assert small.waiting() == (0, 0)
        assert small.nearest(VECTORS[20])[0] == image(20)
    with small.database.sync_engine.begin() as connection:
        assert outbox.states(connection, small.vectors.table.name) == {}


@pytest.mark.usefixtures("always")
def test_milvus_is_killed_and_comes_back(server: MilvusServer, small: Tabled) -> None:
    small.write(rows(range(500)))
    small.apply()
    server.kill()
    applier = Applier(small.database, small.milvus)
    try:
        until(lambda: not answers(small), "Milvus still answers")
        # Indexing goes on.
        small.write(rows(range(500, 520)))
        with pytest.raises(MilvusUnavailable):
            small.run(lambda: applier.apply(small.vectors.table))
        assert small.waiting() == (20, 500)
    finally:
        server.start()
    until(lambda: told(small, applier), "Milvus is told of nothing")
    until(lambda: answers(small), "Milvus does not answer")
    assert small.milvus.count(small.collection) == 520
    for place in (3, 499, 510):
        assert small.nearest(VECTORS[place])[0] == image(place)
        until(lambda place=place: brought(small, place), "what was told is lost")


def answers(tabled: Tabled) -> bool:
    try:
        return bool(tabled.nearest(VECTORS[0]))
    except MilvusUnavailable:
        return False


def told(tabled: Tabled, applier: Applier) -> bool:
    try:
        tabled.run(lambda: applier.once(loading=True))
    except MilvusUnavailable:
        return False
    return tabled.waiting()[0] == 0
