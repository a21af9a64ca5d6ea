"""The images table, and the table of encoders that indexes were made with."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from psycopg.types.json import Jsonb
from sqlalchemy import (
    Boolean,
    ColumnClause,
    Row,
    bindparam,
    column,
    delete,
    func,
    literal_column,
    or_,
    select,
    table,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from app.pictures.colours import Colour
from app.pictures.decoding import DECODER, Facts
from app.store.database import Database, stage_rows
from app.store.filters import MetadataValue
from app.store.tables import IMAGES

# Enough that a page costs little beside its rows.
ROWS_AT_ONCE = 500

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
    "colours": "jsonb",
    "metadata": "jsonb",
    "thumbnail": "bytea",
    "etag": "text",
    "last_modified": "text",
    "truncated": "boolean",
    "too_plain": "boolean",
    "decoder": "integer",
}

# A thumbnail is the one large column; only `thumbnail()` and `thumbnails()` read it.
_DETAILS = [column for column in IMAGES.c if column.name not in ("thumbnail", "words")]


@dataclass(frozen=True, slots=True)
class ImageRow:
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
    colours: list[Colour]
    metadata: dict[str, MetadataValue]
    truncated: bool = False
    too_plain: bool = False
    decoder: int = DECODER

    @property
    def is_outdated(self) -> bool:
        """Whether its file would be read better now."""
        return self.decoder < DECODER

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
    metadata: Mapping[str, MetadataValue] | None = None

    @property
    def id(self) -> UUID:
        """The picture's id, which its URL alone decides (RFC 9562, version 5)."""
        return uuid5(NAMESPACE_URL, self.url)

    def over(self, image: ImageRow | None) -> "Entry":
        """Return the entry with what the image says where it says nothing itself."""
        title, description, tags, metadata = (
            (image.title, image.description, image.tags, image.metadata)
            if image
            else ("", "", [], {})
        )
        return Entry(
            self.url,
            title if self.title is None else self.title,
            description if self.description is None else self.description,
            list(tags if self.tags is None else self.tags),
            dict(metadata if self.metadata is None else self.metadata),
        )

    def describes(self, image: ImageRow) -> bool:
        """Return whether the image already has this title, description, tags and metadata."""
        said = (self.title, self.description, self.tags, self.metadata)
        return said == (image.title, image.description, image.tags, image.metadata)


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells, without reading it, whether a file has changed (RFC 9110, 8.8)."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class NewImage:
    """A picture as it goes into the table; the entry says everything (see `Entry.over`)."""

    entry: Entry
    picture: Facts
    validators: Validators = Validators()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images are meant: those that fulfil every condition given.

    `text` is part of the URL, the title, the description or a tag; `gone` tells whether the URL's
    server said that there is nothing any more; `checked_before` is when it was last asked;
    `undescribed` images have no description; `outdated` ones were read by an older decoder.
    """

    ids: Sequence[UUID] = ()
    text: str = ""
    gone: bool | None = None
    checked_before: datetime | None = None
    undescribed: bool = False
    outdated: bool = False

    def __bool__(self) -> bool:
        return bool(self.conditions)

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        wanted: list[ColumnElement[bool]] = []
        if self.ids:
            wanted.append(IMAGES.c.id.in_(self.ids))
        if self.text:
            places = (IMAGES.c.url, IMAGES.c.title, IMAGES.c.description)
            said = [place.icontains(self.text, autoescape=True) for place in places]
            tags = func.array_to_string(IMAGES.c.tags, "\n")
            wanted.append(or_(*said, tags.icontains(self.text, autoescape=True)))
        if self.gone is not None:
            wanted.append(
                IMAGES.c.gone_at.is_not(None) if self.gone else IMAGES.c.gone_at.is_(None)
            )
        if self.checked_before is not None:
            wanted.append(IMAGES.c.checked_at < self.checked_before)
        if self.undescribed:
            wanted.append(IMAGES.c.description == "")
        if self.outdated:
            wanted.append(IMAGES.c.decoder < DECODER)
        return wanted


EVERYTHING = Selection()
OUTDATED = Selection(outdated=True)


class Catalog:
    """Reads and writes the images table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, image_id: UUID) -> ImageRow | None:
        """Return one image."""
        return (await self.find_all([image_id])).get(image_id)

    async def find_all(self, ids: Sequence[UUID]) -> dict[UUID, ImageRow]:
        """Return the images that exist, by id."""
        query = select(*_DETAILS).where(IMAGES.c.id.in_(ids))
        async with self._database.begin() as connection:
            return {row.id: _image(row) for row in await connection.execute(query)}

    async def newest(
        self,
        selection: Selection = EVERYTHING,
        *,
        limit: int,
        before: tuple[datetime, UUID] | None = None,
    ) -> list[ImageRow]:
        """Return images, the last indexed first, from after the (indexed_at, id) `before`."""
        position = tuple_(IMAGES.c.indexed_at, IMAGES.c.id)
        query = (
            select(*_DETAILS)
            .where(*selection.conditions)
            .order_by(IMAGES.c.indexed_at.desc(), IMAGES.c.id.desc())
            .limit(limit)
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

    async def thumbnails(self, *, after: UUID | None, limit: int) -> list[tuple[ImageRow, bytes]]:
        """Return images with their thumbnails, in the order of their ids, from behind `after`."""
        query = select(IMAGES).order_by(IMAGES.c.id).limit(limit)
        if after is not None:
            query = query.where(IMAGES.c.id > after)
        async with self._database.begin() as connection:
            return [(_image(row), bytes(row.thumbnail)) for row in await connection.execute(query)]

    async def walk(self, *, after: UUID | None, limit: int, prefix: str = "") -> list[ImageRow]:
        """Return images whose URL begins so, in the order of their ids, from behind `after`."""
        query = select(*_DETAILS).order_by(IMAGES.c.id).limit(limit)
        if prefix:
            query = query.where(IMAGES.c.url.startswith(prefix, autoescape=True))
        if after is not None:
            query = query.where(IMAGES.c.id > after)
        async with self._database.begin() as connection:
            return [_image(row) for row in await connection.execute(query)]

    async def under(self, prefix: str) -> AsyncGenerator[ImageRow]:
        """Yield the images whose URL begins so."""
        after: UUID | None = None
        while images := await self.walk(after=after, limit=ROWS_AT_ONCE, prefix=prefix):
            for image in images:
                yield image
            after = images[-1].id

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """Return the number of images."""
        query = select(func.count()).select_from(IMAGES).where(*selection.conditions)
        async with self._database.begin() as connection:
            return await connection.scalar(query) or 0

    async def mark_gone(self, image_id: UUID) -> None:
        """Write down that there is nothing at an image's URL any more."""
        now = func.coalesce(IMAGES.c.gone_at, func.now())
        async with self._database.begin() as connection:
            await connection.execute(
                IMAGES.update()
                .where(IMAGES.c.id == image_id)
                .values(gone_at=now, checked_at=func.now())
            )

    async def same_bytes(self, hashes: Sequence[str]) -> dict[str, UUID]:
        """Return, for those SHA-256 that are known, the image that had these bytes first.

        Those that an older decoder read do not count.
        """
        query = (
            select(IMAGES.c.sha256, IMAGES.c.id)
            .distinct(IMAGES.c.sha256)
            .where(IMAGES.c.sha256.in_(hashes), IMAGES.c.decoder >= DECODER)
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

    async def describe(self, connection: AsyncConnection, entry: Entry) -> None:
        """Replace the title, description, tags and metadata of an image."""
        await connection.execute(
            IMAGES.update()
            .where(IMAGES.c.id == entry.id)
            .values(
                title=entry.title,
                description=entry.description,
                tags=entry.tags,
                metadata=entry.metadata,
                updated_at=func.now(),
            )
        )

    async def set_colours(
        self, connection: AsyncConnection, colours: Mapping[UUID, Sequence[Colour]]
    ) -> None:
        """Write down the dominant colours of images."""
        statement = (
            IMAGES.update()
            .where(IMAGES.c.id == bindparam("image_id"))
            .values(colours=bindparam("found"))
        )
        rows = [{"image_id": i, "found": list(found)} for i, found in sorted(colours.items())]
        await connection.execute(statement, rows)

    async def mark_same(
        self, connection: AsyncConnection, image_id: UUID, validators: Validators
    ) -> None:
        """Write down that an image was looked at and is still the same."""
        await connection.execute(
            IMAGES.update()
            .where(IMAGES.c.id == image_id)
            .values(
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
        Jsonb(picture.colours),
        Jsonb(entry.metadata or {}),
        picture.thumbnail,
        image.validators.etag,
        image.validators.last_modified,
        picture.truncated,
        picture.too_plain,
        picture.decoder,
    )


def _image(row: Row[Any]) -> ImageRow:
    return ImageRow(**{column.name: getattr(row, column.name) for column in _DETAILS})
