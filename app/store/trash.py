"""The trash: images that were moved out of the tables of the index, with all that they had there.

As they are in none of those tables, no search, list or count has to know of them. Their rows are
kept as JSON, and restored with the columns and tables that there are by then: a new column gets its
default, and a vector whose table was dropped is left out. An image is in the index or in the trash,
never in both; a trigger (migration 0013) sees to it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Row,
    Text,
    Uuid,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from app.store import cascade
from app.store.database import Database
from app.store.tables import IMAGES, TRASH, any_of, seconds
from app.store.thumbnails import Kept, Thumbnails
from app.store.words import placed_words

DAY_S = 86_400

# Made once, of any number of values: making them takes longer than running them.
_BY_ID, _BY_URL = TRASH.c.image_id == any_of("ids", Uuid), TRASH.c.url == any_of("urls", Text)
_ANY_OF = select(TRASH.c.image_id).where(_BY_URL).limit(1)
# In one order, so that two who restore the same ones wait for each other.
_LOCKED = (
    select(TRASH.c.image_id)
    .where(or_(_BY_ID, _BY_URL))
    .order_by(TRASH.c.image_id)
    .with_for_update()
)


@dataclass(frozen=True, slots=True)
class Trashed:
    """An image in the trash."""

    id: UUID
    url: str
    title: str
    width: int
    height: int
    format: str
    bytes: int
    trashed_at: datetime


@dataclass(frozen=True, slots=True)
class TrashFilters:
    """The images in the trash that meet every given condition; without any, all of them.

    `text` is a substring of the URL, title, description or a tag, in any case; what was moved there
    together has the same time `at`.
    """

    text: str = ""
    at: datetime | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions as SQL expressions on the table."""
        wanted: list[ColumnElement[bool]] = []
        if self.text:
            said = (TRASH.c.image[name].astext for name in ("title", "description"))
            # One by one: as JSON, a tag with a quotation mark has a backslash in it, too.
            tags = func.jsonb_array_elements_text(TRASH.c.image["tags"]).table_valued("value")
            tagged = (
                select(literal(1))
                .select_from(tags)
                .where(tags.c.value.icontains(self.text, autoescape=True))
                .exists()
            )
            columns = (TRASH.c.url, *said)
            wanted.append(or_(*(c.icontains(self.text, autoescape=True) for c in columns), tagged))
        if self.at is not None:
            wanted.append(TRASH.c.trashed_at == self.at)
        return wanted


ALL_TRASH = TrashFilters()


