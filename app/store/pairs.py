"""What is known of pairs of images: which are not duplicates, and which were found to be copies.

That two files are not duplicates was said by someone, and is kept for ever. That one image is a
copy of another was computed; it is kept as long as both are there, with the same pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import TextClause, select, text

from app.store.database import Database
from app.store.fingerprints import Fingerprint
from app.store.tables import IMAGES

Pair: TypeAlias = tuple[UUID, UUID]
"""The ids of two images, the lesser first."""

_DENIED = text("""
    SELECT one, other FROM not_duplicates
    JOIN unnest(CAST(:ones AS text[]), CAST(:others AS text[])) AS asked (one, other)
    USING (one, other)
""")
_DENY = text("""
    INSERT INTO not_duplicates (one, other)
    SELECT * FROM unnest(CAST(:ones AS text[]), CAST(:others AS text[])) ORDER BY 1, 2
    ON CONFLICT DO NOTHING
""")
_ALLOW = text("""
    DELETE FROM not_duplicates
    USING unnest(CAST(:ones AS text[]), CAST(:others AS text[])) AS asked (one, other)
    WHERE not_duplicates.one = asked.one AND not_duplicates.other = asked.other
""")
# Of each file, the image with the lowest id; of two images of one file, the two lowest.
_LAST_DENIED = text("""
    SELECT one.id AS one, other.id AS other, denied_at FROM not_duplicates AS denied
    CROSS JOIN LATERAL (
        SELECT id FROM images WHERE sha256 = denied.one ORDER BY id LIMIT 1
    ) AS one
    CROSS JOIN LATERAL (
        SELECT id FROM images WHERE sha256 = denied.other AND id <> one.id ORDER BY id LIMIT 1
    ) AS other
    ORDER BY denied_at DESC, denied.one, denied.other LIMIT :limit
""")
_COMPARED = text("""
    SELECT one, other, is_copy FROM compared_pairs
    JOIN unnest(CAST(:ones AS uuid[]), CAST(:others AS uuid[])) AS asked (one, other)
    USING (one, other) WHERE version = :version
""")
_KEEP = text("""
    INSERT INTO compared_pairs (one, other, version, is_copy)
    VALUES (:one, :other, :version, :is_copy)
    ON CONFLICT (one, other) DO UPDATE
    SET version = excluded.version, is_copy = excluded.is_copy
""")


@dataclass(frozen=True, slots=True)
class Denied:
    """Two images of the index, by id, of which someone said that they are not duplicates."""

    one: UUID
    other: UUID
    at: datetime


class PairTable:
    """Reads and writes what is known of pairs of images."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def denied(self, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return which pairs of SHA-256, the lesser first, are not duplicates."""
        async with self._database.reading() as connection:
            found = await connection.execute(_DENIED, _columns(pairs))
            return {(row.one, row.other) for row in found}

    async def deny(self, hashes: Sequence[str]) -> None:
        """Remember that no two of these files, given by SHA-256, are duplicates.

        A hash that is given twice is of a file with several images, which are then not either.
        """
        await self._change(_DENY, hashes)

    async def allow(self, hashes: Sequence[str]) -> None:
        """Forget that these files are not duplicates of each other."""
        await self._change(_ALLOW, hashes)

    async def last_denied(self, limit: int) -> list[Denied]:
        """Return the pairs of images that were denied last, the last one first."""
        async with self._database.reading() as connection:
            found = await connection.execute(_LAST_DENIED, {"limit": limit})
            return [Denied(row.one, row.other, row.denied_at) for row in found]

    async def compared(self, pairs: Iterable[Pair], *, version: int) -> dict[Pair, bool]:
        """Return whether pairs are copies, without those that this version has not compared."""
        async with self._database.reading() as connection:
            found = await connection.execute(_COMPARED, {**_columns(pairs), "version": version})
            return {(row.one, row.other): row.is_copy for row in found}

    async def keep(
        self, found: Mapping[Pair, bool], files: Mapping[UUID, Fingerprint], *, version: int
    ) -> None:
        """Store which pairs of these images are copies, unless their files are others by now."""
        if not found:
            return
        ids = {image_id for pair in found for image_id in pair}
        # A change that comes meanwhile waits, and then deletes the pair. In the order of ids, in
        # which writers lock them, too.
        locked = (
            select(IMAGES.c.id, IMAGES.c.sha256)
            .where(IMAGES.c.id.in_(ids))
            .order_by(IMAGES.c.id)
            .with_for_update(read=True)
        )
        async with self._database.begin() as connection:
            rows = await connection.execute(locked)
            same = {row.id for row in rows if row.sha256 == files[row.id].sha256}
            kept = [
                {"one": one, "other": other, "version": version, "is_copy": is_copy}
                for (one, other), is_copy in sorted(found.items())
                if {one, other} <= same
            ]
            if kept:
                await connection.execute(_KEEP, kept)

    async def _change(self, statement: TextClause, hashes: Sequence[str]) -> None:
        ordered = sorted(hashes)
        pairs = {(one, o) for place, one in enumerate(ordered) for o in ordered[place + 1 :]}
        async with self._database.begin() as connection:
            await connection.execute(statement, _columns(sorted(pairs)))


def _columns(pairs: Iterable[tuple[object, object]]) -> dict[str, list[object]]:
    listed = list(pairs)
    return {"ones": [one for one, _ in listed], "others": [other for _, other in listed]}
