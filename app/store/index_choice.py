"""Which kind of index a vector table should have: what is wanted, or else what fits the memory."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import Connection, text

from app.store.database import Database
from app.store.machine import machine_memory
from app.store.scans import SCANS, Kind

Wanted: TypeAlias = Literal["auto", "halfvec", "bit", "milvus"]
"""What `VECTOR_INDEX` may be."""

# An index of whole vectors may take this share of the database's memory: a search reads pages from
# all over it, and the rows of the vectors, and other indexes, are to stay in memory, too.
SHARE_OF_MEMORY = 0.5
# A database elsewhere has about four times the memory of its buffers, and at least so much.
BUFFERS = 4
LEAST_MEMORY = 16_000_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """What kind of index a table of so many rows should have.

    `memory` is that of the database, in bytes.
    """

    wanted: Wanted
    memory: int

    @classmethod
    def of(cls, connection: Connection, database: Database, wanted: Wanted) -> "Choice":
        """Return the choice for a database."""
        if database.embedded:
            return cls(wanted, machine_memory())
        buffers = connection.scalar(text("SELECT pg_size_bytes(current_setting('shared_buffers'))"))
        return cls(wanted, max(LEAST_MEMORY, BUFFERS * (buffers or 0)))

    def kind(self, rows: int, dimensions: int) -> Kind:
        """Return what is wanted in Postgres, or else what fits the memory."""
        if self.wanted in ("halfvec", "bit"):
            return self.wanted
        size = rows * SCANS["halfvec"].bytes_per_row(dimensions)
        return "halfvec" if size <= SHARE_OF_MEMORY * self.memory else "bit"

    @property
    def reason(self) -> str:
        """Why `auto` chooses `bit`."""
        most = SHARE_OF_MEMORY * self.memory / 1e9
        return f"whole vectors would take more than {most:.0f} GB, half of the database's memory"
