"""Which of two places new thumbnails go to, as far as it follows from the index."""

from typing import Literal, TypeAlias

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.loose_thumbnails import Place

Wanted: TypeAlias = Literal["auto", "database", "media"]
"""What THUMBNAILS may be."""

_HAS_IMAGES = text("SELECT EXISTS (SELECT FROM images) OR EXISTS (SELECT FROM trash)")


def place_of(connection: Connection, wanted: Wanted, *, is_bucket: bool) -> Place:
    """Return the place for new thumbnails.

    `auto` is MEDIA_URL for an index that was new when it first had a bucket there, or was moved
    there as a whole; else the database.
    """
    if wanted == "database":
        return "database"
    if connection.scalar(text("SELECT place FROM thumbnail_place")) == "media":
        return "media"
    is_new = not connection.scalar(_HAS_IMAGES)
    if is_new and (wanted == "media" or is_bucket):
        connection.execute(text("INSERT INTO thumbnail_place (place) VALUES ('media')"))
        return "media"
    return "media" if wanted == "media" else "database"


async def record_place(connection: AsyncConnection, place: Place) -> None:
    """Let `auto` be this place from now on."""
    # Of two moves that end at once, the second finds what the first recorded.
    await connection.execute(text("LOCK TABLE thumbnail_place IN EXCLUSIVE MODE"))
    await connection.execute(text("DELETE FROM thumbnail_place"))
    await connection.execute(
        text("INSERT INTO thumbnail_place (place) VALUES (:place)"), {"place": place}
    )
