"""The vector store: LlamaIndex's PGVectorStore with what it lacks, and our encoder for LlamaIndex.

One table per encoder, `halfvec` vectors under an HNSW index of cosine distance. Everything
LlamaIndex does with a PGVectorStore works on it.
"""

# LlamaIndex leaves the types of PGVectorStore's constructor, sessions, tables and rows open.
# pyright: reportCallIssue=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilter
from llama_index.vector_stores.postgres import PGVectorStore
from llama_index.vector_stores.postgres.base import DBEmbeddingRow
from psycopg.types.json import Jsonb
from sqlalchemy import (
    Index,
    MetaData,
    cast,
    column,
    delete,
    func,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.sql.elements import ColumnElement

from app.database import Database, driver_errors, stage_rows
from app.encoder import Encoder, Vector
from app.facet_counts import FacetCounts, facet_counts
from app.filters import NO_FILTERS, Filters, facets_of
from app.hnsw import hnsw_index, make_only
from app.llama_filters import filter_clause
from app.nearest import (
    EF_SEARCH,
    FACETS,
    Beyond,
    add_facets,
    facet_indexes,
    local_settings,
    nearest,
    newest,
    worded,
)
from app.nodes import NewVector, image_node

Untyped: TypeAlias = Any

# pgvector's own defaults (its README, "HNSW").
HNSW_M = 16
HNSW_EF_CONSTRUCTION = 64

_NODE = {"node_id": "text", "text": "text", "metadata_": "jsonb", "embedding": "real[]"}
_STAGED = {**_NODE, **FACETS}


class ImageVectorStore(PGVectorStore):
    """One encoder's vectors.

    `add` replaces the rows of known node ids instead of adding copies; filters reach the database
    as bound parameters; settings of a query end with its transaction.
    """

    @classmethod
    def for_encoder(cls, database: Database, encoder: Encoder) -> "ImageVectorStore":
        """Return the store of an encoder's vectors, not yet set up (see `set_up`)."""
        store = cls(
            table_name=vector_table(encoder),
            embed_dim=encoder.dimensions,
            use_jsonb=True,
            use_halfvec=True,
            hnsw_kwargs={
                "hnsw_m": HNSW_M,
                "hnsw_ef_construction": HNSW_EF_CONSTRUCTION,
                "hnsw_ef_search": EF_SEARCH,
                "hnsw_dist_method": "halfvec_cosine_ops",
            },
            initialization_fail_on_error=True,
            engine=database.sync_engine,
            async_engine=database.engine,
        )
        add_facets(store.table)
        return store

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises."""
        return "ImageVectorStore"

    @property
    def table(self) -> Untyped:
        """The SQLAlchemy table."""
        return self._table_class.__table__

    @property
    def index(self) -> Index:
        """The HNSW index that the parameters describe."""
        options = self.hnsw_kwargs or {}
        return hnsw_index(
            # A table of its own, so that asking twice does not give one table two indexes.
            self.table.to_metadata(MetaData()),
            operators=options["hnsw_dist_method"],
            m=options["hnsw_m"],
            ef_construction=options["hnsw_ef_construction"],
        )

    def set_up(self) -> None:
        """Create the table and its indexes where they are missing."""
        self._initialize()

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
        async with self._transaction() as session:
            rows = await nearest(
                session, self.table, vector, limit=limit, filters=filters, beyond=beyond
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
            .where(mine.c.node_id.in_([str(image_id) for image_id in ids]))
            .order_by(nearest.c.distance)
        )
        found: dict[UUID, list[tuple[UUID, float]]] = {}
        async with self._transaction() as session:
            await session.execute(*local_settings(limit))
            for row in await session.execute(query):
                pair = (UUID(row.other), _similarity(row.distance))
                found.setdefault(UUID(row.node_id), []).append(pair)
        return found

    async def vector(self, image_id: UUID) -> Vector | None:
        """Return the vector of an image."""
        return (await self.vectors([image_id])).get(image_id)

    async def embedded(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return, for those ids that have a vector, the sha256 of the bytes it was made from."""
        query = select(self.table.c.node_id, self.table.c.metadata_["sha256"].astext).where(
            self.table.c.node_id.in_([str(image_id) for image_id in ids])
        )
        async with self._transaction() as session:
            return {UUID(row[0]): row[1] for row in await session.execute(query)}

    async def newest(self, filters: Filters, *, limit: int) -> list[UUID]:
        """Return images that pass the filters, the last added first."""
        async with self._transaction() as session:
            return await newest(session, self.table, filters, limit=limit)

    async def worded(self, words: str, *, limit: int, filters: Filters) -> list[UUID]:
        """Return the images whose title, description, tags or file name have the words, best first.

        The words are as in a web search: all must be there, `"…"` is a phrase, `-` excludes.
        """
        async with self._transaction() as session:
            return await worded(session, self.table, words, limit=limit, filters=filters)

    async def facets(self, filters: Filters) -> FacetCounts:
        """Count the images that pass the filters, by what else they could be filtered by."""
        async with self._transaction() as session:
            return await facet_counts(session, self.table, filters)

    async def without_facets(self, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        """Return the vectors of those images that filters do not find (see `NewVector`)."""
        query = select(self.table.c.node_id).where(
            self.table.c.node_id.in_([str(image_id) for image_id in ids]),
            self.table.c.labels.is_(None),
        )
        async with self._transaction() as session:
            bare = [UUID(node_id) for node_id in await session.scalars(query)]
        return await self.vectors(bare)

    async def count_without_facets(self) -> int:
        """Return the number of vectors that filters do not find."""
        query = select(func.count()).where(self.table.c.labels.is_(None))
        async with self._transaction() as session:
            return await session.scalar(query) or 0

    async def count(self) -> int:
        """Return the number of vectors."""
        async with self._transaction() as session:
            return await session.scalar(select(func.count()).select_from(self.table)) or 0

    async def vectors(self, ids: Sequence[UUID]) -> dict[UUID, Vector]:
        """Return the vectors of those images that have one."""
        query = select(self.table.c.node_id, self.table.c.embedding).where(
            self.table.c.node_id.in_([str(image_id) for image_id in ids])
        )
        async with self._transaction() as session:
            rows = await session.execute(query)
            return {UUID(row[0]): np.array(row[1], np.float32) for row in rows}

    async def upsert(self, connection: AsyncConnection, rows: Sequence[NewVector]) -> None:
        """Insert vectors, or replace those of the same images, in the caller's transaction.

        No two of them may be of one URL.
        """
        await stage_rows(connection, "staged_vectors", _STAGED, map(self._staged, rows))
        staged = sql_table("staged_vectors", *(column(name) for name in _STAGED))
        embedding = cast(staged.c.embedding, self.table.c.embedding.type)
        # In one order, so that two writers of the same images wait and do not deadlock.
        columns = [embedding if c.name == "embedding" else c for c in staged.c]
        ordered = select(*columns).order_by(staged.c.node_id)
        statement = insert(self.table).from_select(list(_STAGED), ordered)
        await connection.execute(_replacing(statement, _STAGED))

    def _staged(self, row: NewVector) -> tuple[object, ...]:
        entry = row.entry
        node = self._node_to_table_row(image_node(entry, sha256=row.sha256, vector=row.vector))
        facets = facets_of(
            row.picture, url=entry.url, tags=entry.tags or (), metadata=entry.metadata or {}
        )
        return (
            *(node.node_id, node.text, Jsonb(node.metadata_), node.embedding),
            *(getattr(facets, name) for name in FACETS),
        )

    async def remove(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        """Remove the vectors of images, as part of the caller's transaction."""
        node_ids = [str(image_id) for image_id in ids]
        await connection.execute(delete(self.table).where(self.table.c.node_id.in_(node_ids)))

    def add(self, nodes: Sequence[BaseNode], **_: Untyped) -> list[str]:
        """Upsert nodes; return their ids."""
        self._initialize()
        with self._session() as session, session.begin():
            session.execute(self._upsert_statement(nodes))
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **_: Untyped) -> list[str]:
        """Upsert nodes; return their ids."""
        self._initialize()
        async with self._async_session() as session, session.begin():
            await session.execute(self._upsert_statement(nodes))
        return [node.node_id for node in nodes]

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[AsyncSession]:
        with driver_errors():
            async with self._async_session() as session, session.begin():
                yield session

    def _upsert_statement(self, nodes: Sequence[BaseNode]) -> Untyped:
        # One statement cannot replace a row twice: of one id, the last node counts.
        rows = {node.node_id: self._node_to_table_row(node) for node in nodes}
        statement = insert(self.table).values(
            [{name: getattr(row, name) for name in _NODE} for row in rows.values()]
        )
        return _replacing(statement, _NODE)

    def _create_extension(self) -> None:
        """Do nothing: `database.py` has seen to it, with a message when it may not."""

    def _create_tables_if_not_exists(self) -> None:
        super()._create_tables_if_not_exists()
        with self._session() as session, session.begin():
            name = f"{self.table.name}_node_id"
            connection = session.connection()
            existing = {c["name"] for c in inspect(connection).get_columns(self.table.name)}
            for facet, kind in FACETS.items():
                if facet not in existing:
                    table = connection.dialect.identifier_preparer.quote(self.table.name)
                    connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {facet} {kind}"))
            copy = self.table.to_metadata(MetaData())
            for index in (Index(name, copy.c.node_id, unique=True), *facet_indexes(copy)):
                index.create(connection, checkfirst=True)

    def _create_hnsw_index(self) -> None:
        """Make the index that the parameters describe the only one."""
        with self._session() as session, session.begin():
            make_only(session.connection(), self.index)

    def _get_query_session_settings(self, **kwargs: Untyped) -> list[tuple[str, dict[str, Any]]]:
        statement, parameters = local_settings(kwargs.get("hnsw_ef_search") or 0)
        return [(str(statement), parameters)]

    def _query_with_score(
        self,
        embedding: list[float] | None,
        limit: int = 10,
        metadata_filters: Untyped = None,
        **kwargs: Untyped,
    ) -> list[DBEmbeddingRow]:
        query = self._build_query(embedding, limit, metadata_filters, **kwargs)
        with self._session() as session, session.begin():
            session.execute(*local_settings(max(limit, kwargs.get("hnsw_ef_search") or 0)))
            return [_embedding_row(row) for row in session.execute(query)]

    async def _aquery_with_score(
        self,
        embedding: list[float] | None,
        limit: int = 10,
        metadata_filters: Untyped = None,
        **kwargs: Untyped,
    ) -> list[DBEmbeddingRow]:
        query = self._build_query(embedding, limit, metadata_filters, **kwargs)
        async with self._async_session() as session, session.begin():
            await session.execute(*local_settings(max(limit, kwargs.get("hnsw_ef_search") or 0)))
            return [_embedding_row(row) for row in await session.execute(query)]

    def _build_filter_clause(self, filter_: MetadataFilter) -> ColumnElement[bool]:
        """Return a filter with its key and value as bound parameters."""
        field = self.table.c.metadata_[filter_.key]
        return filter_clause(field, filter_.operator, filter_.value)


def _similarity(distance: float) -> float:
    return max(-1.0, min(1.0, 1 - distance))


def _replacing(statement: Untyped, columns: Iterable[str]) -> Untyped:
    return statement.on_conflict_do_update(
        index_elements=["node_id"],
        set_={name: statement.excluded[name] for name in columns if name != "node_id"},
    )


def _embedding_row(row: Untyped) -> DBEmbeddingRow:
    known = {"id", "node_id", "text", "metadata_", "distance"}
    return DBEmbeddingRow(
        node_id=row.node_id,
        text=row.text,
        metadata=row.metadata_,
        custom_fields={key: value for key, value in row._mapping.items() if key not in known},
        similarity=1 - row.distance if row.distance is not None else 0,
    )


def vector_table(encoder: Encoder) -> str:
    """Return the name of an encoder's table (PGVectorStore puts `data_` before it)."""
    slug = re.sub(r"[^a-z0-9]+", "_", encoder.model.name.lower()).strip("_")[:24]
    return f"{slug}_{encoder.model.fingerprint[:8]}"
