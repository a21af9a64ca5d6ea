"""Which jobs change, as Postgres announces it to one connection."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection
from sqlalchemy import func, select

from app.logs import fields
from app.problems import Unavailable
from app.store.connections import CONNECT_TIMEOUT_S
from app.store.database import Database

logger = logging.getLogger(__name__)

# That of the triggers in migration 0010.
CHANNEL = "lookalike_jobs"
# How long a notification of our own may take; behind a transaction pooler it never comes.
PROBE_S = 5
# How long until the next attempt to listen.
AFTER_ERROR_S, AFTER_SILENCE_S = 5, 600


class JobChanges:
    """Listens for changes of jobs, with a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.arrive = False
        """Whether changes are announced now. While they are not, look for them."""

    async def listen(self, on_change: Callable[[int | None], None]) -> None:
        """Call `on_change` with the id of each job that changes, until cancelled.

        It is called with None once changes are announced: any job may have changed before.

        A transaction pooler such as PgBouncer accepts LISTEN, and the notifications reach no one;
        so they count only once one of ours has arrived.
        """
        while True:
            try:
                async with await self._connect() as connection:
                    wait_s = await self._listen(connection, on_change)
            except (psycopg.Error, Unavailable) as exc:
                logger.warning("changes of jobs are not announced", extra=fields(cause=exc))
                wait_s = AFTER_ERROR_S
            finally:
                self.arrive = False
            await asyncio.sleep(wait_s)

    async def _connect(self) -> AsyncConnection:
        return await AsyncConnection.connect(
            self._database.url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=CONNECT_TIMEOUT_S,
        )

    async def _listen(
        self, connection: AsyncConnection, on_change: Callable[[int | None], None]
    ) -> float:
        """Listen until notifications do not arrive; return how long to wait before the next try."""
        await connection.execute(f"LISTEN {CHANNEL}")
        probe = f"probe {uuid4()}"
        async with self._database.begin() as other:
            await other.execute(select(func.pg_notify(CHANNEL, probe)))
        async with aclosing(connection.notifies(timeout=PROBE_S)) as notifications:
            async for notification in notifications:
                if notification.payload == probe:
                    self.arrive = True
                    break
        if not self.arrive:
            logger.info("notifications do not arrive, as behind a transaction pooler: polling")
            await connection.execute("UNLISTEN *")
            return AFTER_SILENCE_S
        on_change(None)
        async for notification in connection.notifies():
            # Those of other processes are probes, too.
            if notification.payload.isdecimal():
                on_change(int(notification.payload))
        return AFTER_ERROR_S
