"""The images nearest to a vector, as URLs: all that `/api/query` answers, in one statement."""

from functools import cache
from typing import Any, Literal, LiteralString, NamedTuple
from uuid import UUID

from psycopg import sql
from sqlalchemy import Table

from app.encoding.encoder import Vector
from app.store.database import Database, driver_connection
from app.store.halfvec import Half
from app.store.milvus.outbox import MOST_COMPARED
from app.store.milvus.searching import ROUNDING, MilvusIndex
from app.store.nearest import is_small, most_of_small
from app.store.row_counts import row_count
from app.store.scans import EF_SEARCH, MAX_EF_SEARCH, MAX_SCANNED, SCANS, Kind

# Comparing every row. OFFSET 0 keeps the planner from using the HNSW index.
_EXACT = """
    SELECT node_id, distance FROM (
        SELECT node_id, embedding <=> {vector} AS distance FROM {table} OFFSET 0
    ) every ORDER BY distance LIMIT {limit}
"""
# The settings end with the statement. They are made before the scan begins, which waits for them.
_BY_INDEX = """
    SELECT node_id, distance FROM (
        SELECT set_config('hnsw.ef_search', {ef_search}, true) AS a,
            set_config('hnsw.iterative_scan', 'strict_order', true) AS b,
            set_config('hnsw.max_scan_tuples', {scanned}, true) AS c
        OFFSET 0
    ) settings CROSS JOIN LATERAL (
        SELECT node_id, embedding <=> {vector} AS distance FROM {table}
        WHERE a IS NOT NULL AND b IS NOT NULL AND c IS NOT NULL
        ORDER BY {order} LIMIT {brought}
    ) nearest
"""
# What the kinds of index order rows by, as in scans.py.
_ORDERS: dict[Kind, LiteralString] = {
    "halfvec": "embedding <=> {vector}",
    "bit": "binary_quantize(mixed_vector(embedding))::bit({size}) "
    "<~> binary_quantize(mixed_vector({vector}))::bit({size})",
}
# Those that Milvus brings, and those that it may not find as they are, as far as none is missing
# (store/milvus/).
_BROUGHT = """
    SELECT node_id, distance FROM (
        SELECT node_id, embedding <=> {vector} AS distance FROM {table} WHERE id IN (
            SELECT unnest(%(brought)s::bigint[]) UNION SELECT row_id FROM (
                SELECT row_id FROM vector_outbox WHERE vector_table = {name}
                ORDER BY version DESC LIMIT {most}
            ) noted
        ) OFFSET 0
    ) compared WHERE distance <= %(reach)s::float8 ORDER BY distance LIMIT {limit}
"""
_RERANKED = "SELECT node_id, distance FROM ({near}) brought ORDER BY distance LIMIT {limit}"
# A row without an image tells how many were found, should none be near enough.
_URLS = """
    WITH near AS MATERIALIZED ({near})
    SELECT (SELECT count(*) FROM near), images.id, images.url, images.sha256, distance
    FROM (SELECT) always
    LEFT JOIN (near JOIN images ON images.id = near.node_id::uuid) ON 1 - distance > {above}
    ORDER BY distance
"""


class NearUrl(NamedTuple):
    """An image: its URL, the SHA-256 of its file, and its cosine similarity."""

    id: UUID
    url: str
    sha256: str
    similarity: float


async def near_urls(
    database: Database,
    table: Table,
    vector: Vector,
    *,
    limit: int,
    above: float,
    outside: MilvusIndex | None = None,
) -> list[NearUrl]:
    """Return those of the `limit` nearest images that are more similar than `above`, best first.

    `outside` is the index in Milvus that the table may have.
    """
    size: Any = table.c.embedding.type
    brought, counted = None, row_count(table)
    if outside is not None and not await outside.is_there(limit):
        outside = None
    small = counted.known(most_of_small(limit))
    if outside is not None and not small:
        brought = await outside.brought(vector, limit=limit)
    async with database.reading() as connection:
        if small is None:
            small = await is_small(connection, table, limit)
        driver = await driver_connection(connection)
        given: dict[str, Any] = {"vector": Half(vector), "limit": limit, "above": above}
        kind: Kind | Literal["milvus"] = counted.kind
        if brought is not None:
            kind = "milvus"
            given |= {"brought": list(brought.ids), "reach": brought.reach + ROUNDING}
        found, rows = 0, list[Any]()
        for exactly in (True,) if small else (False, True):
            statement = _statement(
                table.schema or "public",
                table.name,
                dimensions=size.dim,
                limit=limit,
                kind=None if exactly else kind,
            )
            cursor = await driver.execute(statement, given)
            rows = await cursor.fetchall()
            found = rows[0][0]
            # The scan gives up at some time.
            if found >= limit:
                break
    return [NearUrl(i, url, sha256, 1 - far) for _, i, url, sha256, far in rows if i is not None]


@cache
def _statement(
    schema: str,
    name: str,
    *,
    dimensions: int,
    limit: int,
    kind: Kind | Literal["milvus"] | None,
) -> bytes:
    """Return the statement that searches by an index of this kind, or by comparing every row."""
    placeholders = {
        "table": sql.Identifier(schema, name),
        "vector": sql.SQL("%(vector)s::halfvec"),
        "limit": sql.SQL("%(limit)s"),
    }
    near = sql.SQL(_EXACT).format(**placeholders)
    if kind == "milvus":
        near = sql.SQL(_BROUGHT).format(**placeholders, name=name, most=MOST_COMPARED)
    elif kind is not None:
        brought = SCANS[kind].candidates(limit)
        near = sql.SQL(_BY_INDEX).format(
            **placeholders,
            order=sql.SQL(_ORDERS[kind]).format(**placeholders, size=dimensions),
            brought=brought,
            ef_search=str(min(max(brought, EF_SEARCH), MAX_EF_SEARCH)),
            scanned=str(MAX_SCANNED),
        )
        if brought != limit:
            near = sql.SQL(_RERANKED).format(near=near, **placeholders)
    statement = sql.SQL(_URLS).format(near=near, above=sql.SQL("%(above)s::float8"))
    return statement.as_bytes(None)
