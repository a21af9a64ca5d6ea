"""How large the index is, in a time that does not grow with it."""

from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, text

from app.store.database import Database
from app.store.encoders import StoredVectors, stored_vectors

# Counting so many takes a millisecond or two.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Size:
    """A number of images, which may be `approximate`."""

    number: int
    approximate: bool


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table's rows, and its bytes with those of its indexes; `vectors` if it is of vectors."""

    name: str
    rows: Size
    bytes: int
    vectors: StoredVectors | None = None


class Sizes:
    """Measures tables for pages, health checks and statistics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def images(self) -> Size:
        """Return the number of images: counted up to 10,000, estimated beyond.

        The estimate is the planner's: the density of the table at the last VACUUM or ANALYZE, times
        its present size. A running server's autovacuum keeps it within some 10%.
        """
        async with self._database.begin() as connection:
            return (await connection.run_sync(_size, "images")).rows

    async def tables(self) -> list[TableSize]:
        """Return the sizes of the tables of images, keypoints, trash and all vectors."""
        async with self._database.begin() as connection:
            return await connection.run_sync(_sizes)


def size_query(name: str) -> TextClause:
    """Return a statement for one row: `counted`, up to one more than the most, and `estimated`.

    `name` is that of a table of ours, which needs no quotes.
    """
    return text(f"""
        SELECT counted, CASE WHEN counted <= {MOST_COUNTED} THEN counted ELSE (
            SELECT round(
                greatest(reltuples, 0) / greatest(relpages, 1)
                * (pg_relation_size(oid) / current_setting('block_size')::bigint)
            )::bigint FROM pg_class WHERE oid = 'public.{name}'::regclass
        ) END AS estimated, pg_total_relation_size('public.{name}') AS bytes
        FROM (SELECT count(*) AS counted FROM (
            SELECT 1 FROM public.{name} LIMIT {MOST_COUNTED + 1}
        ) AS found) AS bounded
    """)  # noqa: S608 - see above


def _sizes(connection: Connection) -> list[TableSize]:
    stored = stored_vectors(connection)
    return [
        _size(connection, "images"),
        _size(connection, "keypoints"),
        _size(connection, "trash"),
        *(_size(connection, vectors.table, vectors) for vectors in stored),
    ]


def _size(connection: Connection, name: str, vectors: StoredVectors | None = None) -> TableSize:
    row = connection.execute(size_query(name)).one()
    rows = Size(max(row.counted, row.estimated), row.counted > MOST_COUNTED)
    return TableSize(name, rows, row.bytes, vectors)
