"""One encoder's vectors: a `halfvec` table with an HNSW index, of one of the kinds of scans.py.

The table has the schema of LlamaIndex's PGVectorStore, so that `llama_index.py` can open it. No
search or upsert imports LlamaIndex, which would take two seconds.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb
from sqlalchemy import (
    ColumnClause,
    Connection,
    Index,
    cast,
    column,
    func,
    select,
)
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.encoding.encoder import Encoder, Vector, Vectors
from app.store.database import Database, stage_rows
from app.store.facet_counts import FacetCounts, facet_counts, facet_values
from app.store.filters import NO_FILTERS, Described, Filters, facets_of
from app.store.halfvec import halfvec_bytes
from app.store.images import Entry
from app.store.index_choice import Choice
from app.store.milvus.client import Milvus
from app.store.milvus.outbox import active_query
from app.store.milvus.searching import MilvusIndex
from app.store.nearest import (
    FACETS,
    Beyond,
    conditions,
    given_before,
    most_of_small,
    nearest,
    neighbours,
    sample,
    worded,
)
from app.store.nodes import node_metadata
from app.store.row_counts import row_count
from app.store.scans import SCANS, Kind
from app.store.vector_schema import set_up_index, set_up_table, vector_table
from app.store.word_query import query_tokens

Untyped: TypeAlias = Any

# pgvector's defaults (its README, "HNSW").
HNSW_M = 16
HNSW_EF_CONSTRUCTION = 64
# More than distances of the same vectors differ by.
ROUNDING = 1e-7

_STAGED = {
    "node_id": "text",
    "text": "text",
    "metadata_": "jsonb",
    "embedding": "halfvec",
    **FACETS,
}


@dataclass(frozen=True, slots=True)
class NewVector:
    """A unit vector to store for an image; no field of the entry is None.

    `picture` is the source of the columns that filters use, with the number of its `faces`, if they
    were looked for.
    """

    entry: Entry
    picture: Described
    sha256: str
    vector: Vector
    faces: int | None = None


class VectorTable:
    """Reads and writes one encoder's vectors.

    A vector has `dimensions` components; `m` and `ef_construction` are pgvector's HNSW parameters.
    `kind` is that of the index that is made next, and after `set_up` that of the one there is;
    `choice` is how another one is chosen, if it is known. `outside` is its index in `milvus`, if it
    has that instead.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        dimensions: int,
        m: int = HNSW_M,
        ef_construction: int = HNSW_EF_CONSTRUCTION,
        kind: Kind = "halfvec",
        milvus: Milvus | None = None,
    ) -> None:
        self.database = database
        self.name = name
        self.dimensions = dimensions
        self.m = m
        self.ef_construction = ef_construction
        self.kind: Kind = kind
        self.choice: Choice | None = None
        self.table = vector_table(f"data_{name}", dimensions)
        self.outside = MilvusIndex(database, self.table, milvus)

    @classmethod
    def for_encoder(
        cls, database: Database, encoder: Encoder, *, milvus: Milvus | None = None
    ) -> "VectorTable":
        """Return the table of an encoder's vectors; `set_up` creates it."""
        name = table_name(encoder)
        return cls(database, name, dimensions=encoder.dimensions, milvus=milvus)

    @property
    def index(self) -> Index:
        """The HNSW index of this table's kind, with its parameters."""
        scan = SCANS[self.kind]
        return scan.index(self.table, m=self.m, ef_construction=self.ef_construction)

    def set_up(
        self, connection: Connection, choose: Callable[[Connection], Kind] | None = None
    ) -> None:
        """Create the table, or whatever columns, indexes and trigger it lacks.

        `choose` is called for the kind of a vector index if there is none.
        """
        set_up_table(connection, self.table)
        row_count(self.table).collection = connection.scalar(active_query(self.table))
        if self.outside.is_used:
            return
        self.kind = set_up_index(
            connection,
            self.table,
            choose or (lambda _: self.kind),
            m=self.m,
            ef_construction=self.ef_construction,
        )

    async def nearest(
        self,
        vector: Vector,
        *,
        limit: int,
        filters: Filters = NO_FILTERS,
        beyond: Beyond | None = None,
    ) -> list[tuple[UUID, float]]:
        """Return the ids nearest to a unit vector with their cosine similarities, best first.

        There are `limit` of them, unless fewer images pass the filters.
        """
        if await self.outside.is_there(limit):
            rows = await self.outside.nearest(vector, limit=limit, filters=filters, beyond=beyond)
            return [(UUID(row.node_id), _similarity(row.distance)) for row in rows]
        # An exact search needs no settings, and so no transaction.
        exactly = beyond is not None or (
            not conditions(self.table, filters)
            and row_count(self.table).known(most_of_small(limit)) is True
        )
        async with self.database.reading() if exactly else self.database.begin() as connection:
            rows = await nearest(
                connection,
                self.table,
                vector,
                limit=limit,
                filters=filters,
                beyond=beyond,
                exactly=exactly,
            )
        return [(UUID(row.node_id), _similarity(row.distance)) for row in rows]

    async def neighbours(
        self, ids: Sequence[UUID], *, limit: int, min_similarity: float = -1.0
    ) -> dict[UUID, list[tuple[UUID, float]]]:
        """Return the images nearest to each of these, as `nearest` does, including itself.

        Those of the `limit` nearest that are less similar are left out.
        """
        within = 1 - min_similarity + ROUNDING
        rows = None
        if await self.outside.is_there(limit):
            rows = await self.outside.neighbours(_texts(ids), limit=limit, within=within)
        if rows is None:
            async with self.database.begin() as connection:
                rows = await neighbours(
                    connection, self.table, _texts(ids), limit=limit, within=within
                )
        found: dict[UUID, list[tuple[UUID, float]]] = {}
        for row in rows:
            pair = (UUID(row.other), _similarity(row.distance))
            found.setdefault(UUID(row.node_id), []).append(pair)
        return found

    async def similarities(self, vector: Vector, ids: Sequence[UUID]) -> dict[UUID, float]:
        """Return the cosine similarities of images to a unit vector, by id."""
        distance = self.table.c.embedding.cosine_distance(vector).label("distance")
        query = select(self.table.c.node_id, distance).where(self.table.c.node_id.in_(_texts(ids)))
        async with self.database.reading() as connection:
            rows = await connection.execute(query)
            return {UUID(row.node_id): _similarity(row.distance) for row in rows}

    async def given_before(
        self,
        vector: Vector,
        hashes: Sequence[str],
        *,
        filters: Filters,
        beyond: Beyond,
        left_out: Sequence[UUID] = (),
    ) -> set[str]:
        """Return which of these SHA-256 have an image nearer than `beyond` that passes.

        The images `left_out` do not count.
        """
        async with self.database.reading() as connection:
            return await given_before(
                connection,
                self.table,
                vector,
                hashes,
                filters=filters,
                beyond=beyond,
                left_out=left_out,
            )

    async def worded(self, words: str, *, limit: int, filters: Filters) -> list[UUID]:
        """Return images by words in their title, description, tags or file name, best first.

        `words` is a query as word_query.py reads it.
        """
        # Many words take tens of milliseconds.
        tokens = await asyncio.to_thread(query_tokens, words)
        async with self.database.reading() as connection:
            return await worded(connection, self.table, tokens, limit=limit, filters=filters)

    async def facets(self, filters: Filters) -> FacetCounts:
        """Count the images that pass the filters, by the values of their facets."""
        async with self.database.begin() as connection:
            return await facet_counts(connection, self.table, filters)

    async def facet_values(
        self, filters: Filters, kind: str, *, key: str = "", containing: str = "", limit: int
    ) -> dict[str, int]:
        """Return values of a kind of label that contain a text; see `facet_counts.facet_values`."""
        async with self.database.reading() as connection:
            return await facet_values(
                connection,
                self.table,
                filters,
                kind,
                key=key,
                containing=containing,
                limit=limit,
            )

    async def places(self, filters: Filters, *, limit: int) -> list[tuple[float, float]]:
        """Return the (latitude, longitude) of images that pass the filters and have one."""
        c = self.table.c
        query = select(c.latitude, c.longitude).where(
            *conditions(self.table, filters), c.latitude.is_not(None)
        )
        async with self.database.reading() as connection:
            rows = await connection.execute(query.limit(limit))
            return [(row.latitude, row.longitude) for row in rows]

    async def fetch(self, ids: Sequence[UUID], *, limit: int | None = None) -> dict[UUID, Vector]:
        """Return the vectors of the images that have one: (dimensions,) float32, unit length.

        If the `limit` nearest to them are to be found next, the rows are counted for that, too.
        """
        c, rows, most = self.table.c, row_count(self.table), most_of_small(limit or 0)
        counts = limit is not None and rows.known(most) is None
        more = rows.counting(most) if counts else ()
        query = select(c.node_id, c.embedding, *more).where(c.node_id.in_(_texts(ids)))
        async with self.database.reading() as connection:
            found = (await connection.execute(query)).all()
        if counts and found:
            rows.found(most, *found[0][2:])
        return {UUID(row[0]): np.array(row[1], np.float32) for row in found}

    async def sample(self, limit: int) -> Vectors:
        """Return some of the vectors, evenly spread over the table: (n, dimensions) float32."""
        async with self.database.begin() as connection:
            rows = await sample(connection, self.table, limit=limit)
        return np.array([np.array(row[0], np.float32) for row in rows]).reshape(-1, self.dimensions)

    async def embedded(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return the SHA-256 of the file that each vector was made from, by id."""
        query = select(self.table.c.node_id, self.table.c.metadata_["sha256"].astext).where(
            self.table.c.node_id.in_(_texts(ids))
        )
        async with self.database.reading() as connection:
            return {UUID(row[0]): row[1] for row in await connection.execute(query)}

    async def without_facets(self, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        """Return the vectors of those images that lack the columns that filters use."""
        query = select(self.table.c.node_id).where(
            self.table.c.node_id.in_(_texts(ids)), self.table.c.labels.is_(None)
        )
        async with self.database.reading() as connection:
            found = [UUID(node_id) for node_id in await connection.scalars(query)]
        return await self.fetch(found)

    async def count(self) -> int:
        """Return the number of vectors."""
        return await self._number(select(func.count()).select_from(self.table))

    async def count_without_facets(self) -> int:
        """Return the number of vectors that lack the columns that filters use."""
        return await self._number(select(func.count()).where(self.table.c.labels.is_(None)))

    async def upsert(self, connection: AsyncConnection, rows: Sequence[NewVector]) -> None:
        """Insert vectors or replace those of the same images, in the caller's transaction.

        Each URL may occur only once. The transaction holds the rows of the images: it wrote them,
        or locked them (`Catalog.lock`).
        """
        await stage_rows(connection, "staged_vectors", _STAGED, map(_staged, rows))
        columns: list[ColumnClause[Any]] = [column(name) for name in _STAGED]
        staged = sql_table("staged_vectors", *columns)
        embedding = cast(staged.c.embedding, self.table.c.embedding.type)
        # Ordered, so that two writers of the same images wait for each other and do not deadlock.
        selected = [embedding if c.name == "embedding" else c for c in staged.c]
        ordered = select(*selected).order_by(staged.c.node_id)
        statement = insert(self.table).from_select(list(_STAGED), ordered)
        replaced = {name: statement.excluded[name] for name in _STAGED if name != "node_id"}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["node_id"], set_=replaced)
        )

    async def _number(self, query: Untyped) -> int:
        async with self.database.reading() as connection:
            return await connection.scalar(query) or 0


def table_name(encoder: Encoder) -> str:
    """Return the name of an encoder's table, without PGVectorStore's prefix `data_`."""
    slug = re.sub(r"[^a-z0-9]+", "_", encoder.model.name.lower()).strip("_")[:24]
    return f"{slug}_{encoder.model.fingerprint[:8]}"


def _staged(row: NewVector) -> tuple[object, ...]:
    entry = row.entry
    facets = facets_of(
        row.picture,
        url=entry.url,
        tags=entry.tags or (),
        metadata=entry.metadata or {},
        faces=row.faces,
    )
    return (
        *(
            str(entry.id),
            "",
            Jsonb(node_metadata(entry, sha256=row.sha256)),
            halfvec_bytes(row.vector),
        ),
        *(getattr(facets, name) for name in FACETS),
    )


def _texts(ids: Sequence[UUID]) -> list[str]:
    return [str(image_id) for image_id in ids]


def _similarity(distance: float) -> float:
    return max(-1.0, min(1.0, 1 - distance))
