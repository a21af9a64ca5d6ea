"""How often a database is asked."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from app.store.database import Database

# The last of what is sent before an answer is awaited.
_ASKED = re.compile(r"\tF\t\d+\t(Sync|Query)\b")


@contextmanager
def round_trips(database: Database) -> Generator[list[str]]:
    """Collect, for the end of the context, each question that waited for an answer.

    From when a connection is lent for the first time, or a new one is made for that.
    """
    asked: list[str] = []
    path = Path("trace.txt")
    with path.open("wb") as file:
        traced: set[Any] = set()

        def trace(connection: Any, *_: Any) -> None:
            if connection.driver_connection not in traced:
                traced.add(connection.driver_connection)
                connection.driver_connection.pgconn.trace(file.fileno())

        event.listen(database.engine.sync_engine, "checkout", trace)
        try:
            yield asked
        finally:
            event.remove(database.engine.sync_engine, "checkout", trace)
            for connection in traced:
                connection.pgconn.untrace()
    asked += _ASKED.findall(path.read_text())
