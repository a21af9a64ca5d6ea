"""The hashes that show images in all eight orientations: those still to be made, and near ones.

A new image has one. One that was indexed or imported without gets it from its thumbnail: so the
rows that have none are the list of what is to be done.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, func, select, text

from app.pictures.phash import keys, near_keys, orientations
from app.store.database import Database
from app.store.tables import IMAGES
from app.store.thumbnails import DIGEST, Thumbnails

# What the statement calls the keys of each part of a hash.
PARTS = ("firsts", "seconds", "thirds")
# Of rows that have one of the keys of an image, so many are compared with it at the most.
MOST_COMPARED = 20_000

# Keys say little, the whole hash decides. OFFSET 0 keeps the planner from reading the arrays anew
# for each row. A GIN index of the keys takes twice as long for so many as B-trees of each do.
_NEAR = text("""
    SELECT asked.id AS asked, near.id, near.bits
    FROM (
        SELECT id, CAST(hashes AS bigint[]) AS hashes, CAST(firsts AS integer[]) AS firsts,
            CAST(seconds AS integer[]) AS seconds, CAST(thirds AS integer[]) AS thirds
        FROM unnest(
            CAST(:ids AS uuid[]), CAST(:hashes AS text[]),
            CAST(:firsts AS text[]), CAST(:seconds AS text[]), CAST(:thirds AS text[])
        ) AS given (id, hashes, firsts, seconds, thirds)
        OFFSET 0
    ) AS asked
    CROSS JOIN LATERAL (
        SELECT id, bits FROM (
            SELECT images.id, (
                SELECT min(bit_count((phash # hash)::bit(64))) FROM unnest(hashes) AS hash
            ) AS bits
            FROM images WHERE NOT too_plain AND images.id <> asked.id AND (
                phash_keys[1] = ANY(firsts)
                OR phash_keys[2] = ANY(seconds)
                OR phash_keys[3] = ANY(thirds)
            )
            LIMIT :compared
        ) AS compared
        WHERE bits <= :max_bits ORDER BY bits, id LIMIT :limit
    ) AS near
    ORDER BY near.bits, near.id
""")
# There is an index of those.
_MISSING = IMAGES.c.phash.is_(None)


class Near(NamedTuple):
    """An image, and in how many bits its hash differs from another's, turned to it."""

    id: UUID
    bits: int


@dataclass(frozen=True, slots=True)
class Missing:
    """An image without a hash, its JPEG thumbnail, empty if it is lost, and the digest of that."""

    id: UUID
    thumbnail: bytes
    digest: bytes


class HashTable:
    """Reads and writes the hashes of the images table."""

    def __init__(self, database: Database, thumbnails: Thumbnails | None = None) -> None:
        self._database = database
        self._thumbnails = thumbnails or Thumbnails()

    async def near(
        self, hashes: Mapping[UUID, int], *, max_bits: int, limit: int
    ) -> dict[UUID, list[Near]]:
        """Return for images, given by their hashes, the others that differ from each in few bits.

        The nearest come first. One that differs in more than eight bits may be missed. Images that
        are too plain, or whose hashes are still to be made, are left out.
        """
        if not hashes:
            return {}
        # A hundredth of a second or so for a dozen of them.
        given = await asyncio.to_thread(_columns, hashes)
        limits = {"max_bits": max_bits, "limit": limit, "compared": MOST_COMPARED}
        near: dict[UUID, list[Near]] = {}
        async with self._database.reading() as connection:
            for row in await connection.execute(_NEAR, {**given, **limits}):
                near.setdefault(row.asked, []).append(Near(row.id, row.bits))
        return near

    async def missing(self, *, limit: int) -> list[Missing]:
        """Return images whose hashes are still to be made; raises `StorageUnavailable`."""
        columns = (IMAGES.c.id, IMAGES.c.thumbnail, IMAGES.c.thumbnail_key, DIGEST)
        query = select(*columns).where(_MISSING).order_by(IMAGES.c.id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.limit(limit))).all()
        read = await self._thumbnails.read(rows)
        return [Missing(row.id, data, row.digest) for row, data in zip(rows, read, strict=True)]

    async def keep(self, images: Sequence[Missing], made: Mapping[UUID, int | None]) -> None:
        """Store the hashes that were made of these, unless their thumbnails are others by now.

        None is for a thumbnail that cannot be read: its image is near to no other.
        """
        ids = [image.id for image in images]
        locked = (
            select(IMAGES.c.id, DIGEST)
            .where(IMAGES.c.id.in_(ids), _MISSING)
            .order_by(IMAGES.c.id)
            .with_for_update()
        )
        async with self._database.begin() as connection:
            found = await connection.execute(locked)
            now = {row.id: row.digest for row in found}
            rows = [
                {"made_id": image.id, "made": value or 0, "made_keys": _keys(value)}
                for image in images
                if now.get(image.id) == image.digest
                for value in [made[image.id]]
            ]
            if rows:
                await connection.execute(
                    IMAGES.update()
                    .where(IMAGES.c.id == bindparam("made_id"))
                    .values(phash=bindparam("made"), phash_keys=bindparam("made_keys")),
                    rows,
                )

    async def count_missing(self) -> int:
        """Return how many hashes are still to be made."""
        async with self._database.begin() as connection:
            query = select(func.count()).select_from(IMAGES).where(_MISSING)
            return await connection.scalar(query) or 0


def _keys(value: int | None) -> list[int]:
    return [] if value is None else keys(value)


def _columns(hashes: Mapping[UUID, int]) -> dict[str, Sequence[object]]:
    near = [near_keys(value) for value in hashes.values()]
    return {
        "ids": list(hashes),
        "hashes": [_array(orientations(value)) for value in hashes.values()],
        **{name: [_array(keys[part]) for keys in near] for part, name in enumerate(PARTS)},
    }


def _array(numbers: Sequence[int]) -> str:
    """Return Postgres' notation of an array."""
    return "{" + ",".join(map(str, numbers)) + "}"
