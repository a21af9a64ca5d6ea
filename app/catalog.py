"""The images table, and the table of encoders that indexes were made with."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from psycopg.types.json import Jsonb
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnClause,
    Connection,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    Uuid,
    column,
    delete,
    func,
    inspect,
    literal_column,
    select,
    table,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import Database, stage_rows
from app.pictures import Picture

# Enough that a page costs little beside its rows.
ROWS_AT_ONCE = 500

_metadata = MetaData()

IMAGES = Table(
    "images",
    _metadata,
    Column("id", Uuid(), primary_key=True),
    Column("url", Text),
    Column("sha256", Text),
    Column("dhash", BigInteger),
    Column("bytes", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    Column("format", Text),
    Column("exif", JSONB),
    Column("title", Text),
    Column("description", Text),
    Column("tags", ARRAY(Text)),
    Column("thumbnail", LargeBinary),
    Column("indexed_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("checked_at", DateTime(timezone=True)),
    Column("gone_at", DateTime(timezone=True)),
)

ENCODERS = Table(
    "encoders",
    _metadata,
    Column("name", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("source", Text),
    Column("dimensions", Integer),
    Column("vector_table", Text),
    Column("used_at", DateTime(timezone=True)),
)

_STAGED = {
    "id": "uuid",
    "url": "text",
    "sha256": "text",
    "dhash": "bigint",
    "bytes": "bigint",
    "width": "integer",
    "height": "integer",
    "format": "text",
    "exif": "jsonb",
    "title": "text",
    "description": "text",
    "tags": "text[]",
    "thumbnail": "bytea",
    "etag": "text",
    "last_modified": "text",
}

# A thumbnail is the one large column; only `thumbnail()` and `thumbnails()` read it.
_DETAILS = [column for column in IMAGES.c if column.name != "thumbnail"]


@dataclass(frozen=True, slots=True)
class Image:
    """One row of the images table, without its thumbnail."""

    id: UUID
    url: str
    sha256: str
    dhash: int
    bytes: int
    width: int
    height: int
    format: str
    exif: dict[str, str | int | float]
    title: str
    description: str
    tags: list[str]
    indexed_at: datetime
    updated_at: datetime
    etag: str | None
    last_modified: str | None
    checked_at: datetime
    gone_at: datetime | None

    @property
    def dhash_hex(self) -> str:
        """The difference hash as 16 hexadecimal digits."""
        return f"{self.dhash & 0xFFFF_FFFF_FFFF_FFFF:016x}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be indexed: a picture's address and what people say about it.

    None leaves what the index already says as it is.
    """

    url: str
    title: str | None = None
    description: str | None = None
    tags: Sequence[str] | None = None

    @property
    def id(self) -> UUID:
        """The picture's id, which its URL alone decides (RFC 9562, version 5)."""
        return uuid5(NAMESPACE_URL, self.url)

    def over(self, image: Image | None) -> "Entry":
        """Return the entry with what the image says where it says nothing itself."""
        title, description, tags = (
            (image.title, image.description, image.tags) if image else ("", "", [])
        )
        return Entry(
            self.url,
            title if self.title is None else self.title,
            description if self.description is None else self.description,
            list(tags if self.tags is None else self.tags),
        )

    def describes(self, image: Image) -> bool:
        """Return whether the image already has this title, description and tags."""
        said = (self.title, self.description, self.tags)
        return said == (image.title, image.description, image.tags)


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells, without reading it, whether a file has changed (RFC 9110, 8.8)."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class NewImage:
    """A picture as it goes into the table; the entry says everything (see `Entry.over`)."""

    entry: Entry
    picture: Picture
    validators: Validators = Validators()


