"""The HNSW index of a vector table: maintained row by row, built after a bulk load or beside it."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Index, Select, Table, func, select, text
from sqlalchemy import column as sql_column
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.elements import ColumnElement

from app.problems import WriteConflict
from app.store.database import Database, driver_errors
from app.store.machine import machine_memory

# Inserting a row into the index costs five to eight times as much as its share of a build (`python
# -m bench.hnsw`), so from this share of new rows on, rebuilding the index is cheaper.
REBUILD_SHARE = 0.2
MIN_ROWS = 5_000

# Memory per row during a build, beside its vector: the ids of its neighbours and their frame.
BYTES_PER_ROW = 2_000
BYTES_PER_DIMENSION = {"halfvec": 2, "bit": 1 / 8}
MIN_MEMORY_MB = 64
# Of the database's memory, which it has beside its buffers. A build that needs more than it may
# take goes on row by row, many times slower.
SHARE_OF_MEMORY = 0.25
# `maintenance_work_mem` is an int of kilobytes.
MAX_MEMORY_MB = 2_000_000
# Of a database of which nothing else is known: what every build could take before.
_UNKNOWN = 4_000_000_000
# The first of two keys, arbitrary, but the same in every version; the second is the table.
BUILDING_LOCK = 0x0B11D1E5
UNDER_WAY = "A vector index of this table is being built already."
POLL_S = 0.5

# The kind is what the name has between that of the table and the parameters.
_EXISTING = """
    SELECT relname::text AS name, indisvalid AS valid,
        split_part(substr(relname, length((SELECT relname FROM pg_class WHERE oid = indrelid)) + 2),
            '_', 1) AS kind
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = to_regclass(:table)
    AND relam = (SELECT oid FROM pg_am WHERE amname = 'hnsw') ORDER BY indexrelid
