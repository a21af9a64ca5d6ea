"""The HNSW index of a vector table: maintained row by row, or rebuilt after a bulk load."""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

from sqlalchemy import Connection, Index, Table, text

from app.store.database import Database
from app.store.machine import machine_memory

# Inserting a row into the index costs five to eight times as much as its share of a build (`python
# -m bench.hnsw`), so from this share of new rows on, rebuilding the index is cheaper.
REBUILD_SHARE = 0.2
MIN_ROWS = 5_000

# Memory per row during a build, beside its vector: the ids of its neighbours and their frame.
BYTES_PER_ROW = 2_000
BYTES_PER_DIMENSION = 2
MIN_MEMORY_MB = 64
# Of the database's memory, which it has beside its buffers. A build that needs more than it may
# take goes on row by row, many times slower.
SHARE_OF_MEMORY = 0.25
# `maintenance_work_mem` is an int of kilobytes.
MAX_MEMORY_MB = 2_000_000
# Of a database of which nothing else is known: what every build could take before.
_UNKNOWN = 4_000_000_000
POLL_S = 0.5


def hnsw_index(table: Table, *, operators: str, m: int, ef_construction: int) -> Index:
    """Return an HNSW index on `embedding`; its name includes its parameters."""
    return Index(
        f"{table.name}_{operators.partition('_')[0]}_m{m}_ef{ef_construction}",
        table.c.embedding,
        postgresql_using="hnsw",
        postgresql_with={"m": m, "ef_construction": ef_construction},
        postgresql_ops={"embedding": operators},
    )


def make_only(connection: Connection, wanted: Index) -> None:
    """Create an index if it is missing, and drop the table's other HNSW indexes."""
    assert wanted.table is not None  # noqa: S101 - hnsw_index gave it one
    others = text(
        "SELECT indexname FROM pg_indexes WHERE tablename = :table AND indexname <> :wanted "
        "AND schemaname = current_schema() AND indexdef LIKE '% USING hnsw %'"
    )
    found = connection.scalars(others, {"table": wanted.table.name, "wanted": wanted.name})
    for other in found.all():
        quoted = connection.dialect.identifier_preparer.quote(other)
        connection.execute(text(f"DROP INDEX {quoted}"))
    wanted.create(connection, checkfirst=True)


def is_worth_building(*, existing: int, coming: int) -> bool:
    """Return whether rebuilding the index after a load is cheaper than maintaining it."""
    return coming >= MIN_ROWS and coming >= REBUILD_SHARE * (existing + coming)


async def drop(database: Database, index: Index) -> None:
    """Drop an index; until it is rebuilt, searches scan the table, which is exact but slow."""
    async with database.begin() as connection:
        await connection.run_sync(lambda sync: index.drop(sync, checkfirst=True))


async def build(database: Database, index: Index, *, rows: int) -> AsyncGenerator[float]:
    """Build an index with enough memory and workers; yields the share done, 0 to 1."""
    building = asyncio.create_task(asyncio.to_thread(_build, database, index, rows))
    while not building.done():
        await asyncio.wait([building], timeout=POLL_S)
        yield await _share_done(database, index)
    await building
    yield 1.0


def _build(database: Database, index: Index, rows: int) -> None:
    with database.set_up() as connection:
        asked = text(
            "SELECT pg_size_bytes(current_setting('shared_buffers')), "
            "current_setting('max_parallel_workers')::int"
        )
        buffers, most = connection.execute(asked).one()
        is_here = database.embedded
        memory = build_memory_mb(
            rows,
            index_dimensions(index),
            buffers=buffers,
            machine=machine_memory() if is_here else None,
        )
        workers = build_workers(most, cores=(os.cpu_count() or 1) if is_here else None)
        for name, value in (
            ("maintenance_work_mem", f"{memory}MB"),
            ("max_parallel_maintenance_workers", str(workers)),
        ):
            setting = text("SELECT set_config(:name, :value, true)")
            connection.execute(setting, {"name": name, "value": value})
        index.create(connection, checkfirst=True)


def build_memory_mb(rows: int, dimensions: int, *, buffers: int, machine: int | None) -> int:
    """Return the megabytes for building an index of so many rows.

    No more than a quarter of the `machine`'s bytes if the database runs on this one. Another's
    memory is not known; its `buffers` are about a quarter of it, as is usual, or its default.
    """
    needed = rows * (BYTES_PER_ROW + BYTES_PER_DIMENSION * dimensions) // 1_000_000
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
