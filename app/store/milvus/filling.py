"""A collection filled from Postgres while searches and writes go on, and one that is given up."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, TypeAlias

from sqlalchemy import Connection, Table, func, select

from app.problems import WriteConflict
from app.store.database import Database
from app.store.hnsw import ALONE, HOLDING, UNDER_WAY, building_lock, drop_all
from app.store.milvus import outbox
from app.store.milvus.applying import Applier, put_all, stored_row
from app.store.milvus.client import Milvus
from app.store.row_counts import row_count

Untyped: TypeAlias = Any

ROWS_AT_ONCE = 2000
POLL_S = 1.0
# Of all that a filling takes, what is done when the rows are there, and not indexed.
SHARE_OF_ROWS = 0.7


def start(connection: Connection, milvus: Milvus, table: Table, dimensions: int) -> bool:
    """Let an empty table have its index in Milvus, in the caller's transaction.

    Returns False, and does nothing, if it is not empty.
    """
    outbox.note_changes(connection, table)
    # Nobody can write before the transaction ends.
    if connection.scalar(select(table.c.id).limit(1)) is not None:
        outbox.forget_changes(connection, table)
        return False
    name = _new_name(table)
    milvus.create(name, dimensions)
    outbox.add_collection(connection, table, name, "active")
    row_count(table).collection = name
    return True


async def fill(
    database: Database, milvus: Milvus, table: Table, dimensions: int, *, grace_s: float
) -> AsyncGenerator[float]:
    """Fill a new collection, and let it take the place of the index that there is.

    Yields the share done. Others learn of it within `grace_s` seconds; until then, the old
    index is kept true, too. Raises `WriteConflict` if this is being done already.
    """
    async with _alone(database, table):
        name, applier = _new_name(table), Applier(database, milvus)
        await milvus.call(lambda milvus: milvus.create(name, dimensions))

        def begin(connection: Connection) -> None:
            # Left by a filling that did not end.
            for left in outbox.in_state(connection, table, "filling", "retiring"):
                outbox.set_state(connection, left, "dropped")
            outbox.note_changes(connection, table)
            outbox.add_collection(connection, table, name, "filling")

        async with database.begin() as connection:
            await connection.run_sync(begin)
        async for share in _copy(database, milvus, table, name):
            yield SHARE_OF_ROWS * share
        await _index(milvus, name)
        while await applier.apply(table, waits=True):
            yield SHARE_OF_ROWS

        def switch(connection: Connection) -> None:
            for old in outbox.in_state(connection, table, "active"):
                outbox.set_state(connection, old, "retiring")
            outbox.set_state(connection, name, "active")

        async with database.begin() as connection:
            await connection.run_sync(switch)
        row_count(table).collection = name
        yield 0.9
        await asyncio.sleep(grace_s)
        await _drop(applier, database, table, "retiring")
        await drop_all(database, table)
    yield 1.0


async def leave(database: Database, milvus: Milvus | None, table: Table, *, grace_s: float) -> None:
    """Let a table be searched by its index in Postgres, and drop its collections, if there are any.

    Without a `milvus`, another process that knows it drops them.
    """
    async with database.reading() as connection:
        if not await connection.run_sync(lambda sync: outbox.states(sync, table.name)):
            return

    def switch(connection: Connection) -> None:
        for name in outbox.in_state(connection, table, "active", "filling"):
            outbox.set_state(connection, name, "retiring")

    async with _alone(database, table):
        async with database.begin() as connection:
            await connection.run_sync(switch)
        row_count(table).collection = None
        await asyncio.sleep(grace_s)
        async with database.begin() as connection:
            await connection.run_sync(lambda sync: outbox.forget_changes(sync, table))
        await _drop(Applier(database, milvus) if milvus else None, database, table, "retiring")


async def _copy(
    database: Database, milvus: Milvus, table: Table, name: str
) -> AsyncGenerator[float]:
    """Put every row of a table into a collection, a few at a time; yields the share done."""
    applier, last, copied = Applier(database, milvus), 0, 0
    async with database.reading() as connection:
        total = await connection.scalar(select(func.count()).select_from(table)) or 0
    while True:
        async with database.begin() as connection:
            # What is read here is told before anything newer is.
            await outbox.lock(connection, table, waits=True)
            query = select(*outbox.stored(table)).where(table.c.id > last)
            query = query.order_by(table.c.id).limit(ROWS_AT_ONCE)
            found = (await connection.execute(query)).all()
            rows = [stored_row(row) for row in found if row.embedding is not None]
            await put_all(milvus, name, rows)
        if not found:
            return
        last, copied = found[-1].id, copied + len(found)
        # Others can hardly tell what has changed meanwhile.
        await applier.apply(table, waits=True)
        yield min(1.0, copied / max(1, total))


async def _index(milvus: Milvus, name: str) -> None:
    """Wait until all rows of a collection have an index."""
    await milvus.call(lambda milvus: milvus.flush(name))
    # Milvus tells nobody.
    while not await milvus.call(lambda milvus: milvus.is_indexed(name)):  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)


async def _drop(
    applier: Applier | None, database: Database, table: Table, state: outbox.State
) -> None:
    """Drop the collections of a table that are in this state."""

    def mark(connection: Connection) -> list[str]:
        names = outbox.in_state(connection, table, state)
        for name in names:
            outbox.set_state(connection, name, "dropped")
        return names

    async with database.begin() as connection:
        names = await connection.run_sync(mark)
    for name in names:
        if applier is not None:
            await applier.drop(name)


@asynccontextmanager
async def _alone(database: Database, table: Table) -> AsyncGenerator[None]:
    """Keep others from making or leaving an index of this table, of any kind."""
    async with database.begin() as connection:
        if not await connection.scalar(ALONE, building_lock(table)):
            raise WriteConflict(UNDER_WAY)
        await connection.execute(HOLDING)
        yield


def _new_name(table: Table) -> str:
    """Return a name that no other database's table has in the same Milvus."""
    return f"lookalike_{table.name}_{token_hex(4)}"
