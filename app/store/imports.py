"""Which parts of an import are imported, kept until all of them are."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from app.store.database import Database
from app.store.tables import IMPORTED_PARTS

# An import that was not continued by then begins anew.
KEPT_FOR = text("interval '30 days'")


@dataclass(frozen=True, slots=True)
class PartImported:
    """How many images a part had, and how many came with every vector of this index."""

    images: int
    vectors: int


class ImportedParts:
    """The table of the parts that are imported, of imports that are not whole yet.

    `place` is where an import reads, and `part` a file there, in the version that was read. Neither
    is stored, only their hashes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def done(self, place: str) -> Mapping[str, PartImported]:
        """Return what is imported of a place, by `key_of` the part; forget old imports."""
        rows = IMPORTED_PARTS.c
        query = select(rows.part, rows.images, rows.vectors).where(rows.place == key_of(place))
        async with self._database.begin() as connection:
            await connection.execute(
                delete(IMPORTED_PARTS).where(rows.imported_at < func.now() - KEPT_FOR)
            )
            found = await connection.execute(query)
            return {row.part: PartImported(row.images, row.vectors) for row in found}

    async def add(self, place: str, part: str, done: PartImported) -> None:
        """Record that a part is imported."""
        counts = {"images": done.images, "vectors": done.vectors, "imported_at": func.now()}
        row = insert(IMPORTED_PARTS).values(place=key_of(place), part=key_of(part), **counts)
        async with self._database.begin() as connection:
            await connection.execute(
                row.on_conflict_do_update(
                    index_elements=[IMPORTED_PARTS.c.place, IMPORTED_PARTS.c.part], set_=counts
                )
            )

    async def forget(self, place: str) -> None:
        """Forget an import: it is whole, or begins anew."""
        async with self._database.begin() as connection:
            await connection.execute(
                delete(IMPORTED_PARTS).where(IMPORTED_PARTS.c.place == key_of(place))
            )


def key_of(name: str) -> str:
    """Return what stands for a place or a part, whatever bytes its name has."""
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
