"""Which uploaded files are needed: by an image, by a job, or by an upload that has neither yet.

An image in the trash needs its file, too.

Claiming a file and finding that nobody needs it wait for each other, in all processes, by an
advisory lock for its SHA-256.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.database import Database
from app.store.images import UPLOAD_SCHEME, Entry
from app.store.tables import ITEMS

# The first of two keys of advisory locks, arbitrary, but the same in every version.
UPLOAD_LOCKS = 0x0CA11CE
# Of a process that died; none takes that long from the bytes to the row.
_CLAIMED_FOR = "interval '1 day'"

_LOCK = text("SELECT pg_advisory_xact_lock(:locks, :key)")
_CLAIM = text("INSERT INTO upload_claims (id, sha256) VALUES (:id, :sha256)")
_RELEASE = text(
    f"DELETE FROM upload_claims WHERE id = :id OR claimed_at < now() - {_CLAIMED_FOR}"  # noqa: S608
)
# An item that has ended well has left its file to the image; any other may be tried again.
_NEEDED = text("""
    SELECT sha256 FROM unnest(CAST(:hashes AS text[]), CAST(:ids AS uuid[])) AS asked (sha256, id)
    WHERE EXISTS (SELECT FROM images WHERE images.id = asked.id)
    OR EXISTS (SELECT FROM trash WHERE trash.image_id = asked.id)
    OR EXISTS (SELECT FROM upload_claims WHERE upload_claims.sha256 = asked.sha256)
    OR EXISTS (
        SELECT FROM job_items WHERE source = 'upload' AND url = :scheme || asked.sha256
        AND state IN ('waiting', 'failed', 'cancelled')
    )
""")


class Claims:
    """Claims on uploaded files; a claim of a process that died ends after a day."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, sha256: str) -> UUID:
        """Claim a file, whether or not it is there yet; return the claim."""
        claim_id = uuid4()
        async with self._database.begin() as connection:
            await _lock(connection, [sha256])
            await connection.execute(_CLAIM, {"id": claim_id, "sha256": sha256})
        return claim_id

    @asynccontextmanager
    async def unneeded(
        self, hashes: Sequence[str], *, released: UUID | None = None
    ) -> AsyncGenerator[Sequence[str]]:
        """Yield which files nobody needs; until it is left, nobody can claim them.

        A claim is `released` before.
        """
        async with self._database.begin() as connection:
            await _lock(connection, hashes)
            await connection.execute(_RELEASE, {"id": released})
            ids = [Entry(UPLOAD_SCHEME + sha256).id for sha256 in hashes]
            asked = {"hashes": list(hashes), "ids": ids, "scheme": UPLOAD_SCHEME}
            needed = set(await connection.scalars(_NEEDED, asked))
            yield [sha256 for sha256 in hashes if sha256 not in needed]


async def uploads_of(connection: AsyncConnection, job_id: int) -> set[str]:
    """Return the URLs of the uploads of a job's items."""
    query = select(ITEMS.c.url).where(ITEMS.c.job_id == job_id, ITEMS.c.source == "upload")
    return set(await connection.scalars(query))


async def _lock(connection: AsyncConnection, hashes: Sequence[str]) -> None:
    # In one order, so that two who lock several wait for each other and do not deadlock.
    for key in sorted({int(sha256[:8], 16) - 2**31 for sha256 in hashes}):
        await connection.execute(_LOCK, {"locks": UPLOAD_LOCKS, "key": key})
