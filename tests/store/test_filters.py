"""Filtered vector searches, compared with an exact scan of 20,000 rows."""

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import text

from app.encoding.encoder import Encoder
from app.encoding.onnx_model import OnnxModel
from app.encoding.weights import BUILTIN_DIRECTORY
from app.pictures.colours import Colour
from app.settings import Settings, read_settings
from app.store.database import Database, open_database
from app.store.filters import Box, Filters, facets_of, metadata_label
from app.store.hnsw import build, drop
from app.store.images import Entry
from app.store.nearest import FILE_DIGITS, Beyond
from app.store.spaces import open_vectors
from app.store.vectors import NewVector, VectorTable
from tests.samples import facts

ROWS = 20_000
LIMIT = 10
SHARES = (50, 20, 10, 5, 1, 0.5, 0.1, 0.05)
FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)
DATABASE = "filters"


def vectors(seed: int, number: int) -> Any:
    """Unit vectors in a 16-dimensional subspace, like those of encoders."""
    directions = np.random.default_rng(7).normal(size=(16, 512))
    made = np.random.default_rng(seed).normal(size=(number, 16)) @ directions
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


VECTORS = vectors(0, ROWS).astype(np.float16).astype(np.float32)
TAGGED = {
    share: np.random.default_rng(int(share * 100)).random(ROWS) * 100 < share for share in SHARES
}


def row(place: int) -> NewVector:
    tags = [f"p{share}" for share in SHARES if TAGGED[share][place]]
    day = FIRST_DAY + timedelta(days=place % 1000)
    colours: list[Colour] = [{"name": "red", "rgb": "#ff0000", "share": 1.0}] * (place % 4 == 0)
    picture = facts(
        width=place,
        height=ROWS - place,
        format="PNG" if place % 3 else "JPEG",
        exif={
            "Model": f"Camera {place % 7}",
            "DateTime": day.strftime("%Y:%m:%d %H:%M:%S"),
            **(
                {
                    "GPSLatitude": f"{place % 90}",
                    "GPSLatitudeRef": "N",
                    "GPSLongitude": f"{1 + place % 179}",
                    "GPSLongitudeRef": "W" if place % 2 else "E",
                }
                if place % 5 == 0
                else {}
            ),
        },
        colours=colours,
    )
    url = f"https://host{place % 11}.example.com/{place}.jpg"
    entry = Entry(url, "", "", tags, {"sku": f"A{place % 100}", "sold": place % 2 == 0})
    return NewVector(entry, picture, f"{place:016x}{place:048x}", VECTORS[place])


IDS = [row(place).entry.id for place in range(ROWS)]
PLACES = {image_id: place for place, image_id in enumerate(IDS)}


class Indexed:
    """A table of 20,000 vectors, with synchronous searches."""

    def __init__(self, database: Database, store: VectorTable) -> None:
        self.database = database
        self.store = store

    def nearest(self, vector: Any, filters: Filters, **options: Any) -> list[tuple[UUID, float]]:
        async def run() -> list[tuple[UUID, float]]:
            options.setdefault("limit", LIMIT)
            found = await self.store.nearest(vector, filters=filters, **options)
            await self.database.engine.dispose()
            return found

        return asyncio.run(run())


@pytest.fixture(scope="module")
def indexed(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Indexed]:
    import psycopg

    from tests.conftest import named

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE migrated")
    database = open_database(
        read_settings(
            database_url=named(postgres, DATABASE), data_dir=tmp_path_factory.mktemp("filters")
        )
    )
    encoder = Encoder(OnnxModel(BUILTIN_DIRECTORY, name="builtin"), source="builtin")
    store = open_vectors(database, encoder)

    async def fill() -> None:
        await drop(database, store.index)
        for first in range(0, ROWS, 2000):
            async with database.begin() as connection:
                await store.upsert(connection, [row(p) for p in range(first, first + 2000)])
        async for _ in build(database, store.index, rows=ROWS):
            pass
        async with database.begin() as connection:
            await connection.execute(text(f"ANALYZE {store.table.name}"))
        await database.engine.dispose()

    asyncio.run(fill())
    yield Indexed(database, store)
    encoder.close()
    database.sync_engine.dispose()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def exact(vector: Any, passing: Any) -> list[int]:
    """The row numbers of the ten nearest vectors that pass, by numpy."""
    similarities = np.where(passing, VECTORS @ vector, -2)
    best = np.argsort(-similarities)[:LIMIT]
    return [int(place) for place in best if passing[place]]


