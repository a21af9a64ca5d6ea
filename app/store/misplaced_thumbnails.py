"""Thumbnails that are in the other place than they should be, in the index and in the trash."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

from sqlalchemy import TextClause, text

from app.store.database import Database
from app.store.loose_thumbnails import Place, hold
from app.store.thumbnail_place import record_place

Table: TypeAlias = Literal["images", "trash"]

# A row of the trash has its key in the JSON of its image.
_SOURCES: dict[Table, str] = {
    "images": "SELECT id, thumbnail, thumbnail_key FROM images",
    "trash": "SELECT image_id AS id, thumbnail, image->>'thumbnail_key' AS thumbnail_key"
    " FROM trash",
}
_MISPLACED: dict[Place, str] = {"media": "thumbnail IS NOT NULL", "database": "thumbnail IS NULL"}
# Only what is still as it was read: a thumbnail that was replaced meanwhile is another one.
_INTO_FILES: dict[Table, TextClause] = {
    "images": text("""
        UPDATE images SET thumbnail = NULL, thumbnail_key = :key
        WHERE id = :id AND thumbnail_key IS NULL AND sha256(thumbnail) = sha256(:data)
    """),
    "trash": text("""
        UPDATE trash SET thumbnail = NULL,
            image = image || jsonb_build_object('thumbnail_key', CAST(:key AS text))
        WHERE image_id = :id AND image->>'thumbnail_key' IS NULL
            AND sha256(thumbnail) = sha256(:data)
    """),
}
_INTO_ROWS: dict[Table, TextClause] = {
    "images": text("""
        UPDATE images SET thumbnail = :data, thumbnail_key = NULL
        WHERE id = :id AND thumbnail_key = :key
    """),
    "trash": text("""
        UPDATE trash SET thumbnail = :data, image = image - 'thumbnail_key'
        WHERE image_id = :id AND image->>'thumbnail_key' = :key
    """),
}


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A row, with its thumbnail or the key of the file that has it."""

    id: UUID
    thumbnail: bytes | None
    thumbnail_key: str | None


class MisplacedThumbnails:
    """Finds rows whose thumbnail is not in a place, and changes where they have it."""

    def __init__(self, database: Database, target: Place) -> None:
        self._database = database
        self._target: Place = target

    async def count(self) -> int:
        """Return how many there are."""
        sources = " UNION ALL ".join(_SOURCES.values())
        query = f"SELECT count(*) FROM ({sources}) AS rows WHERE {self._where}"  # noqa: S608
        async with self._database.reading() as connection:
            return await connection.scalar(text(query)) or 0

    async def some(self, table: Table, *, after: UUID | None, limit: int) -> list[Misplaced]:
        """Return rows by id, with ids greater than `after`."""
        query = text(f"""
            SELECT * FROM ({_SOURCES[table]}) AS rows
            WHERE {self._where} AND id > :after ORDER BY id LIMIT :limit
        """)  # noqa: S608 - all of it is written above
        given = {"after": after or UUID(int=0), "limit": limit}
        async with self._database.reading() as connection:
            return [Misplaced(*row) for row in await connection.execute(query, given)]

    async def put(self, table: Table, rows: Sequence[tuple[UUID, bytes, str]]) -> list[bool]:
        """Change rows, given by id, thumbnail and key; return which were as they were read.

        The files of the others are as loose as before.
        """
        statements = _INTO_FILES if self._target == "media" else _INTO_ROWS
        async with self._database.begin() as connection:
            changed: list[bool] = []
            for image_id, data, key in rows:
                given = {"id": image_id, "data": data, "key": key}
                changed.append((await connection.execute(statements[table], given)).rowcount == 1)
            if self._target == "media":
                keys = [
                    key for (_, _, key), is_changed in zip(rows, changed, strict=True) if is_changed
                ]
                await hold(connection, keys)
        return changed

    async def finish(self) -> None:
        """Let THUMBNAILS=auto be this place from now on."""
        async with self._database.begin() as connection:
            await record_place(connection, self._target)

    @property
    def _where(self) -> str:
        return _MISPLACED[self._target]