class TrashTable:
    """Reads and writes the trash table."""

    def __init__(self, database: Database, thumbnails: Thumbnails | None = None) -> None:
        self._database = database
        self._thumbnails = thumbnails or Thumbnails()

    async def now(self) -> datetime:
        """Return the time by the clock of the database, in microseconds."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(func.clock_timestamp()))).scalar_one()

    async def put(self, connection: AsyncConnection, ids: Sequence[UUID], *, at: datetime) -> None:
        """Copy images, whose rows are locked, to the trash; they are then deleted elsewhere.

        What has the same `at` was moved together.
        """
        if ids:
            await connection.run_sync(_put, list(ids), at)

    async def holds_any(self, urls: Iterable[str]) -> bool:
        """Return whether any image with one of these URLs is in the trash."""
        async with self._database.reading() as connection:
            return await connection.scalar(_ANY_OF, {"urls": list(urls)}) is not None

    async def restore(
        self, connection: AsyncConnection, *, ids: Iterable[UUID] = (), urls: Iterable[str] = ()
    ) -> list[UUID]:
        """Move images with these ids, or with these URLs, back to the index; return which."""
        given = {"ids": list(ids), "urls": list(urls)}
        found = (await connection.scalars(_LOCKED, given)).all()
        if found:
            await connection.run_sync(_restore, found)
        return list(found)

    async def newest(
        self,
        filters: TrashFilters = ALL_TRASH,
        *,
        limit: int,
        before: tuple[datetime, UUID] | None = None,
    ) -> list[Trashed]:
        """Return selected images, last trashed first, before the (trashed_at, id) `before`."""
        position = tuple_(TRASH.c.trashed_at, TRASH.c.image_id)
        query = (
            select(TRASH.c.image_id, TRASH.c.url, TRASH.c.image, TRASH.c.trashed_at)
            .where(*filters.conditions)
            .order_by(TRASH.c.trashed_at.desc(), TRASH.c.image_id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(position < before)
        async with self._database.begin() as connection:
            return [_trashed(row) for row in await connection.execute(query)]

    async def count(self, filters: TrashFilters = ALL_TRASH) -> int:
        """Return the number of selected images in the trash."""
        query = select(func.count()).select_from(TRASH).where(*filters.conditions)
        async with self._database.begin() as connection:
            return await connection.scalar(query) or 0

    async def thumbnail(self, image_id: UUID) -> bytes | None:
        """Return the JPEG thumbnail of an image in the trash, None if it is not there.

        Raises what `Thumbnails.open` raises.
        """
        key = TRASH.c.image["thumbnail_key"].astext
        columns = (TRASH.c.image["sha256"].astext, TRASH.c.thumbnail, key)
        query = select(*columns).where(TRASH.c.image_id == image_id)
        async with self._database.begin() as connection:
            found = (await connection.execute(query)).one_or_none()
        return None if found is None else await self._thumbnails.open(Kept(*found))

    async def some(
        self,
        filters: TrashFilters = ALL_TRASH,
        *,
        limit: int,
        days: float | None = None,
    ) -> list[UUID]:
        """Return selected images of the trash, first trashed first; with `days`, as long in it."""
        query = select(TRASH.c.image_id).where(*filters.conditions)
        query = query.order_by(TRASH.c.trashed_at, TRASH.c.image_id).limit(limit)
        if days is not None:
            query = query.where(TRASH.c.trashed_at <= func.now() - seconds(days * DAY_S))
        async with self._database.begin() as connection:
            return list((await connection.scalars(query)).all())

    async def delete(self, ids: Sequence[UUID]) -> list[str]:
        """Delete images of the trash for good; return the URLs of those that were there."""
        query = delete(TRASH).where(TRASH.c.image_id.in_(ids)).returning(TRASH.c.url)
        async with self._database.begin() as connection:
            return list((await connection.scalars(query)).all())


def _put(connection: Connection, ids: list[UUID], at: datetime) -> None:
    given = {"ids": ids, "at": at}
    connection.execute(
        text("""
            INSERT INTO trash
                (image_id, url, image, thumbnail, keypoints_version, keypoints, trashed_at)
            SELECT id, url, to_jsonb(images) - '{words,thumbnail}'::text[], thumbnail,
                keypoints.version, keypoints.bytes, :at
            FROM images LEFT JOIN keypoints ON image_id = id
            WHERE id = ANY(:ids) ORDER BY id
        """),
        given,
    )
    for table in cascade.tables(connection):
        quoted = connection.dialect.identifier_preparer.quote(table)
        connection.execute(
            text(f"""
                UPDATE trash SET vectors = vectors || jsonb_build_object(
                    CAST(:name AS text), to_jsonb(stored) - 'id'
                )
                FROM public.{quoted} AS stored
                WHERE node_id = image_id::text AND image_id = ANY(:ids)
            """),  # noqa: S608 - the name of a table of ours
            {**given, "name": table},
        )


def _restore(connection: Connection, ids: Sequence[UUID]) -> None:
    rows = connection.execute(
        delete(TRASH)
        .where(TRASH.c.image_id.in_(ids))
        .returning(
            TRASH.c.image_id,
            TRASH.c.thumbnail,
            TRASH.c.keypoints_version,
            TRASH.c.keypoints,
            cast(TRASH.c.image, Text).label("image"),
            cast(TRASH.c.vectors, Text).label("vectors"),
        )
    ).all()
    rows = sorted(rows, key=lambda row: row.image_id)
    _restore_images(connection, rows)
    _restore_vectors(connection, rows)
    # The trigger of images has added rows for these.
    kept = [
        {"id": row.image_id, "version": row.keypoints_version, "bytes": row.keypoints}
        for row in rows
        if row.keypoints_version is not None
    ]
    if kept:
        connection.execute(
            text("UPDATE keypoints SET version = :version, bytes = :bytes WHERE image_id = :id"),
            kept,
        )


def _restore_images(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    _insert(
        connection, "images", [row.image for row in rows], shown=[row.thumbnail for row in rows]
    )
    columns = (IMAGES.c.id, IMAGES.c.url, IMAGES.c.title, IMAGES.c.description, IMAGES.c.tags)
    ids = [row.image_id for row in rows]
    words: list[dict[str, Any]] = []
    for row in connection.execute(select(*columns).where(IMAGES.c.id.in_(ids))):
        said, places = placed_words(
            url=row.url, title=row.title, description=row.description, tags=row.tags
        )
        words.append({"image_id": row.id, "said": said, "places": places})
    connection.execute(
        text("UPDATE images SET words = words_vector(:said, :places) WHERE id = :image_id"), words
    )


def _restore_vectors(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    stored: list[dict[str, Any]] = [json.loads(row.vectors) for row in rows]
    for table in cascade.tables(connection):
        quoted = connection.dialect.identifier_preparer.quote(table)
        found = [json.dumps(vectors[table]) for vectors in stored if table in vectors]
        _insert(connection, f"public.{quoted}", found)


def _insert(
    connection: Connection, table: str, rows: Sequence[str], *, shown: Sequence[bytes | None] = ()
) -> None:
    """Insert rows that are JSON objects; those that were stored with the same columns together.

    `table` is the name of a table of ours, quoted if need be. With `shown`, each row gets one of
    these as its thumbnail; None if a file has it.
    """
    alike: dict[frozenset[str], list[int]] = {}
    for number, row in enumerate(rows):
        alike.setdefault(frozenset(json.loads(row)), []).append(number)
    for names, numbers in alike.items():
        columns = connection.scalar(_COLUMNS, {"name": table, "names": sorted(names)})
        target = f"{columns}, thumbnail" if shown else columns
        values = f"{columns}, (CAST(:shown AS bytea[]))[ordinality]" if shown else columns
        connection.execute(
            text(f"""
                INSERT INTO {table} ({target}) SELECT {values}
                FROM jsonb_populate_recordset(NULL::{table}, CAST(:rows AS jsonb))
                WITH ORDINALITY AS stored ORDER BY ordinality
            """),  # noqa: S608 - names of ours
            {
                "rows": "[" + ",".join(rows[number] for number in numbers) + "]",
                **({"shown": [shown[number] for number in numbers]} if shown else {}),
            },
        )


def _trashed(row: Row[Any]) -> Trashed:
    image = row.image
    return Trashed(
        row.image_id,
        row.url,
        image["title"],
        image["width"],
        image["height"],
        image["format"],
        image["bytes"],
        row.trashed_at,
    )


# Of those that the rows were stored with, the ones that there still are.
_COLUMNS = text("""
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 AND NOT attisdropped
    AND attname = ANY(:names)
""")
