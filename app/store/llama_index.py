"""The LlamaIndex adapter: the vector table and the encoder, for any LlamaIndex pipeline.

`ImageVectorStore` is a PGVectorStore, with fixes, on the table of `vectors.py`; `EncoderEmbedding`
is the encoder as a MultiModalEmbedding. Besides this module, only the caption client and the CLIP
reference import LlamaIndex.
"""

# PGVectorStore's constructor, sessions, rows and filters are untyped.
# pyright: reportCallIssue=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import asyncio
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, ImageDocument, ImageType
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter
from llama_index.vector_stores.postgres import PGVectorStore
from llama_index.vector_stores.postgres.base import DBEmbeddingRow
from PIL import Image
from sqlalchemy import Float, case, cast, func, literal, not_
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.sql.elements import ColumnElement

from app.encoding.encoder import Encoder, Vector
from app.pictures.decoding import decode
from app.store.images import Entry
from app.store.nodes import node_metadata
from app.store.scans import local_settings
from app.store.vectors import VectorTable

Untyped: TypeAlias = Any

_NODE_COLUMNS = ("node_id", "text", "metadata_", "embedding")


class ImageVectorStore(PGVectorStore):
    """A `VectorTable` as a LlamaIndex vector store.

    Unlike PGVectorStore, `add` replaces rows with the same node id, filters are bound parameters,
    and the settings of a query end with its transaction.
    """

    @classmethod
    def of(cls, vectors: VectorTable) -> "ImageVectorStore":
        """Return the store of a table, which must exist (see `VectorTable.set_up`)."""
        store = cls(
            table_name=vectors.name,
            embed_dim=vectors.dimensions,
            use_jsonb=True,
            use_halfvec=True,
            perform_setup=False,
            engine=vectors.database.sync_engine,
            async_engine=vectors.database.engine,
        )
        store._initialize()
        return store

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises the class."""
        return "ImageVectorStore"

    @property
    def table(self) -> Untyped:
        """PGVectorStore's SQLAlchemy table."""
        return self._table_class.__table__

    def add(self, nodes: Sequence[BaseNode], **_: Untyped) -> list[str]:
        """Upsert nodes with their embeddings; return their ids."""
        with self._session() as session, session.begin():
            session.execute(self._upsert_statement(nodes))
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **_: Untyped) -> list[str]:
        """Upsert nodes with their embeddings; return their ids."""
        async with self._async_session() as session, session.begin():
            await session.execute(self._upsert_statement(nodes))
        return [node.node_id for node in nodes]

    def _upsert_statement(self, nodes: Sequence[BaseNode]) -> Untyped:
        # A statement cannot update a row twice, so the last node with an id wins.
        rows = {node.node_id: self._node_to_table_row(node) for node in nodes}
        statement = insert(self.table).values(
            [{name: getattr(row, name) for name in _NODE_COLUMNS} for row in rows.values()]
        )
        return statement.on_conflict_do_update(
            index_elements=["node_id"],
            set_={name: statement.excluded[name] for name in _NODE_COLUMNS if name != "node_id"},
        )

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
        """Return a filter as SQL with bound parameters.

        PGVectorStore interpolates key and value into the SQL text (LlamaIndex issue 22475).
        """
        field = self.table.c.metadata_[filter_.key]
        return filter_clause(field, filter_.operator, filter_.value)


class EncoderEmbedding(MultiModalEmbedding):
    """An `Encoder` as a LlamaIndex multi-modal embedding.

    Images of more than `max_pixels` are refused with `TooManyPixels`.
    """

    _encoder: Encoder = PrivateAttr()
    _max_pixels: int = PrivateAttr()

    def __init__(self, encoder: Encoder, *, max_pixels: int) -> None:
        super().__init__(model_name=encoder.model.name)
        self._encoder = encoder
        self._max_pixels = max_pixels

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises the class."""
        return "EncoderEmbedding"

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._encoder.submit_text(text).result().tolist()

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._encoder.embed_text(query)).tolist()

    def _get_image_embedding(self, img_file_path: ImageType) -> Embedding:
        return self._encoder.submit_image(self._open(img_file_path)).result().tolist()

    async def _aget_image_embedding(self, img_file_path: ImageType) -> Embedding:
        image = await asyncio.to_thread(self._open, img_file_path)
        return (await self._encoder.embed_image(image)).tolist()

    def _open(self, source: ImageType) -> Image.Image:
        data = source.getvalue() if isinstance(source, BytesIO) else Path(source).read_bytes()
        return decode(data, max_pixels=self._max_pixels).image


def image_node(entry: Entry, *, sha256: str, vector: Vector) -> ImageDocument:
    """Return an indexed image with its unit vector as a LlamaIndex node."""
    stored = node_metadata(entry, sha256=sha256)
    own = ("url", "sha256", "title", "description", "tags")
    metadata = {name: stored[name] for name in own if name in stored}
    # The URL is metadata, never `image_url`: ImageDocument's constructor would fetch it.
    return ImageDocument(id_=str(entry.id), metadata=metadata, embedding=vector.tolist())


def filter_clause(field: Untyped, operator: FilterOperator, value: Untyped) -> ColumnElement[bool]:
    """Return the comparison of a JSON field with a value, both as bound parameters."""
    as_text = field.astext
    match operator:
        case FilterOperator.IN:
            return as_text.in_([str(item) for item in value])
        case FilterOperator.NIN:
            return as_text.not_in([str(item) for item in value])
        case FilterOperator.ANY:
            return func.jsonb_exists_any(field, literal([str(item) for item in value]))
        case FilterOperator.ALL:
            return func.jsonb_exists_all(field, literal([str(item) for item in value]))
        case FilterOperator.CONTAINS:
            return field.op("@>")(cast(literal([value], JSONB), JSONB))
        case FilterOperator.TEXT_MATCH:
            return as_text.contains(value, autoescape=True)
        case FilterOperator.TEXT_MATCH_INSENSITIVE:
            return as_text.icontains(value, autoescape=True)
        case FilterOperator.IS_EMPTY:
            return as_text.is_(None)
        case _:
            return _comparison(field, operator, value)


def _comparison(field: Untyped, operator: FilterOperator, value: Untyped) -> ColumnElement[bool]:
    if isinstance(value, int | float):
        # CASE, because AND may evaluate the cast first and fail on a row with text.
        number = case((func.jsonb_typeof(field) == "number", cast(field.astext, Float)))
        return _compare(number, operator, value)
    return _compare(field.astext, operator, value)


def _compare(left: Untyped, operator: FilterOperator, right: Untyped) -> ColumnElement[bool]:
    match operator:
        case FilterOperator.GT:
            return left > right
        case FilterOperator.LT:
            return left < right
        case FilterOperator.GTE:
            return left >= right
        case FilterOperator.LTE:
            return left <= right
        case FilterOperator.NE:
            return not_(left == right)
        case _:
            return left == right


def _embedding_row(row: Untyped) -> DBEmbeddingRow:
    known = {"id", "node_id", "text", "metadata_", "distance"}
    return DBEmbeddingRow(
        node_id=row.node_id,
        text=row.text,
        metadata=row.metadata_,
        custom_fields={key: value for key, value in row._mapping.items() if key not in known},
        similarity=1 - row.distance if row.distance is not None else 0,
    )
