"""The keypoints of images, made from their thumbnails; the table is also the list of those to make.

Triggers (migration 0012) add a row of version 0 for each new image, and return a row to it when the
thumbnail changes. Whoever stores keypoints holds the lock of the row and finds that the thumbnail
is still the one they were made from: a change that comes meanwhile waits, and then empties the row.
No lock that others wait for is held while keypoints are made.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Text, bindparam, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.pictures.keypoints import VERSION
from app.store.database import Database
from app.store.tables import IMAGES, KEYPOINTS
from app.store.thumbnails import DIGEST, Thumbnails

# The first number of the advisory locks of claims.
CLAIMS = 1_263_556_718
# How many may be held at once; who comes later finds nothing to do.
MOST_CLAIMS = 8
_OUTDATED = KEYPOINTS.c.version < VERSION
_THUMBNAIL = (IMAGES.c.id, IMAGES.c.thumbnail, IMAGES.c.thumbnail_key, DIGEST)


@dataclass(frozen=True, slots=True)
class Stored:
    """An image's thumbnail and its keypoints, which are None if they are still to be made.

    Of a thumbnail that cannot be read, they are empty bytes. `digest` is the thumbnail's SHA-256.
    """

    thumbnail: bytes
    keypoints: bytes | None
    digest: bytes


@dataclass(frozen=True, slots=True)
class Made:
    """Of how many images the keypoints are made, in the version that this program makes."""

    made: int
    of: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Images whose keypoints are to be made now, by no one else: their thumbnails, by id.

    One that is lost is empty. `digests` are their SHA-256.
    """

    thumbnails: Mapping[UUID, bytes]
    digests: Mapping[UUID, bytes]
    _connection: AsyncConnection

    async def store(self, keypoints: Mapping[UUID, bytes]) -> None:
        """Store what was made, at the end of the claim."""
        await _keep(self._connection, self.digests, keypoints)


class KeypointTable:
    """Reads and writes the keypoints table."""

    def __init__(self, database: Database, thumbnails: Thumbnails | None = None) -> None:
        self._database = database
        self._thumbnails = thumbnails or Thumbnails()

    async def find(self, ids: Sequence[UUID]) -> dict[UUID, Stored]:
        """Return thumbnails and keypoints by id, without images that do not exist.

        Left out are those, too, whose thumbnail cannot be had within a moment.
        """
        query = (
            select(*_THUMBNAIL, KEYPOINTS.c.version, KEYPOINTS.c.bytes)
            .join_from(IMAGES, KEYPOINTS, KEYPOINTS.c.image_id == IMAGES.c.id, isouter=True)
            .where(IMAGES.c.id.in_(ids))
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        read = await self._thumbnails.read_soon(rows)
        return {
            row.id: Stored(data, row.bytes if row.version == VERSION else None, row.digest)
            for row, data in zip(rows, read, strict=True)
            if data is not None
        }

    @asynccontextmanager
    async def claim(self, *, limit: int) -> AsyncGenerator[Claim]:
        """Claim up to `limit` images whose keypoints are to be made, until the context is left.

        Others claim other images, and do not wait. Raises `StorageUnavailable`.
        """
        waiting = select(KEYPOINTS.c.image_id).where(_OUTDATED).order_by(KEYPOINTS.c.version)
        few = waiting.limit(limit * MOST_CLAIMS).cte().prefix_with("MATERIALIZED")
        number = func.hashtext(cast(few.c.image_id, Text))
        unclaimed = select(few).where(func.pg_try_advisory_xact_lock(CLAIMS, number)).limit(limit)
        async with self._database.begin() as connection:
            ids = (await connection.scalars(unclaimed)).all()
            query = select(*_THUMBNAIL).where(IMAGES.c.id.in_(ids))
            rows = (await connection.execute(query)).all()
            read = zip(rows, await self._thumbnails.read(rows), strict=True)
            digests = {row.id: row.digest for row in rows}
            yield Claim({row.id: data for row, data in read}, digests, connection)

    async def keep(self, digests: Mapping[UUID, bytes], made: Mapping[UUID, bytes]) -> None:
        """Store keypoints that were made from thumbnails with these digests.

        Left out are images whose thumbnail has changed since, and those that others store now.
        """
        if made:
            async with self._database.begin(writes=True) as connection:
                await _keep(connection, digests, made)

    async def made(self) -> Made:
        """Count the images whose keypoints are made."""
        query = select(func.count().filter(~_OUTDATED), func.count()).select_from(KEYPOINTS)
        async with self._database.begin() as connection:
            return Made(*(await connection.execute(query)).one())


async def _keep(
    connection: AsyncConnection, digests: Mapping[UUID, bytes], made: Mapping[UUID, bytes]
) -> None:
    locked = (
        select(KEYPOINTS.c.image_id)
        .where(KEYPOINTS.c.image_id.in_(made), _OUTDATED)
        .with_for_update(skip_locked=True)
    )
    ids = (await connection.scalars(locked)).all()
    # As others have committed them by now.
    query = select(IMAGES.c.id, DIGEST).where(IMAGES.c.id.in_(ids))
    rows = [
        {"made_id": image_id, "made": made[image_id]}
        for image_id, found in await connection.execute(query)
        if found == digests[image_id]
    ]
    if rows:
        await connection.execute(
            KEYPOINTS.update()
            .where(KEYPOINTS.c.image_id == bindparam("made_id"))
            .values(version=VERSION, bytes=bindparam("made")),
            rows,
        )
