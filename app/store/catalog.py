"""The images table: rows, what is written to them, and which of them are selected."""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnClause,
    Row,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    column,
    delete,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from app.pictures.colours import Colour
from app.pictures.decoding import DECODER
from app.store.beside import Beside, columns, kept_of
from app.store.database import Database, stage_rows
from app.store.images import Entry, ImageRow, NewImage, Validators
from app.store.loose_thumbnails import hold
from app.store.orders import CatalogOrder, Position, in_order
from app.store.staged_images import STAGED, staged, words_of
from app.store.tables import IMAGES, any_of
from app.store.thumbnails import Kept, Thumbnails

# Enough that the round trip costs little compared with the rows.
ROWS_AT_ONCE = 500

# Thumbnails are large: only `kept_thumbnail()` and `thumbnails()` read them.
_LEFT_OUT = ("thumbnail", "thumbnail_key", "words", "renamed", "faces_made", "phash", "phash_keys")
_DETAILS = [column for column in IMAGES.c if column.name not in _LEFT_OUT]

# Made once, of any number of values: making them takes longer than running them.
_BY_ID, _IN_ORDER = IMAGES.c.id == any_of("ids", Uuid), select(*_DETAILS).order_by(IMAGES.c.id)
_RENAMED = and_(IMAGES.c.renamed, IMAGES.c.url == any_of("urls", Text))
_OF_ENTRIES = _IN_ORDER.where(or_(_BY_ID, _RENAMED))
_LOCKED = _IN_ORDER.where(_BY_ID).with_for_update()
_SAME_BYTES = (
    select(IMAGES.c.sha256, IMAGES.c.id)
    .distinct(IMAGES.c.sha256)
    .where(IMAGES.c.sha256 == any_of("hashes", Text), IMAGES.c.decoder >= DECODER)
    .order_by(IMAGES.c.sha256, IMAGES.c.indexed_at)
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The images that meet every given condition.

    `text` is a substring of the URL, title, description or a tag, in any case. `gone` images were
    missing at their URL when it was last checked; `checked_before` is the time of that check, and
    `undescribed` images have no description; `outdated` ones were read by an older decoder. A
    selection without conditions is falsy.
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
        """The conditions as SQL expressions on the images table."""
        wanted: list[ColumnElement[bool]] = []
        if self.ids:
            wanted.append(IMAGES.c.id.in_(self.ids))
        if self.text:
            tags = func.array_to_string(IMAGES.c.tags, "\n")
            columns = (IMAGES.c.url, IMAGES.c.title, IMAGES.c.description, tags)
            wanted.append(or_(*(c.icontains(self.text, autoescape=True) for c in columns)))
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

    def __init__(self, database: Database, thumbnails: Thumbnails | None = None) -> None:
        self._database = database
        self._thumbnails = thumbnails or Thumbnails()

    async def find(self, image_id: UUID) -> ImageRow | None:
        """Return an image, None if there is none with this id."""
        return (await self.find_all([image_id])).get(image_id)

    async def find_all(
        self, ids: Sequence[UUID], *, beside: Collection[Beside] = ()
    ) -> dict[UUID, ImageRow]:
        """Return the images by id, without those that do not exist, with what is kept `beside`."""
        query = select(*_DETAILS, *columns(beside)).where(IMAGES.c.id.in_(ids))
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return {row.id: replace(_image(row), beside=kept_of(row, beside)) for row in rows}

    async def find_entries(self, entries: Sequence[Entry]) -> list[ImageRow | None]:
        """Return the image of each entry, if there is one.

        Of a URL that had a user and password in it when it was indexed, the image has the id that
        it had then; it is found by the URL that it has now.
        """
        given = {"ids": [entry.id for entry in entries], "urls": [entry.url for entry in entries]}
        async with self._database.reading() as connection:
            found = [_image(row) for row in await connection.execute(_OF_ENTRIES, given)]
        by_id, by_url = {i.id: i for i in found}, {i.url: i for i in reversed(found)}

        def image_of(entry: Entry) -> ImageRow | None:
            image = by_id.get(entry.id)
            if image is not None or entry.image_id is not None:
                return image
            former = by_id.get(entry.former_id) if entry.former_id else None
            return former or by_url.get(entry.url)

        return [image_of(entry) for entry in entries]

    async def listed(
        self,
        selection: Selection = EVERYTHING,
        *,
        order: CatalogOrder,
        limit: int,
        after: Position | None = None,
    ) -> list[ImageRow]:
        """Return selected images in an order, `after` the position at which a page ended."""
        query = select(*_DETAILS).where(*selection.conditions).limit(limit)
        async with self._database.reading() as connection:
            rows = await connection.execute(in_order(query, order, after=after))
            return [_image(row) for row in rows]

    async def newest(
        self,
        selection: Selection = EVERYTHING,
        *,
        limit: int,
        before: tuple[datetime, UUID] | None = None,
    ) -> list[ImageRow]:
        """Return images, newest first, that were indexed before the (indexed_at, id) `before`."""
        after = Position(*before) if before else None
        return await self.listed(selection, order="newest", limit=limit, after=after)

    async def thumbnail(self, image_id: UUID) -> tuple[str, bytes] | None:
        """Return an image's SHA-256 and its JPEG thumbnail, None if there is no such image.

        Raises what `Thumbnails.open` raises.
        """
        kept = await self.kept_thumbnail(image_id)
        return None if kept is None else (kept.sha256, await self._thumbnails.open(kept))

    async def kept_thumbnail(self, image_id: UUID) -> Kept | None:
        """Return what the row of an image has of its thumbnail, None if there is no such image."""
        columns = (IMAGES.c.sha256, IMAGES.c.thumbnail, IMAGES.c.thumbnail_key)
        async with self._database.reading() as connection:
            found = await connection.execute(select(*columns).where(IMAGES.c.id == image_id))
            row = found.one_or_none()
        return None if row is None else Kept(*row)

    async def thumbnails(
        self, *, after: UUID | None = None, ids: Sequence[UUID] | None = None, limit: int
    ) -> list[tuple[ImageRow, bytes]]:
        """Return images with their JPEG thumbnails, by id, with ids greater than `after`.

        With `ids`, only those. One whose file is lost is empty. Raises `StorageUnavailable`.
        """
        query = select(IMAGES).order_by(IMAGES.c.id).limit(limit)
        if after is not None:
            query = query.where(IMAGES.c.id > after)
        if ids is not None:
            query = query.where(IMAGES.c.id.in_(ids))
        shown = await self._shown(query)
        lost = [image_id for image_id, (_, data) in shown.items() if not data]
        if lost:
            # Those that were indexed again meanwhile have another file.
            shown |= await self._shown(select(IMAGES).where(IMAGES.c.id.in_(lost)))
        return list(shown.values())

    async def _shown(self, query: Select[Any]) -> dict[UUID, tuple[ImageRow, bytes]]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        read = await self._thumbnails.read(rows)
        return {row.id: (_image(row), data) for row, data in zip(rows, read, strict=True)}

    async def walk(self, *, after: UUID | None, limit: int, prefix: str = "") -> list[ImageRow]:
        """Return images whose URL starts with `prefix`, by id, with ids greater than `after`."""
        query = select(*_DETAILS).order_by(IMAGES.c.id).limit(limit)
        if prefix:
            query = query.where(IMAGES.c.url.startswith(prefix, autoescape=True))
        if after is not None:
            query = query.where(IMAGES.c.id > after)
        async with self._database.reading() as connection:
            return [_image(row) for row in await connection.execute(query)]

    async def under(self, prefix: str) -> AsyncGenerator[ImageRow]:
        """Yield the images whose URL starts with `prefix`, in the order of ids."""
        after: UUID | None = None
        while images := await self.walk(after=after, limit=ROWS_AT_ONCE, prefix=prefix):
            for image in images:
                yield image
            after = images[-1].id

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """Return the number of selected images."""
        query = select(func.count()).select_from(IMAGES).where(*selection.conditions)
        async with self._database.reading() as connection:
            return await connection.scalar(query) or 0

    async def mark_gone(self, entry: Entry) -> None:
        """Record that an image is gone from its URL; a row that was gone keeps its `gone_at`.

        An image that needs a user and password is not, if it was requested without them.
        """
        renamed = and_(IMAGES.c.renamed, IMAGES.c.url == entry.url)
        wanted = [or_(IMAGES.c.id == entry.id, renamed)]
        if not entry.credentials:
            wanted.append(not_(IMAGES.c.needs_credentials))
        now = func.coalesce(IMAGES.c.gone_at, func.now())
        async with self._database.begin() as connection:
            await connection.execute(
                IMAGES.update().where(*wanted).values(gone_at=now, checked_at=func.now())
            )

    async def same_bytes(self, hashes: Sequence[str]) -> dict[str, UUID]:
        """Return the first indexed image of each SHA-256, without hashes that no image has.

        Images that an older decoder read do not count.
        """
        async with self._database.reading() as connection:
            rows = await connection.execute(_SAME_BYTES, {"hashes": list(hashes)})
            return {row.sha256: row.id for row in rows}

    async def lock(self, connection: AsyncConnection, ids: Iterable[UUID]) -> dict[UUID, ImageRow]:
        """Return the images by id, and keep their rows from others until the transaction ends.

        Whoever writes what depends on a row reads it here first. In the order of ids, so that two
        writers wait for each other and do not deadlock.
        """
        rows = await connection.execute(_LOCKED, {"ids": sorted(set(ids))})
        return {row.id: _image(row) for row in rows}

    async def upsert(self, connection: AsyncConnection, images: Sequence[NewImage]) -> set[UUID]:
        """Insert images or replace the rows of their URLs; return the ids that were inserted.

        Each URL may occur only once.
        """
        await stage_rows(connection, "staged_images", STAGED, map(staged, images))
        await hold(connection, [image.thumbnail_key for image in images if image.thumbnail_key])
        columns: list[ColumnClause[Any]] = [column(name) for name in STAGED]
        coming = table("staged_images", *columns)
        # Ordered, so that two writers of the same images wait for each other and do not deadlock.
        values: dict[str, ColumnElement[Any]] = {c.name: c for c in coming.c}
        values["words"] = func.words_vector(values["words"], values.pop("places"))
        rows = select(*values.values()).order_by(coming.c.id)
        statement = insert(IMAGES).from_select(list(values), rows)
        replaced = {name: statement.excluded[name] for name in values if name != "id"}
        # xmax is 0 for rows that this statement inserted, not for those that it updated.
        inserted = literal_column("xmax = 0", Boolean).label("inserted")
        upserted = statement.on_conflict_do_update(
            index_elements=[IMAGES.c.id],
            set_={**replaced, "updated_at": func.now(), "checked_at": func.now(), "gone_at": None},
        ).returning(IMAGES.c.id, inserted)
        return {row.id for row in await connection.execute(upserted) if row.inserted}

    async def describe(self, connection: AsyncConnection, entry: Entry) -> None:
        """Replace the title, description, tags and metadata of an image, whose row is locked."""
        await connection.execute(
            IMAGES.update()
            .where(IMAGES.c.id == entry.id)
            .values(
                title=entry.title,
                description=entry.description,
                tags=entry.tags,
                metadata=entry.metadata,
                words=func.words_vector(*words_of(entry)),
                updated_at=func.now(),
            )
        )

    async def set_colours(
        self, connection: AsyncConnection, colours: Mapping[UUID, Sequence[Colour]]
    ) -> None:
        """Give images that have no dominant colours these, by id."""
        statement = (
            IMAGES.update()
            .where(
                IMAGES.c.id == bindparam("image_id"), func.jsonb_array_length(IMAGES.c.colours) == 0
            )
            .values(colours=bindparam("found"))
        )
        rows = [{"image_id": i, "found": list(found)} for i, found in sorted(colours.items())]
        await connection.execute(statement, rows)

    async def mark_same(
        self, connection: AsyncConnection, entry: Entry, validators: Validators
    ) -> None:
        """Record that an image was checked now and has not changed."""
        needed = or_(IMAGES.c.needs_credentials, literal(entry.credentials is not None))
        await connection.execute(
            IMAGES.update()
            .where(IMAGES.c.id == entry.id)
            .values(
                etag=validators.etag,
                last_modified=validators.last_modified,
                checked_at=func.now(),
                gone_at=None,
                needs_credentials=needed,
            )
        )

    async def delete(self, connection: AsyncConnection, ids: Iterable[UUID]) -> int:
        """Delete images by id; return how many existed."""
        locked = await self.lock(connection, ids)
        result = await connection.execute(delete(IMAGES).where(IMAGES.c.id.in_(list(locked))))
        return result.rowcount


def _image(row: Row[Any]) -> ImageRow:
    return ImageRow(**{column.name: getattr(row, column.name) for column in _DETAILS})