@pytest.mark.parametrize("share", SHARES)
def test_a_filtered_search_returns_the_limit_at_every_selectivity(
    indexed: Indexed, share: float
) -> None:
    recalls: list[float] = []
    for query in vectors(1, 20):
        found = indexed.nearest(query, Filters(tags=[f"p{share}"]))
        right = exact(query, TAGGED[share])
        assert len(found) == len(right) == min(LIMIT, TAGGED[share].sum())
        assert all(TAGGED[share][PLACES[image_id]] for image_id, _ in found)
        similarities = [similarity for _, similarity in found]
        assert similarities == sorted(similarities, reverse=True)
        recalls.append(len({PLACES[i] for i, _ in found} & set(right)) / len(right))
    assert np.mean(recalls) >= 0.95


PLACE = np.arange(ROWS)


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (Filters(formats=["jpeg"]), PLACE % 3 == 0),
        (Filters(formats=["JPEG", "PNG"], colours=["red"]), PLACE % 4 == 0),
        (Filters(hosts=["Host3.example.com"]), PLACE % 11 == 3),
        (Filters(cameras=["camera 2"]), PLACE % 7 == 2),
        (Filters(orientations=["portrait"]), PLACE <= 9743),
        (Filters(metadata={"sku": "A7"}), PLACE % 100 == 7),
        (Filters(metadata={"sku": "A8", "sold": True}), PLACE % 100 == 8),
        (Filters(metadata={"sku": "A7", "sold": True}), PLACE < 0),
        (Filters(min_width=19_995), PLACE >= 19_995),
        (Filters(min_height=10_000, min_width=9_000), (PLACE >= 9000) & (PLACE <= 10_000)),
        (Filters(located=True), PLACE % 5 == 0),
        (Filters(located=False), PLACE % 5 != 0),
        (Filters(taken_after=FIRST_DAY + timedelta(days=998)), PLACE % 1000 >= 998),
        (Filters(taken_before=FIRST_DAY + timedelta(days=1)), PLACE % 1000 == 0),
        (
            Filters(box=Box(0.5, -1, 10.5, 60.5)),
            (PLACE % 10 == 0) & (PLACE % 90 <= 60) & (1 + PLACE % 179 <= 10),
        ),
        # Across the date line.
        (
            Filters(box=Box(170, -90, -170, 90)),
            (PLACE % 5 == 0) & (1 + PLACE % 179 >= 170),
        ),
        (Filters(tags=["p50", "p10"], hosts=["host1.example.com", "host2.example.com"]), None),
    ],
)
def test_each_filter_returns_exactly_the_rows_that_pass(
    indexed: Indexed, filters: Filters, passing: Any
) -> None:
    if passing is None:
        passing = TAGGED[50] & TAGGED[10] & np.isin(PLACE % 11, (1, 2))
    [query] = vectors(2, 1)
    found = {PLACES[image_id] for image_id, _ in indexed.nearest(query, filters)}
    right = exact(query, passing)
    assert len(found) == len(right)
    assert all(passing[place] for place in found)
    assert len(found & set(right)) >= 0.9 * len(right)


EVIL = (
    "'; DROP TABLE images; --",
    "' OR '1'='1",
    "x' UNION SELECT version() --",
    "{a,b}",
    '"}',
    "\\",
    "%s %(x)s :y $1",
    "a" * 300,
)


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    "field", ["formats", "orientations", "colours", "hosts", "cameras", "tags"]
)
def test_filter_values_are_bound_parameters(indexed: Indexed, field: str, evil: str) -> None:
    [query] = vectors(3, 1)
    given: dict[str, Any] = {field: [evil]}
    assert indexed.nearest(query, Filters(**given)) == []
    assert indexed.nearest(query, Filters(metadata={evil: evil})) == []
    assert indexed.nearest(query, Filters(metadata={"sku": evil})) == []
    assert len(indexed.nearest(query, Filters())) == LIMIT