class Catalog:
    """Reads and writes the images table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, image_id: UUID) -> Image | None:
        """Return one image."""
        return (await self.find_all([image_id])).get(image_id)

    async def find_all(self, ids: Sequence[UUID]) -> dict[UUID, Image]:
        """Return the images that exist, by id."""
        query = select(*_DETAILS).where(IMAGES.c.id.in_(ids))
        async with self._database.begin() as connection:
            return {row.id: _image(row) for row in await connection.execute(query)}

    async def newest(
        self, *, limit: int, before: tuple[datetime, UUID] | None = None
    ) -> list[Image]:
        """Return images, the last indexed first, from after the (indexed_at, id) `before`."""
        position = tuple_(IMAGES.c.indexed_at, IMAGES.c.id)
        query = (
            select(*_DETAILS).order_by(IMAGES.c.indexed_at.desc(), IMAGES.c.id.desc()).limit(limit)
        )
        if before is not None:
            query = query.where(position < before)
        async with self._database.begin() as connection:
            return [_image(row) for row in await connection.execute(query)]

    async def thumbnail(self, image_id: UUID) -> tuple[str, bytes] | None:
        """Return an image's sha256 and its JPEG thumbnail."""
        query = select(IMAGES.c.sha256, IMAGES.c.thumbnail).where(IMAGES.c.id == image_id)
        async with self._database.begin() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else (row.sha256, bytes(row.thumbnail))

    async def thumbnails(self, *, after: UUID | None, limit: int) -> list[tuple[Image, bytes]]:
        """Return images with their thumbnails, in the order of their ids, from behind `after`."""
        query = select(IMAGES).order_by(IMAGES.c.id).limit(limit)
        if after is not None:
            query = query.where(IMAGES.c.id > after)
        async with self._database.begin() as connection:
            return [(_image(row), bytes(row.thumbnail)) for row in await connection.execute(query)]

    async def under(self, prefix: str) -> AsyncGenerator[Image]:
        """Yield the images whose URL begins so."""
        after: UUID | None = None
        query = (
            select(*_DETAILS)
            .where(IMAGES.c.url.startswith(prefix, autoescape=True))
            .order_by(IMAGES.c.id)
            .limit(ROWS_AT_ONCE)
        )
        while True:
            page = query if after is None else query.where(IMAGES.c.id > after)
            async with self._database.begin() as connection:
                rows = (await connection.execute(page)).all()
            for row in rows:
                yield _image(row)
            if len(rows) < ROWS_AT_ONCE:
                return
            after = rows[-1].id

    async def count(self) -> int:
        """Return the number of images."""
        async with self._database.begin() as connection:
            return await connection.scalar(select(func.count()).select_from(IMAGES)) or 0

    async def same_bytes(self, hashes: Sequence[str]) -> dict[str, UUID]:
        """Return, for those SHA-256 that are known, the image that had these bytes first."""
        query = (
            select(IMAGES.c.sha256, IMAGES.c.id)
            .distinct(IMAGES.c.sha256)
            .where(IMAGES.c.sha256.in_(hashes))
            .order_by(IMAGES.c.sha256, IMAGES.c.indexed_at)
        )
        async with self._database.begin() as connection:
            return {row.sha256: row.id for row in await connection.execute(query)}

    async def upsert(self, connection: AsyncConnection, images: Sequence[NewImage]) -> set[UUID]:
        """Insert pictures at their URLs, or replace what is there; return the ids that are new.

        No two of the images may have one URL.
        """
        await stage_rows(connection, "staged_images", _STAGED, map(_staged, images))
        columns: list[ColumnClause[Any]] = [column(name) for name in _STAGED]
        staged = table("staged_images", *columns)
        # In one order, so that two writers of the same images wait and do not deadlock.
        rows = select(*staged.c).order_by(staged.c.id)
        statement = insert(IMAGES).from_select(list(_STAGED), rows)
        replaced = {name: statement.excluded[name] for name in _STAGED if name != "id"}
        # A row that this statement inserted, and not one that it updated, has no xmax.
        inserted = literal_column("xmax = 0", Boolean).label("inserted")
        upserted = statement.on_conflict_do_update(
            index_elements=[IMAGES.c.id],
            set_={**replaced, "updated_at": func.now(), "checked_at": func.now(), "gone_at": None},
        ).returning(IMAGES.c.id, inserted)
        return {row.id for row in await connection.execute(upserted) if row.inserted}

    async def describe(
        self, connection: AsyncConnection, entry: Entry, validators: Validators
    ) -> None:
        """Replace what is said of an image, and write down that it was looked at now."""
        await connection.execute(
            IMAGES.update()
            .where(IMAGES.c.id == entry.id)
            .values(
                title=entry.title,
                description=entry.description,
                tags=entry.tags,
                etag=validators.etag,
                last_modified=validators.last_modified,
                checked_at=func.now(),
                gone_at=None,
            )
        )

    async def delete(self, connection: AsyncConnection, ids: Iterable[UUID]) -> int:
        """Delete images; return how many there were."""
        result = await connection.execute(delete(IMAGES).where(IMAGES.c.id.in_(list(ids))))
        return result.rowcount


def indexed_encoders(connection: Connection) -> list[str]:
    """Return the sources of the encoders whose indexes hold vectors, the last used first."""
    query = select(ENCODERS.c.source, ENCODERS.c.vector_table).order_by(ENCODERS.c.used_at.desc())
    rows = connection.execute(query).all()
    existing = set(inspect(connection).get_table_names())
    return [
        row.source
        for row in rows
        if row.vector_table in existing
        and connection.scalar(select(1).select_from(table(row.vector_table)).limit(1))
    ]


def record_encoder(
    connection: Connection,
    *,
    source: str,
    name: str,
    fingerprint: str,
    dimensions: int,
    vector_table: str,
) -> None:
    """Write down that the encoder is in use from now on."""
    statement = insert(ENCODERS).values(
        name=name,
        fingerprint=fingerprint,
        source=source,
        dimensions=dimensions,
        vector_table=vector_table,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[ENCODERS.c.name, ENCODERS.c.fingerprint],
            # Not now(), which is the transaction's start: set-ups wait for each other.
            set_={"source": source, "used_at": func.clock_timestamp()},
        )
    )


def _staged(image: NewImage) -> tuple[object, ...]:
    entry, picture = image.entry, image.picture
    return (
        entry.id,
        entry.url,
        picture.sha256,
        picture.dhash,
        picture.file_bytes,
        picture.width,
        picture.height,
        picture.format,
        Jsonb(picture.exif),
        entry.title,
        entry.description,
        list(entry.tags or ()),
        picture.thumbnail,
        image.validators.etag,
        image.validators.last_modified,
    )


def _image(row: Row[Any]) -> Image:
    return Image(**{column.name: getattr(row, column.name) for column in _DETAILS})
