"""Connections that were lost are found out before they are lent, though they are rarely asked."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from sqlalchemy import text

from app.settings import read_settings
from app.store import connections
from app.store.database import Database, open_database
from tests.round_trips import round_trips
from tests.store.test_database import END_OTHERS


def run(url: str, work: Callable[[Database], Awaitable[object]]) -> None:
    async def opened() -> None:
        database = open_database(read_settings(database_url=url))
        await work(database)
        await database.close()

    asyncio.run(opened())


async def process(database: Database) -> int:
    async with database.begin() as connection:
        return await connection.scalar(text("SELECT pg_backend_pid()")) or 0


async def process_reading(database: Database) -> int:
    async with database.reading() as connection:
        return await connection.scalar(text("SELECT pg_backend_pid()")) or 0


@pytest.mark.parametrize("ask", [process, process_reading])
def test_a_connection_that_ended_a_moment_ago_is_not_lent(
    database_url: str, ask: Callable[[Database], Awaitable[object]]
) -> None:
    async def work(database: Database) -> None:
        first = await ask(database)
        assert await ask(database) == first
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute(END_OTHERS)
            # Its process is gone only after its last words are sent.
            while other.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s", [first]
            ).fetchone():
                pass
        assert await ask(database) != first

    run(database_url, work)


def test_a_connection_is_asked_again_only_when_it_was_idle(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(database: Database) -> None:
        now = 0.0
        monkeypatch.setattr(connections, "monotonic", lambda: now)

        async def trips(*seconds: float) -> int:
            nonlocal now
            with round_trips(database) as asked:
                for passed in seconds:
                    now += passed
                    await process(database)
            return len(asked)

        once = await trips(0.0)
        assert await trips(1.0, 1.0, 1.0) == 3 * once
        assert await trips(1.0, connections.KNOWN_S, 1.0) == 3 * once + 1

    run(database_url, work)