def test_pages_by_distance_neither_skip_nor_repeat(indexed: Indexed) -> None:
    [query] = vectors(4, 1)
    for filters, passing in ((Filters(), PLACE >= 0), (Filters(tags=["p20"]), TAGGED[20])):
        pages: list[UUID] = []
        beyond: Beyond | None = None
        for _ in range(5):
            page = indexed.nearest(query, filters, beyond=beyond)
            pages += [image_id for image_id, _ in page]
            last = page[-1][1]
            shown = [
                f"{PLACES[image_id]:0{FILE_DIGITS}x}"
                for image_id, similarity in page
                if similarity <= last + 1e-6
            ]
            beyond = Beyond(1 - last - 1e-7, shown)
        assert len(set(pages)) == len(pages) == 50
        order = np.argsort(-np.where(passing, VECTORS @ query, -2))[:50]
        assert len({PLACES[image_id] for image_id in pages} & set(order.tolist())) >= 47


def test_facets_count_the_rows_that_pass(indexed: Indexed) -> None:
    async def run(filters: Filters) -> Any:
        counts = await indexed.store.facets(filters)
        await indexed.database.engine.dispose()
        return counts

    counts = asyncio.run(run(Filters()))
    assert (counts.total, counts.approximate) == (ROWS, False)
    assert counts.values["format"] == {"png": 13_333, "jpeg": 6667}
    assert counts.values["colour"] == {"red": 5000}
    assert len(counts.values["host"]) == 11
    assert counts.values["tag"]["p50"] == TAGGED[50].sum()
    # The most frequent ones of each key.
    assert {value.partition("=")[0] for value in counts.values["metadata"]} == {"sku", "sold"}
    assert sum(value.startswith("sku=") for value in counts.values["metadata"]) == 20
    assert counts.taken == (FIRST_DAY, FIRST_DAY + timedelta(days=999))
    assert counts.located == 4000
    some = asyncio.run(run(Filters(hosts=["host1.example.com"], colours=["red"])))
    assert some.total == ((PLACE % 11 == 1) & (PLACE % 4 == 0)).sum()
    assert some.values["format"]["png"] + some.values["format"]["jpeg"] == some.total
    # Hosts are counted without the filter on hosts: another could be added.
    assert len(some.values["host"]) == 11
    assert some.values["host"]["host1.example.com"] == some.total


def test_facets_of_many_images_are_estimated(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.facet_counts.MOST_COUNTED", 5000)

    async def run() -> Any:
        counts = await indexed.store.facets(Filters())
        await indexed.database.engine.dispose()
        return counts

    counts = asyncio.run(run())
    assert counts.approximate
    assert counts.total == pytest.approx(ROWS, rel=0.3)
    assert counts.values["format"]["png"] == pytest.approx(13_333, rel=0.3)


def test_labels_are_normalised_and_unique() -> None:
    picture = facts(exif={"Make": "Canon", "Model": "EOS  5D"}, width=100, height=98)
    facets = facets_of(
        picture, url="file:///photos/a.jpg", tags=["Red  Boat", "red boat"], metadata={"n": 3}
    )
    assert facets.labels == [
        "format:jpeg",
        "orientation:square",
        "camera:canon eos 5d",
        "tag:red boat",
        "metadata:n=3",
    ]
    assert metadata_label("Key", True) == "metadata:key=true"
    assert not Filters()
    assert Filters(located=False)


def test_a_table_of_an_older_version_gets_the_missing_columns(
    settings: Settings, database_url: str
) -> None:
    database = open_database(settings)
    encoder = Encoder(OnnxModel(BUILTIN_DIRECTORY, name="builtin"), source="builtin")
    store = open_vectors(database, encoder)
    with database.sync_engine.begin() as connection:
        for column in ("labels", "taken_at", "width", "height", "latitude", "longitude"):
            connection.execute(text(f"ALTER TABLE {store.table.name} DROP COLUMN {column}"))
    database.sync_engine.dispose()
    store = open_vectors(database, encoder)

    async def run() -> list[Any]:
        async with database.begin() as connection:
            await store.upsert(connection, [row(20)])
        found = await store.nearest(VECTORS[20], limit=1, filters=Filters(formats=["PNG"]))
        await database.close()
        return found

    assert len(asyncio.run(run())) == 1
    encoder.close()
