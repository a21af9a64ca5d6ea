"""Tells Milvus what has changed in vector tables, as the outbox has it, again and again.

Each process that knows a Milvus does this, and one at a time does it for a table. What a process
left when it ended, or while Milvus was away, the next one tells.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import Table, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.logs import fields
from app.problems import Unavailable
from app.store.database import Database
from app.store.milvus import outbox
from app.store.milvus.client import Milvus, Refused
from app.store.milvus.outbox import State
from app.store.milvus.rows import StoredRow
from app.store.tables import COLLECTIONS, OUTBOX
from app.store.vector_schema import vector_table

logger = logging.getLogger(__name__)
Untyped: TypeAlias = Any

POLL_S, POLL_AWAY_S = 0.5, 2.0
# How long what is being told may take when the process ends.
GRACE_S = 10.0
ROWS_AT_ONCE = 1000
# A segment that grows has an approximate index, by which a fifth of the nearest are missed. So it
# is ended so often, while there are changes, and what is in it stays in the outbox until the
# segment has its own index; and so long that a search which began before does not miss it, which
# may be answered as of five seconds earlier.
FLUSH_S, SETTLE_S = 60.0, 20.0

KEPT: tuple[State, ...] = ("filling", "active", "retiring")


class Applier:
    """Keeps the collections of one database true to its vector tables."""

    def __init__(self, database: Database, milvus: Milvus) -> None:
        self._database = database
        self._milvus = milvus

    async def run(self, stopping: asyncio.Event) -> None:
        """Do what there is to do until told to stop; what has begun ends."""
        failed: type[Exception] | None = None
        while not stopping.is_set():
            try:
                busy = await self.once(loading=failed is not None)
                failed = None
            except Exception as exc:
                # Once, and not every two seconds for as long as it lasts.
                if type(exc) is not failed:
                    _warn(exc)
                busy, failed = False, type(exc)
            if not busy:
                with suppress(TimeoutError):
                    pause_s = POLL_AWAY_S if failed else POLL_S
                    await asyncio.wait_for(stopping.wait(), pause_s)

    async def once(self, *, loading: bool = False) -> bool:
        """Tell one batch of each table; return whether there was any.

        `loading` if Milvus may have started anew. Raises `MilvusUnavailable`.
        """
        async with self._database.reading() as connection:
            known = await connection.run_sync(outbox.states)
        busy = False
        for name, (_, state) in known.items() if loading else ():
            if state in KEPT:
                await self._milvus.call(lambda milvus, name=name: milvus.load(name))
        kept = {table for table, state in known.values() if state in KEPT}
        for table in (vector_table(name, 1) for name in sorted(kept)):
            busy = await self.apply(table) or busy
            await self.settle(table)
        # Last: what cannot be dropped keeps nothing from being told.
        for name, (_, state) in known.items():
            if state == "dropped":
                await self.drop(name)
        return busy

    async def drop(self, name: str) -> None:
        """Drop a collection of which nothing is needed any more."""
        await self._milvus.call(lambda milvus: milvus.drop(name))
        async with self._database.begin() as connection:
            await connection.run_sync(lambda sync: outbox.forget_collection(sync, name))

    async def apply(self, table: Table, *, waits: bool = False) -> bool:
        """Tell the next changes of a table; return whether there were any.

        Unless it `waits`, none are told while another process tells some.
        """
        async with self._database.begin() as connection:
            if not await outbox.lock(connection, table, waits=waits):
                return False
            changes = await outbox.unapplied(connection, table, ROWS_AT_ONCE)
            if not changes:
                return False
            rows = [stored_row(change) for change in changes if change.embedding is not None]
            gone = [change.row_id for change in changes if change.embedding is None]
            for name in await self._collections(connection, table):
                await put_all(self._milvus, name, rows)
                await self._milvus.call(lambda milvus, name=name: milvus.delete(name, gone))
            told = [(change.row_id, change.version) for change in changes]
            await outbox.mark_applied(connection, table, told)
        return True

    async def settle(self, table: Table) -> None:
        """Let the outbox forget what Milvus finds by an index; flush from time to time."""
        async with self._database.begin() as connection:
            applied = (OUTBOX.c.vector_table == table.name) & OUTBOX.c.applied_at.is_not(None)
            first = await connection.scalar(select(func.min(OUTBOX.c.applied_at)).where(applied))
            if first is None or not await outbox.lock(connection, table):
                return
            names = await self._collections(connection, table)
            mine = COLLECTIONS.c.name.in_(names)
            last = select(func.max(OUTBOX.c.applied_at)).where(applied).scalar_subquery()
            flushed = select(func.min(COLLECTIONS.c.flushed_at)).where(mine).scalar_subquery()
            row = (await connection.execute(select(last, flushed, func.clock_timestamp()))).one()
            newest, flushed_at, now = row
            age = timedelta.max if flushed_at is None else now - flushed_at
            if flushed_at is not None and first <= flushed_at:
                if age >= timedelta(seconds=SETTLE_S) and await self._are_indexed(names):
                    await outbox.remove_applied(connection, table, flushed_at)
            elif age >= timedelta(seconds=FLUSH_S):
                await self._flush(connection, names, newest)

    async def _flush(
        self, connection: AsyncConnection, names: Sequence[str], upto: datetime
    ) -> None:
        for name in names:
            await self._milvus.call(lambda milvus, name=name: milvus.flush(name))
        mine = COLLECTIONS.c.name.in_(names)
        await connection.execute(update(COLLECTIONS).where(mine).values(flushed_at=upto))

    async def _are_indexed(self, names: Sequence[str]) -> bool:
        for name in names:
            if not await self._milvus.call(lambda milvus, name=name: milvus.is_indexed(name)):
                return False
        return True

    async def _collections(self, connection: AsyncConnection, table: Table) -> list[str]:
        return await connection.run_sync(lambda sync: outbox.in_state(sync, table, *KEPT))


def _warn(exc: Exception) -> None:
    is_away = isinstance(exc, Unavailable)
    said = fields(cause=exc.__cause__ or exc.detail) if is_away else fields()
    logger.warning(
        "Milvus is not told of changes for a while",
        extra=said,
        exc_info=None if is_away else exc,
    )


async def put_all(milvus: Milvus, name: str, rows: Sequence[StoredRow]) -> None:
    """Put rows into a collection; one that cannot be taken is logged, and Milvus never finds it."""
    try:
        await milvus.call(lambda milvus: milvus.put(name, rows))
    except Refused as exc:
        if len(rows) == 1:
            refused = fields(collection=name, row=rows[0].id, cause=exc)
            logger.error("Milvus does not take a row", extra=refused)  # noqa: TRY400
            return
        for row in rows:
            await put_all(milvus, name, [row])


def stored_row(row: Untyped) -> StoredRow:
    """Return a row of the columns of `outbox.stored`."""
    return StoredRow(
        row.id,
        row.labels,
        row.width,
        row.height,
        row.taken_at,
        row.latitude,
        row.longitude,
        np.array(row.embedding, np.float32),
    )


@asynccontextmanager
async def applying(database: Database, milvus: Milvus) -> AsyncGenerator[None]:
    """Keep Milvus true within the context."""
    stopping = asyncio.Event()
    task = asyncio.create_task(Applier(database, milvus).run(stopping))
    try:
        yield
    finally:
        stopping.set()
        # Not cancelled at once: what is being told would go on without the lock.
        await asyncio.wait([task], timeout=GRACE_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        milvus.close()
