"""Uploaded query images, kept for a day so that a page of results can be reloaded."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import delete, func, or_, select, text

from app.pictures.decoding import MEDIA_TYPES, Decoder, Picture, jpeg
from app.problems import NotFound
from app.store.database import Database
from app.store.tables import QUERIES

KEPT_FOR = text("interval '1 day'")
MOST_KEPT = 500
# Larger files, and formats that not every browser shows, are kept as a JPEG of this short side.
MAX_BYTES = 1_000_000
BROWSER_FORMATS = ("image/jpeg", "image/png", "image/webp", "image/gif")
SHORT_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A query image in a format that browsers show; `sha256` is that of the uploaded file."""

    data: bytes
    media_type: str
    sha256: str


class Uploads:
    """Stores query images under random ids, which cannot be guessed."""

    def __init__(self, database: Database, decoder: Decoder) -> None:
        self._database = database
        self._decoder = decoder

    async def keep(self, data: bytes) -> UUID:
        """Store an image file and delete old ones; return its id. Raises what `decode` raises."""
        picture, reduced = await self._decoder.decode_and(
            data, _reduced, short_side=SHORT_SIDE, first=True
        )
        kept, media_type = data, MEDIA_TYPES[picture.format]
        if reduced is not None:
            kept, media_type = reduced, "image/jpeg"
        upload_id = uuid4()
        newest = (
            select(QUERIES.c.id)
            .order_by(QUERIES.c.made_at.desc())
            .limit(MOST_KEPT)
            .scalar_subquery()
        )
        old = or_(QUERIES.c.made_at < func.now() - KEPT_FOR, QUERIES.c.id.not_in(newest))
        async with self._database.begin() as connection:
            await connection.execute(delete(QUERIES).where(old))
            await connection.execute(
                QUERIES.insert().values(
                    id=upload_id, picture=kept, media_type=media_type, sha256=picture.sha256
                )
            )
        return upload_id

    async def find(self, upload_id: UUID) -> Upload:
        """Return a stored image; raises `NotFound`."""
        query = select(QUERIES).where(QUERIES.c.id == upload_id)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound("This query image has expired: choose it again.")
        return Upload(bytes(row.picture), row.media_type, row.sha256)


def _reduced(picture: Picture) -> bytes | None:
    """Return what to keep in place of a file that is too large, or that no browser shows."""
    if picture.file_bytes <= MAX_BYTES and MEDIA_TYPES[picture.format] in BROWSER_FORMATS:
        return None
    return jpeg(picture.image)
