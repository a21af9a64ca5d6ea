"""One encoder's vectors: a table of `halfvec` rows under an HNSW index of cosine distance.

The table is the one that LlamaIndex's PGVectorStore makes and reads (`llama_index.py` opens it so);
nothing on the way of a search or an upsert imports LlamaIndex, which takes two seconds.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
from pgvector.sqlalchemy import HALFVEC
from psycopg.types.json import Jsonb
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    Connection,
    Index,
    MetaData,
    String,
    Table,
    cast,
    column,
    delete,
    func,
    literal,
    select,
    text,
)
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.encoding.encoder import Encoder, Vector
from app.store.catalog import Entry
from app.store.database import Database, stage_rows
from app.store.facet_counts import FacetCounts, facet_counts
from app.store.filters import NO_FILTERS, Described, Filters, facets_of
from app.store.hnsw import hnsw_index, make_only
from app.store.nearest import (
    FACETS,
    Beyond,
    facet_columns,
    facet_indexes,
    local_settings,
    nearest,
    newest,
    worded,
)

Untyped: TypeAlias = Any

# pgvector's own defaults (its README, "HNSW").
HNSW_M = 16
HNSW_EF_CONSTRUCTION = 64
HNSW_OPERATORS = "halfvec_cosine_ops"

_STAGED = {
    "node_id": "text",
    "text": "text",
    "metadata_": "jsonb",
    "embedding": "real[]",
    **FACETS,
}


@dataclass(frozen=True, slots=True)
class NewVector:
    """A vector to store, with the image it is of; no field of the entry is None.

    `picture` is what the columns for filters are made of.
    """

    entry: Entry
    picture: Described
    sha256: str
    vector: Vector


class VectorTable:
    """Reads and writes one encoder's vectors.

    `dimensions` is the length of a vector; `m` and `ef_construction` are those of pgvector's HNSW.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        dimensions: int,
        m: int = HNSW_M,
        ef_construction: int = HNSW_EF_CONSTRUCTION,
    ) -> None:
        self.database = database
        self.name = name
        self.dimensions = dimensions
        self.m = m
        self.ef_construction = ef_construction
        self.table = vector_table(f"data_{name}", dimensions)

    @classmethod
    def for_encoder(cls, database: Database, encoder: Encoder) -> "VectorTable":
        """Return the table of an encoder's vectors, which may not exist yet (see `set_up`)."""
        return cls(database, table_name(encoder), dimensions=encoder.dimensions)

    @property
    def index(self) -> Index:
        """The HNSW index that the parameters describe."""
        return hnsw_index(
            # A table of its own, so that asking twice does not give one table two indexes.
            self.table.to_metadata(MetaData()),
            operators=HNSW_OPERATORS,
            m=self.m,
            ef_construction=self.ef_construction,
        )

    def set_up(self, connection: Connection) -> None:
        """Create the table, its columns and its indexes where they are missing."""
        columns, indexes = _existing(connection, self.table)
        if not columns:
            self.table.create(connection)
        quoted = connection.dialect.identifier_preparer.quote(self.table.name)
        for facet, kind in FACETS.items():
            # A table of an older version, or one that LlamaIndex made, lacks what filters need.
            if columns and facet not in columns:
                connection.execute(text(f"ALTER TABLE {quoted} ADD COLUMN {facet} {kind}"))
        copy = self.table.to_metadata(MetaData())
        unique = Index(f"{self.table.name}_node_id", copy.c.node_id, unique=True)
        for index in (unique, *facet_indexes(copy)):
            if index.name not in indexes:
                index.create(connection)
        make_only(connection, self.index)

    async def nearest(
        self,
        vector: Vector,
        *,
        limit: int,
        filters: Filters = NO_FILTERS,
        beyond: Beyond | None = None,
    ) -> list[tuple[UUID, float]]:
        """Return the ids nearest to a unit vector with their cosine similarities, best first.

        There are `limit` of them if as many images pass the filters, however few these are.
        """
        async with self.database.begin() as connection:
            rows = await nearest(
                connection, self.table, vector, limit=limit, filters=filters, beyond=beyond
            )
        return [(UUID(row.node_id), _similarity(row.distance)) for row in rows]

    async def neighbours(
        self, ids: Sequence[UUID], *, limit: int
    ) -> dict[UUID, list[tuple[UUID, float]]]:
        """Return what `nearest` would for each of these images, itself included."""
        mine, others = self.table.alias("mine"), self.table.alias("others")
        distance = others.c.embedding.cosine_distance(mine.c.embedding).label("distance")
        nearest = (
            select(others.c.node_id.label("other"), distance)
            .order_by(distance)
            .limit(limit)
            .lateral()
        )
        query = (
            select(mine.c.node_id, nearest.c.other, nearest.c.distance)
            .select_from(mine.join(nearest, literal(True)))
            .where(mine.c.node_id.in_(_texts(ids)))
            .order_by(nearest.c.distance)
        )
        found: dict[UUID, list[tuple[UUID, float]]] = {}
        async with self.database.begin() as connection:
            await connection.execute(*local_settings(limit))
            for row in await connection.execute(query):
                pair = (UUID(row.other), _similarity(row.distance))
                found.setdefault(UUID(row.node_id), []).append(pair)
        return found

    async def newest(self, filters: Filters, *, limit: int) -> list[UUID]:
        """Return images that pass the filters, the last added first."""
        async with self.database.begin() as connection:
            return await newest(connection, self.table, filters, limit=limit)

    async def worded(self, words: str, *, limit: int, filters: Filters) -> list[UUID]:
        """Return the images whose title, description, tags or file name have the words, best first.

        The words are as in a web search: all must be there, `"…"` is a phrase, `-` excludes.
        """
        async with self.database.begin() as connection:
            return await worded(connection, self.table, words, limit=limit, filters=filters)

    async def facets(self, filters: Filters) -> FacetCounts:
        """Count the images that pass the filters, by what else they could be filtered by."""
        async with self.database.begin() as connection:
            return await facet_counts(connection, self.table, filters)

    async def fetch(self, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        """Return the vectors of those images that have one, float32 of unit length."""
        query = select(self.table.c.node_id, self.table.c.embedding).where(
            self.table.c.node_id.in_(_texts(ids))
        )
        async with self.database.begin() as connection:
            rows = await connection.execute(query)
            return {UUID(row[0]): np.array(row[1], np.float32) for row in rows}

    async def embedded(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return, for those ids that have a vector, the sha256 of the bytes it was made from."""
        query = select(self.table.c.node_id, self.table.c.metadata_["sha256"].astext).where(
            self.table.c.node_id.in_(_texts(ids))
        )
        async with self.database.begin() as connection:
            return {UUID(row[0]): row[1] for row in await connection.execute(query)}

    async def without_facets(self, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        """Return the vectors of those images that filters do not find (see `NewVector`)."""
        query = select(self.table.c.node_id).where(
            self.table.c.node_id.in_(_texts(ids)), self.table.c.labels.is_(None)
        )
        async with self.database.begin() as connection:
            bare = [UUID(node_id) for node_id in await connection.scalars(query)]
        return await self.fetch(bare)

    async def count(self) -> int:
        """Return the number of vectors."""
        return await self._number(select(func.count()).select_from(self.table))

    async def count_without_facets(self) -> int:
        """Return the number of vectors that filters do not find."""
        return await self._number(select(func.count()).where(self.table.c.labels.is_(None)))

    async def upsert(self, connection: AsyncConnection, rows: Sequence[NewVector]) -> None:
        """Insert vectors, or replace those of the same images, in the caller's transaction.

        No two of them may be of one URL.
        """
        await stage_rows(connection, "staged_vectors", _STAGED, map(_staged, rows))
        columns: list[ColumnClause[Any]] = [column(name) for name in _STAGED]
        staged = sql_table("staged_vectors", *columns)
        embedding = cast(staged.c.embedding, self.table.c.embedding.type)
        # In one order, so that two writers of the same images wait and do not deadlock.
        selected = [embedding if c.name == "embedding" else c for c in staged.c]
        ordered = select(*selected).order_by(staged.c.node_id)
        statement = insert(self.table).from_select(list(_STAGED), ordered)
        replaced = {name: statement.excluded[name] for name in _STAGED if name != "node_id"}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["node_id"], set_=replaced)
        )

    async def remove(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        """Remove the vectors of images, as part of the caller's transaction."""
        await connection.execute(delete(self.table).where(self.table.c.node_id.in_(_texts(ids))))

    async def _number(self, query: Untyped) -> int:
        async with self.database.begin() as connection:
            return await connection.scalar(query) or 0


def table_name(encoder: Encoder) -> str:
    """Return the name of an encoder's table, before which PGVectorStore puts `data_`."""
    slug = re.sub(r"[^a-z0-9]+", "_", encoder.model.name.lower()).strip("_")[:24]
    return f"{slug}_{encoder.model.fingerprint[:8]}"


def vector_table(name: str, dimensions: int) -> Table:
    """Return the table that PGVectorStore describes for `use_jsonb` and `use_halfvec`.

    The columns that filters need stand beside its own.
    """
    table = Table(
        name,
        MetaData(),
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        Column("text", String, nullable=False),
        Column("metadata_", JSONB),
        Column("node_id", String),
        Column("embedding", HALFVEC(dimensions)),
        *facet_columns(),
        schema="public",
    )
    Index(f"{name.removeprefix('data_')}_idx_1", table.c.metadata_["ref_doc_id"].astext)
    return table


def node_metadata(entry: Entry, *, sha256: str) -> dict[str, Any]:
    """Return what LlamaIndex keeps of an image beside its vector.

    It is what `node_to_metadata_dict` (llama_index.core.vector_stores.utils) makes of the
    `ImageDocument` of `llama_index.image_node`, written down so that storing an image imports
    nothing of LlamaIndex; a test compares the two.
    """
    said: dict[str, Any] = {"url": entry.url, "sha256": sha256}
    if entry.title:
        said["title"] = entry.title
    if entry.description:
        said["description"] = entry.description
    if entry.tags:
        said["tags"] = list(entry.tags)
    node = {"id_": str(entry.id), "embedding": None, "metadata": said, **_NODE}
    return {
        **said,
        "_node_content": json.dumps(node, ensure_ascii=False),
        "_node_type": "ImageDocument",
        **dict.fromkeys(("document_id", "doc_id", "ref_doc_id"), "None"),
    }


_NODE: dict[str, Any] = {
    "excluded_embed_metadata_keys": [],
    "excluded_llm_metadata_keys": [],
    "relationships": {},
    "metadata_template": "{key}: {value}",
    "metadata_separator": "\n",
    "image_resource": None,
    "audio_resource": None,
    "video_resource": None,
    "text_template": "{metadata_str}\n\n{content}",
    "class_name": "ImageDocument",
    "text": "",
}


def _existing(connection: Connection, table: Table) -> tuple[set[str], set[str]]:
    """Return the names of a table's columns and indexes; none if there is no such table."""
    columns = text(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
    )
    indexes = text(
        "SELECT indexname FROM pg_indexes WHERE tablename = :name AND schemaname = :schema"
    )
    return (
        set(connection.scalars(columns, {"name": f"{table.schema}.{table.name}"})),
        set(connection.scalars(indexes, {"name": table.name, "schema": table.schema})),
    )


def _staged(row: NewVector) -> tuple[object, ...]:
    entry = row.entry
    facets = facets_of(
        row.picture, url=entry.url, tags=entry.tags or (), metadata=entry.metadata or {}
    )
    return (
        *(str(entry.id), "", Jsonb(node_metadata(entry, sha256=row.sha256)), row.vector.tolist()),
        *(getattr(facets, name) for name in FACETS),
    )


def _texts(ids: Sequence[UUID]) -> list[str]:
    return [str(image_id) for image_id in ids]


def _similarity(distance: float) -> float:
    return max(-1.0, min(1.0, 1 - distance))
