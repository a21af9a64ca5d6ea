"""What identifies images, without anything that is shown of them: their files and hashes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Row, Uuid, cast, func, literal, select

from app.store.database import Database
from app.store.tables import IMAGES

# Ids are random (version 5 UUIDs), so that seven bytes tell millions of images apart.
BRIEF_BYTES = 7

_COLUMNS = (
    IMAGES.c.id,
    IMAGES.c.sha256,
    IMAGES.c.dhash,
    IMAGES.c.phash,
    IMAGES.c.too_plain,
    IMAGES.c.indexed_at,
    (cast(IMAGES.c.width, BigInteger) * IMAGES.c.height).label("pixels"),
)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """An image's id, the SHA-256 of its file, its hashes, when it was added, and how large it is.

    An image that is `too_plain` has a difference hash that many others have. `phash` is None until
    it is made.
    """

    id: UUID
    sha256: str
    dhash: int
    phash: int | None
    too_plain: bool
    indexed_at: datetime
    pixels: int


def brief(image_id: UUID) -> bytes:
    """Return the beginning of an id, for cursors."""
    return image_id.bytes[:BRIEF_BYTES]


class Fingerprints:
    """Reads fingerprints from the images table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, ids: Sequence[UUID]) -> dict[UUID, Fingerprint]:
        """Return the fingerprints by id, without images that do not exist."""
        found = await self._read(select(*_COLUMNS).where(IMAGES.c.id.in_(ids)))
        return {image.id: image for image in found}

    async def find_brief(self, briefs: Sequence[bytes]) -> dict[bytes, Fingerprint]:
        """Return the fingerprints by the `brief` of the id, without images that do not exist."""
        lowest = [UUID(bytes=start.ljust(16, b"\0")) for start in briefs]
        given = func.unnest(cast(lowest, ARRAY(Uuid()))).table_valued("low").render_derived("given")
        # For each, the first id that is not lower: a look-up in the index.
        first = (
            select(*_COLUMNS)
            .where(IMAGES.c.id >= given.c.low)
            .order_by(IMAGES.c.id)
            .limit(1)
            .lateral()
        )
        found = await self._read(select(first).select_from(given.join(first, literal(True))))
        wanted = set(briefs)
        return {brief(image.id): image for image in found if brief(image.id) in wanted}

    async def walk(self, *, after: UUID | None, limit: int) -> list[Fingerprint]:
        """Return the fingerprints of images by id, with ids greater than `after`."""
        query = select(*_COLUMNS).order_by(IMAGES.c.id).limit(limit)
        return await self._read(query if after is None else query.where(IMAGES.c.id > after))

    async def of_files(
        self, hashes: Sequence[str], *, until: datetime, limit: int
    ) -> dict[str, list[Fingerprint]]:
        """Return the images of each SHA-256 that were added `until` then: the `limit` lowest ids.

        They are in the order of their ids.
        """
        place = func.row_number().over(partition_by=IMAGES.c.sha256, order_by=IMAGES.c.id)
        placed = (
            select(*_COLUMNS, place.label("place"))
            .where(IMAGES.c.sha256.in_(hashes), IMAGES.c.indexed_at <= until)
            .subquery()
        )
        columns = [placed.c[column.name] for column in _COLUMNS]
        query = select(*columns).where(placed.c.place <= limit).order_by(placed.c.id)
        found: dict[str, list[Fingerprint]] = {}
        for image in await self._read(query):
            found.setdefault(image.sha256, []).append(image)
        return found

    async def newest(self) -> datetime | None:
        """Return when the last image was added, None if there is no image."""
        query = select(IMAGES.c.indexed_at).order_by(IMAGES.c.indexed_at.desc()).limit(1)
        async with self._database.begin() as connection:
            return await connection.scalar(query)

    async def _read(self, query: Any) -> list[Fingerprint]:
        async with self._database.reading() as connection:
            return [_fingerprint(row) for row in await connection.execute(query)]


def _fingerprint(row: Row[Any]) -> Fingerprint:
    return Fingerprint(
        row.id,
        row.sha256,
        row.dhash,
        row.phash,
        row.too_plain,
        row.indexed_at,
        row.pixels,
    )
