"""Pooled connections: which of them may have been lost while nobody used them."""

import select
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine

# A connection that was used within so many seconds is not asked whether it still answers: whatever
# a server says when it goes away has arrived, and can be seen without asking.
KNOWN_S = 5.0


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
