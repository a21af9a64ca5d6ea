"""Files of thumbnails that perhaps nothing needs: those just written, and those of images gone.

A file is noted here before it is written, and stays noted until the transaction that stores its key
commits; triggers (migration 0022) note it again when its row is deleted or gets another thumbnail,
by whatever statement. So no crash leaves a file that nobody knows of, and none is removed that a
row in the index or the trash has.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from sqlalchemy import Update, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.database import Database
from app.store.tables import LOOSE_THUMBNAILS, seconds
from app.store.thumbnails import id_of

Place: TypeAlias = Literal["database", "media"]

# From the note to the commit, nothing takes that long.
WRITTEN_WITHIN_S = 86_400
# What cannot be removed while others can is tried again after so long.
TRIED_AGAIN_S = 3600

_NEEDED = text("""
    SELECT thumbnail_key FROM images WHERE id = ANY(:ids) AND thumbnail_key = ANY(:keys)
    UNION ALL
    SELECT image->>'thumbnail_key' FROM trash
    WHERE image_id = ANY(:ids) AND image->>'thumbnail_key' = ANY(:keys)
""")


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Of so many `due` files, the `keys` of those that no row has.

    Those that could not be removed, its reader adds to `left`.
    """

    due: int
    keys: Sequence[str]
    left: set[str] = field(default_factory=set[str])

    @property
    def all_left(self) -> bool:
        """Whether none of them could be removed, as when the storage is away."""
        return 0 < len(self.left) == len(self.keys)


class LooseThumbnails:
    """Reads and writes the table of such files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, keys: Sequence[str]) -> None:
        """Note files that are about to be written: a day from now, they go if no row has them."""
        due = func.now() + seconds(WRITTEN_WITHIN_S)
        async with self._database.begin() as connection:
            await connection.execute(
                insert(LOOSE_THUMBNAILS).values([{"key": key, "due_at": due} for key in keys])
            )

    async def drop_soon(self, keys: Sequence[str]) -> None:
        """Let files that were noted go as soon as possible, as no row will have them."""
        async with self._database.begin() as connection:
            await connection.execute(_due_in(keys, 0))

    @asynccontextmanager
    async def unneeded(self, *, limit: int) -> AsyncGenerator[Unneeded]:
        """Yield the due files, up to a limit, that no row has.

        Due files are no longer noted once the context is left without an exception; those `left`
        are due again in an hour, or if they are all, at the end of those that are due.
        """
        due = (
            select(LOOSE_THUMBNAILS.c.key)
            .where(LOOSE_THUMBNAILS.c.due_at <= func.now())
            .order_by(LOOSE_THUMBNAILS.c.due_at, LOOSE_THUMBNAILS.c.key)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._database.begin() as connection:
            keys = list((await connection.scalars(due)).all())
            # In a statement of its own: what was committed before a file was noted is seen.
            asked = {"ids": [id_of(key) for key in keys], "keys": keys}
            needed = set(await connection.scalars(_NEEDED, asked)) if keys else set[str]()
            found = Unneeded(len(keys), [key for key in keys if key not in needed])
            yield found
            await hold(connection, [key for key in keys if key not in found.left])
            if found.left:
                after_s = 0 if found.all_left else TRIED_AGAIN_S
                await connection.execute(_due_in(found.left, after_s))


async def hold(connection: AsyncConnection, keys: Sequence[str]) -> None:
    """Forget what was noted of files, in the transaction that stores their keys."""
    if keys:
        await connection.execute(delete(LOOSE_THUMBNAILS).where(LOOSE_THUMBNAILS.c.key.in_(keys)))


def _due_in(keys: Collection[str], after_s: float) -> Update:
    """Return the statement that lets files be due so many seconds from now."""
    chosen = LOOSE_THUMBNAILS.c.key.in_(keys)
    return update(LOOSE_THUMBNAILS).where(chosen).values(due_at=func.now() + seconds(after_s))
