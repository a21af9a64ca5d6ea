"""Tables of vectors whose index is in Milvus, with synchronous calls."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from sqlalchemy import text

from app.store.database import Database
from app.store.images import Entry
from app.store.index_kinds import set_up_vectors
from app.store.milvus.applying import Applier
from app.store.milvus.client import Milvus
from app.store.milvus.outbox import waiting
from app.store.nearest import nearest
from app.store.row_counts import row_count
from app.store.vectors import NewVector, VectorTable
from tests.samples import facts

T = TypeVar("T")

DIMENSIONS, LIMIT = 128, 10
SHARES = (100, 50, 20, 10, 8, 5, 1, 0.1)
# Of each photo. Around near copies, a graph that is followed past few of the rows that do not pass
# a filter ends soon.
VERSIONS = 5


def made(number: int) -> Any:
    """Unit vectors of photos, `VERSIONS` of each, which spread in some directions more."""
    return _versions(np.repeat(_photos(number // VERSIONS), VERSIONS, 0), 0)


def queries(number: int) -> Any:
    """Unit vectors of one more version of each of the first photos."""
    return _versions(_photos(number), 1)


def _photos(number: int) -> Any:
    generator = np.random.default_rng(7)
    directions = generator.normal(size=(24, DIMENSIONS))
    spread = [
        generator.normal(size=24) @ directions + generator.normal(size=DIMENSIONS)
        for _ in range(number)
    ]
    return np.array(spread)


def _versions(photos: Any, seed: int) -> Any:
    made = photos + 0.5 * np.random.default_rng(seed).normal(size=photos.shape)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def row(place: int, vector: Any, tags: list[str]) -> NewVector:
    entry = Entry(f"https://example.com/{place}", "", "", tags, {})
    return NewVector(entry, facts(), f"{place:016x}{place:048x}", vector)


@dataclass
class Tabled:
    """A table of vectors, of which the index may be in Milvus."""

    database: Database
    milvus: Milvus
    vectors: VectorTable
    said: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, database: Database, milvus: Milvus, name: str, *, wanted: Any) -> "Tabled":
        vectors = VectorTable(database, name, dimensions=DIMENSIONS, milvus=milvus)
        made = cls(database, milvus, vectors)
        with database.set_up() as connection:
            set_up_vectors(connection, vectors, wanted, made.said.append, name=name)
        return made

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            try:
                return await work()
            finally:
                await self.database.engine.dispose()

        return asyncio.run(run())

    def write(self, rows: list[NewVector]) -> None:
        async def write() -> None:
            async with self.database.begin() as connection:
                await self.vectors.upsert(connection, rows)

        self.run(write)

    def execute(self, statement: str, **given: Any) -> None:
        with self.database.sync_engine.begin() as connection:
            connection.execute(text(statement), given)

    def analyse(self) -> None:
        self.execute(f"ANALYZE {self.vectors.table.name}")

    def nearest(self, vector: Any, **options: Any) -> list[UUID]:
        found = self.run(lambda: self.vectors.nearest(vector, limit=LIMIT, **options))
        return [image_id for image_id, _ in found]

    def right(self, vector: Any, filters: Any) -> list[UUID]:
        """Return the nearest, by comparing each row."""

        async def compare() -> list[Any]:
            async with self.database.reading() as connection:
                return await nearest(
                    connection,
                    self.vectors.table,
                    vector,
                    limit=LIMIT,
                    filters=filters,
                    exactly=True,
                )

        return [UUID(found.node_id) for found in self.run(compare)]

    def apply(self) -> int:
        """Tell Milvus all that is in the outbox; return in how many batches."""
        applier = Applier(self.database, self.milvus)

        async def apply() -> int:
            batches = 0
            while await applier.apply(self.vectors.table, waits=True):
                batches += 1
            return batches

        return self.run(apply)

    def waiting(self) -> tuple[int, int]:
        """Return how many changes Milvus was not told, and how many it was."""

        async def count() -> tuple[int, int]:
            async with self.database.reading() as connection:
                found = await waiting(connection)
                return found.unapplied, found.applied

        return self.run(count)

    @property
    def collection(self) -> str:
        name = row_count(self.vectors.table).collection
        assert name is not None
        return name

    def forget(self) -> None:
        """Let what is known of rows and index be read again."""
        row_count(self.vectors.table)._until = -float("inf")  # pyright: ignore[reportPrivateUsage]
