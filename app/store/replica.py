"""A replica of the database (DATABASE_READ_URL), which searches read while it is near enough.

How far it is behind is not asked of the replica, whose clock stands still with its stream: the
position of the primary's log is noted every second, and a replica that has replayed one of these
positions has all that was committed before.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Literal, TypeAlias, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.logs import fields
from app.problems import (
    DatabaseBusy,
    DatabaseUnavailable,
    InvalidRequest,
    Problem,
    SchemaChanged,
    StorageUnavailable,
    WriteConflict,
)

logger = logging.getLogger(__name__)

CHECK_S, CHECKED_WITHIN_S = 1.0, 2.0
# A replica that is further behind is not read, nor is one that was not checked for so long.
MOST_LAG_S, KNOWN_FOR_S = 5.0, 3.0
# After a write, a client reads the primary for so long: longer than both together.
FRESH_S = 10
# What may be otherwise on the primary: lost connections, queries that the replica cancelled because
# of what it replays, writes, images or faces that a query names and that are not there yet, and
# thumbnails that are others by now.
_REPEATED = (DatabaseUnavailable, DatabaseBusy, WriteConflict, InvalidRequest, StorageUnavailable)
PROMOTED = "The database of DATABASE_READ_URL was promoted: it follows DATABASE_URL no more."

State: TypeAlias = Literal["in use", "behind", "away"]
T = TypeVar("T")

# Of one that writes, the history it writes, which is another one after each promotion, begins the
# names of its files.
_POSITION = text("""
    SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint,
        left(pg_walfile_name(pg_current_wal_flush_lsn()), 8)
""")
_REPLAYED = text("""
    SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::bigint,
        CASE WHEN NOT pg_is_in_recovery()
            THEN left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) END,
        version_num
    FROM alembic_version
""")

_reading: ContextVar[AsyncEngine | None] = ContextVar("replica", default=None)


def replica_engine() -> AsyncEngine | None:
    """Return the engine of the replica that this task reads, None for the primary."""
    return _reading.get()


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a replica; `lag_s` is the age of what it may lack, None if it is away."""

    state: State
    lag_s: float | None


class Replica:
    """Knows whether a replica is near enough, and lets searches read it then."""

    def __init__(self, engine: AsyncEngine, *, revision: str) -> None:
        self.engine = engine
        self.reads: Counter[str] = Counter({"primary": 0, "replica": 0})
        self._revision = revision
        self._positions: deque[tuple[float, int]] = deque(maxlen=600)
        self._timeline: str | None = None
        self._status = Status("away", None)
        self._checked_at = -float("inf")
        self.is_watched = False

    @property
    def status(self) -> Status:
        """What was found a moment ago."""
        if monotonic() - self._checked_at > KNOWN_FOR_S:
            return Status("away", None)
        return self._status

    async def read(self, call: Callable[[], Awaitable[T]], *, fresh: bool = False) -> T:
        """Return what a call finds on the replica; on the primary, if that is better.

        It is for a `fresh` one. What fails on the replica is called again.
        """
        if not fresh and self.status.state == "in use":
            token = _reading.set(self.engine)
            try:
                found = await call()
            except _REPEATED as problem:
                if isinstance(problem, DatabaseUnavailable):
                    self._note(Status("away", None), cause=problem.__cause__)
            else:
                self.reads["replica"] += 1
                return found
            finally:
                _reading.reset(token)
        self.reads["primary"] += 1
        return await call()

    @asynccontextmanager
    async def watched(self, primary: AsyncEngine) -> AsyncGenerator[None]:
        """Check the replica every second."""
        self.is_watched = True
        watching = asyncio.create_task(self._watch(primary))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def check(self, primary: AsyncEngine) -> None:
        """Find out how far the replica is behind."""
        # If the primary is away, what is known of it becomes older.
        with suppress(SQLAlchemyError, OSError, TimeoutError):
            async with asyncio.timeout(CHECKED_WITHIN_S):
                asked_at = monotonic()
                position, self._timeline = await _position(primary)
                self._positions.append((asked_at, position))
        try:
            async with asyncio.timeout(CHECKED_WITHIN_S), self.engine.connect() as connection:
                [(replayed, timeline, revision)] = await connection.execute(_REPLAYED)
            if revision != self._revision:
                raise SchemaChanged
            if timeline not in (None, self._timeline):
                raise DatabaseUnavailable(PROMOTED)
        except (SQLAlchemyError, OSError, TimeoutError, Problem) as exc:
            self._note(Status("away", None), cause=exc)
            return
        lag_s = self._lag(replayed)
        self._note(Status("in use" if lag_s <= MOST_LAG_S else "behind", round(lag_s, 2)))

    def _lag(self, replayed: int) -> float:
        """Return for how long the primary may have committed what the replica has not replayed."""
        now = monotonic()
        had = [at for at, position in self._positions if position <= replayed]
        if had:
            return now - had[-1]
        return now - self._positions[0][0] + MOST_LAG_S if self._positions else MOST_LAG_S * 2

    def _note(self, status: Status, *, cause: object = None) -> None:
        before, self._status = self._status, status
        first = self._checked_at == -float("inf")
        self._checked_at = monotonic()
        if status.state == before.state and not first:
            return
        said = fields(lag_s=status.lag_s, cause=cause)
        if status.state == "in use":
            logger.info("searches read the replica", extra=said)
        else:
            logger.warning(f"searches read the primary: the replica is {status.state}", extra=said)

    async def _watch(self, primary: AsyncEngine) -> None:
        while True:
            try:
                await self.check(primary)
            except Exception:
                logger.exception("the replica is not checked this time")
            await asyncio.sleep(CHECK_S)


async def _position(primary: AsyncEngine) -> tuple[int, str]:
    """Return the position of the primary's log, and its timeline."""
    async with primary.connect() as connection:
        [(position, timeline)] = await connection.execute(_POSITION)
    return position, timeline
