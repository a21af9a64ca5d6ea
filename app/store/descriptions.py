"""What stands beside vectors of the words of images, in the table of every encoder."""

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, bindparam, column, select, text
from sqlalchemy import table as sql_table
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.cascade import tables
from app.store.filters import facets_of
from app.store.images import Entry, ImageRow
from app.store.nearest import FACETS
from app.store.nodes import node_metadata

Described = tuple[ImageRow, Entry]
"""An image's row, which the transaction has locked, and what it is to say: no field is None."""


async def describe(connection: AsyncConnection, described: Sequence[Described]) -> None:
    """Write what LlamaIndex and filters know of images again, wherever they have a vector.

    The vector, and the SHA-256 of the bytes that it was made from, stay. The rows of an older
    version, which lack the columns of filters, stay for `reindex`.
    """
    await connection.run_sync(_describe, described)


def _describe(connection: Connection, described: Sequence[Described]) -> None:
    by_id = {str(image.id): (image, entry) for image, entry in described}
    for name in tables(connection):
        if not _has_facets(connection, name):
            continue
        stored = sql_table(name, column("node_id"), column("metadata_"), column("labels"))
        sha256 = stored.c.metadata_.op("->>")("sha256").label("sha256")
        found = connection.execute(
            select(stored.c.node_id, sha256)
            .where(stored.c.node_id.in_(list(by_id)), stored.c.labels.is_not(None))
            .order_by(stored.c.node_id)
        )
        rows = [_row(row.node_id, row.sha256, *by_id[row.node_id]) for row in found]
        if rows:
            connection.execute(_update(connection, name), rows)


def _row(node_id: str, sha256: str, image: ImageRow, entry: Entry) -> dict[str, Any]:
    facets = facets_of(
        image,
        url=entry.url,
        tags=entry.tags or (),
        metadata=entry.metadata or {},
        faces=image.face_count,
    )
    said = Jsonb(node_metadata(entry, sha256=sha256))
    return {"node": node_id, "said": said, "labels": list(facets.labels)}


def _update(connection: Connection, name: str) -> Any:
    quoted = connection.dialect.identifier_preparer.quote(name)
    return text(
        f"UPDATE public.{quoted} SET metadata_ = :said, labels = :labels WHERE node_id = :node"  # noqa: S608
    ).bindparams(bindparam("node"), bindparam("said"), bindparam("labels"))


def _has_facets(connection: Connection, name: str) -> bool:
    lacking = text("""
        SELECT count(*) FROM unnest(CAST(:facets AS text[])) AS facet
        WHERE NOT EXISTS (
            SELECT FROM pg_attribute WHERE attname = facet AND NOT attisdropped
            AND attrelid = to_regclass(format('public.%I', CAST(:name AS text)))
        )
    """)
    return not connection.scalar(lacking, {"facets": list(FACETS), "name": name})
