"""Engines and their pooled connections: which of these may have been lost while idle."""

import select
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

# A connection that was used within so many seconds is not asked whether it still answers: whatever
# a server says when it goes away has arrived, and can be seen without asking.
KNOWN_S = 5.0


CONNECT_TIMEOUT_S = 5
POOL_SIZE, MAX_OVERFLOW = 10, 10

OPTIONS: dict[str, Any] = {
    "pool_pre_ping": True,
    "pool_timeout": CONNECT_TIMEOUT_S,
    # Not in the messages of errors, which go to the log.
    "hide_parameters": True,
    "connect_args": {"connect_timeout": CONNECT_TIMEOUT_S, "prepare_threshold": None},
}
"""What all engines share."""


def pooled_engine(url: URL) -> AsyncEngine:
    """Return an engine with a pool of its own, which asks connections rarely."""
    engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=MAX_OVERFLOW, **OPTIONS)
    ask_rarely(engine.sync_engine)
    return engine


def ask_rarely(engine: Engine) -> None:
    """Ask connections whether they answer only if they were idle, or have something to say.

    For an engine with `pool_pre_ping`, whose question is a round trip before every transaction.
    """
    dialect: Any = engine.dialect
    ask = dialect.do_ping
    used: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def is_alive(connection: Any) -> bool:
        driver = getattr(connection, "driver_connection", connection)
        now = monotonic()
        known = now - used.get(driver, -KNOWN_S) < KNOWN_S
        used[driver] = now
        return (known and _is_silent(driver)) or ask(connection)

    dialect.do_ping = is_alive


def _is_silent(driver: Any) -> bool:
    """Return whether a connection that awaits nothing has received nothing, such as its end."""
    if driver.closed or driver.broken:
        return False
    poll = select.poll()
    poll.register(driver.pgconn.socket, select.POLLIN | select.POLLHUP | select.POLLERR)
    return not poll.poll(0)