"""
# A transaction holds the lock: a pooler may lend a connection to others between two of them.
ALONE = text("SELECT pg_try_advisory_xact_lock(:lock, to_regclass(:table)::oid::int)")
# An index takes longer than some servers let a transaction idle. As the last statement, it also
# ends the snapshot of the one before, for which a build would wait for ever.
HOLDING = text("SET LOCAL idle_in_transaction_session_timeout = 0")
_BUILDING = text(
    "SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = to_regclass(:table)"
)


@dataclass(frozen=True, slots=True)
class HnswIndex:
    """An HNSW index that there is, `valid` if its build has ended well."""

    name: str
    kind: str
    valid: bool


def hnsw_index(
    table: Table, on: ColumnElement[Any], *, operators: str, m: int, ef_construction: int
) -> Index:
    """Return an HNSW index on a column or a labelled expression of a table.

    Its name includes its kind, that is the type of the `operators`, and its parameters.
    """
    return Index(
        f"{table.name}_{operators.partition('_')[0]}_m{m}_ef{ef_construction}",
        on,
        postgresql_using="hnsw",
        postgresql_with={"m": m, "ef_construction": ef_construction},
        postgresql_ops={on.key: operators},
        info={"kind": operators.partition("_")[0]},
    )


def existing(connection: Connection, table: Table) -> list[HnswIndex]:
    """Return the HNSW indexes of a table, the last made last."""
    rows = connection.execute(text(_EXISTING), {"table": qualified(table)})
    return [HnswIndex(row.name, row.kind, row.valid) for row in rows]


def kinds_query(table: Table) -> Select[Any]:
    """Return a query for the kinds of the HNSW indexes that searches can use, in that order."""
    made = text(_EXISTING).bindparams(table=qualified(table))
    found = made.columns(sql_column("kind"), sql_column("valid")).subquery()
    return select(func.array_agg(found.c.kind)).where(found.c.valid)


def qualified(table: Table) -> str:
    """Return the name of a table for `to_regclass`."""
    return f'{table.schema or "public"}."{table.name}"'


def drop_named(connection: Connection, name: str, *, concurrently: bool = False) -> None:
    """Drop an index; `concurrently`, outside of a transaction, without stopping who reads."""
    quoted = connection.dialect.identifier_preparer.quote(name)
    how = "CONCURRENTLY " if concurrently else ""
    connection.execute(text(f"DROP INDEX {how}IF EXISTS {quoted}"))


async def drop_beside(database: Database, kept: Index, *, after_s: float) -> None:
    """Drop the other HNSW indexes of the table of one, after this time, while searches go on."""
    table = kept.table
    assert table is not None  # noqa: S101 - hnsw_index gave it one
    await drop_all(database, table, kept=str(kept.name), after_s=after_s)


async def drop_all(
    database: Database, table: Table, *, kept: str | None = None, after_s: float = 0.0
) -> None:
    """Drop the HNSW indexes of a table, but one, after this time, while searches go on."""
    async with database.begin() as connection:
        there = await connection.run_sync(existing, table)
    others = [index.name for index in there if index.name != kept]
    if not others:
        return
    await asyncio.sleep(after_s)

    def drop_them() -> None:
        with driver_errors(), autocommitting(database) as connection:
            for name in others:
                drop_named(connection, name, concurrently=True)

    await asyncio.to_thread(drop_them)


def is_worth_building(*, existing: int, coming: int) -> bool:
    """Return whether rebuilding the index after a load is cheaper than maintaining it."""
    return coming >= MIN_ROWS and coming >= REBUILD_SHARE * (existing + coming)


async def drop(database: Database, index: Index) -> None:
    """Drop an index; until it is rebuilt, searches scan the table, which is exact but slow."""
    async with database.begin() as connection:
        await connection.run_sync(lambda sync: index.drop(sync, checkfirst=True))


async def build(
    database: Database, index: Index, *, rows: int, beside: bool = False
) -> AsyncGenerator[float]:
    """Build an index with enough memory and workers; yields the share done, 0 to 1.

    Rows can be written meanwhile if it is made `beside` another, which takes longer.
    """
    how = _build_beside if beside else _build
    building = asyncio.create_task(asyncio.to_thread(how, database, index, rows))
    while not building.done():
        await asyncio.wait([building], timeout=POLL_S)
        yield await _share_done(database, index)
    await building
    yield 1.0


def _build(database: Database, index: Index, rows: int) -> None:
    with database.set_up() as connection:
        _give_resources(connection, database, index, rows, local=True)
        index.create(connection, checkfirst=True)


def _build_beside(database: Database, index: Index, rows: int) -> None:
    assert index.table is not None  # noqa: S101 - hnsw_index gave it one
    with driver_errors(), _alone(database, index.table), autocommitting(database) as connection:
        made = {found.name: found for found in existing(connection, index.table)}
        if index.name in made and made[str(index.name)].valid:
            return
        if connection.scalar(_BUILDING, {"table": qualified(index.table)}):
            raise WriteConflict(UNDER_WAY)
        # What a build left that did not end.
        drop_named(connection, str(index.name), concurrently=True)
        _give_resources(connection, database, index, rows, local=False)
        connection.execute(CreateIndex(_concurrent(index)))


@contextmanager
def _alone(database: Database, table: Table) -> Generator[None]:
    """Let no one else build an index of a table beside another; raises `WriteConflict`.

    What is being built can be seen in Postgres, but not before it has begun.
    """
    with database.sync_engine.begin() as connection:
        if not connection.scalar(ALONE, building_lock(table)):
            raise WriteConflict(UNDER_WAY)
        connection.execute(HOLDING)
        yield


def building_lock(table: Table) -> dict[str, object]:
    """Return the parameters of `ALONE`, the same for every kind of index of a table."""
    return {"lock": BUILDING_LOCK, "table": qualified(table)}


def _concurrent(index: Index) -> Index:
    index.dialect_options["postgresql"]["concurrently"] = True
    return index


@contextmanager
def autocommitting(database: Database) -> Generator[Connection]:
    """Lend a connection, which is closed afterwards, for statements outside of transactions."""
    with database.sync_engine.connect() as connection:
        try:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            # With the settings that were made.
            connection.invalidate()


def _give_resources(
    connection: Connection, database: Database, index: Index, rows: int, *, local: bool
) -> None:
    """Let a connection, or only its transaction, use what a build of so many rows needs."""
    asked = text(
        "SELECT pg_size_bytes(current_setting('shared_buffers')), "
        "current_setting('max_parallel_workers')::int"
    )
    buffers, most = connection.execute(asked).one()
    is_here = database.embedded
    memory = build_memory_mb(
        rows,
        index_dimensions(index),
        kind=str(index.info["kind"]),
        buffers=buffers,
        machine=machine_memory() if is_here else None,
    )
    workers = build_workers(most, cores=(os.cpu_count() or 1) if is_here else None)
    for name, value in (
        ("maintenance_work_mem", f"{memory}MB"),
        ("max_parallel_maintenance_workers", str(workers)),
    ):
        setting = text("SELECT set_config(:name, :value, :local)")
        connection.execute(setting, {"name": name, "value": value, "local": local})


def build_memory_mb(
    rows: int, dimensions: int, *, kind: str = "halfvec", buffers: int, machine: int | None
) -> int:
    """Return the megabytes for building an index of this kind of so many rows.

    No more than a quarter of the `machine`'s bytes if the database runs on this one. Another's
    memory is not known; its `buffers` are about a quarter of it, as is usual, or its default.
    """
    vector = round(BYTES_PER_DIMENSION[kind] * dimensions)
    needed = rows * (BYTES_PER_ROW + vector) // 1_000_000
    share = SHARE_OF_MEMORY * machine if machine is not None else max(buffers, _UNKNOWN)
    most = min(int(share) // 1_000_000, MAX_MEMORY_MB)
    return max(MIN_MEMORY_MB, min(needed, most))


def build_workers(most: int, *, cores: int | None) -> int:
    """Return how many workers build beside the process that leads them, which works too.

    `most` is what Postgres allows; there are as many as cores, if the cores are this machine's.
    """
    return most if cores is None else max(0, min(most, cores - 1))


def index_dimensions(index: Index) -> int:
    """Return the number of components of the vectors of an index."""
    assert index.table is not None  # noqa: S101 - hnsw_index gave it one
    kind: Any = index.table.c.embedding.type
    return int(kind.dim)


async def _share_done(database: Database, index: Index) -> float:
    assert index.table is not None  # noqa: S101
    query = text(
        "SELECT blocks_done::float / nullif(blocks_total, 0) FROM pg_stat_progress_create_index "
        "WHERE relid = to_regclass(:table)"
    )
    async with database.begin() as connection:
        return await connection.scalar(query, {"table": index.table.name}) or 0.0
