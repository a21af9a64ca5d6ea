"""Which uploaded files are used: by images, and by the items of jobs."""

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.images import Entry
from app.store.tables import IMAGES, ITEMS

UPLOAD_SCHEME = "upload:"
"""The scheme of the URLs of uploads; the rest is the SHA-256 of the bytes."""


async def uploads_of(connection: AsyncConnection, job_id: int) -> list[tuple[str, int]]:
    """Return the URLs of the uploads of a job's items, each with its position."""
    query = select(ITEMS.c.url, ITEMS.c.position).where(
        ITEMS.c.job_id == job_id, ITEMS.c.source == "upload"
    )
    return [(row.url, row.position) for row in await connection.execute(query)]


async def unused_uploads(connection: AsyncConnection, urls: Collection[str]) -> list[str]:
    """Return which uploads no image has, and no item that waits or may be retried; sorted."""
    ids = {Entry(url).id: url for url in urls}
    images = await connection.scalars(select(IMAGES.c.id).where(IMAGES.c.id.in_(ids)))
    # What an item indexed is the image's: it goes with it.
    items = (
        select(ITEMS.c.url)
        .where(ITEMS.c.source == "upload", ITEMS.c.url.in_(urls))
        .where(ITEMS.c.state.in_(["waiting", "failed", "cancelled"]))
        .distinct()
    )
    used = {ids[image_id] for image_id in images} | set(await connection.scalars(items))
    return sorted(set(urls) - used)


async def lock_upload(connection: AsyncConnection, url: str) -> None:
    """Lock an upload until the transaction ends, so that no one else deletes or stores it."""
    key = func.hashtextextended(url, 0)
    await connection.execute(select(func.pg_advisory_xact_lock(key)))
