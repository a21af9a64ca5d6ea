"""Which workers are alive, and what they can do: rows that each renews while it runs."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.database import Database
from app.store.tables import WORKERS, seconds

_ALIVE = WORKERS.c.alive_until > func.now()


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """How many workers are alive, and how many of them have a caption model."""

    running: int
    captioning: int


class Workers:
    """The table of running workers, of this database and whatever machine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, worker_id: UUID, *, captions: bool, for_s: float) -> None:
        """Record that a worker is alive for the next `for_s` seconds; forget dead ones."""
        until = func.now() + seconds(for_s)
        row = insert(WORKERS).values(id=worker_id, captions=captions, alive_until=until)
        renewed = row.on_conflict_do_update(
            index_elements=[WORKERS.c.id], set_={"alive_until": until, "captions": captions}
        )
        async with self._database.begin() as connection:
            await connection.execute(delete(WORKERS).where(~_ALIVE, WORKERS.c.id != worker_id))
            await connection.execute(renewed)

    async def remove(self, worker_id: UUID) -> None:
        """Record that a worker has stopped."""
        async with self._database.begin() as connection:
            await connection.execute(delete(WORKERS).where(WORKERS.c.id == worker_id))

    async def count(self) -> WorkerCount:
        """Count the workers that are alive."""
        async with self._database.begin() as connection:
            return await count_workers(connection)


async def count_workers(connection: AsyncConnection) -> WorkerCount:
    """Count the workers that are alive."""
    captioning = func.count().filter(WORKERS.c.captions)
    row = (await connection.execute(select(func.count(), captioning).where(_ALIVE))).one()
    return WorkerCount(*row)
