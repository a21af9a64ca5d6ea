"""Thumbnails, read wherever they are: in the rows of their images, or in files of MEDIA_URL.

A file belongs to one row: its key holds the image's id, the SHA-256 of the thumbnail and a random
part, so that no two writers mean the same file, and a key tells what its file should contain.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from sqlalchemy import func, text
from sqlalchemy.sql.elements import ColumnElement

from app.problems import NotFound, StorageUnavailable, Unavailable
from app.store.database import Database
from app.store.tables import IMAGES

LOST = "The thumbnail is no longer in MEDIA_URL."
NO_FILES = "This thumbnail is in MEDIA_URL, which is not open here."

DIGEST: ColumnElement[bytes] = func.thumbnail_digest(
    IMAGES.c.thumbnail, IMAGES.c.thumbnail_key
).label("digest")
"""The SHA-256 of an image's thumbnail, which stays the same when the thumbnail is moved."""


_NOW = text("""
    SELECT id, thumbnail, thumbnail_key FROM images WHERE id = ANY(:ids)
    UNION ALL
    SELECT image_id, thumbnail, image->>'thumbnail_key' FROM trash WHERE image_id = ANY(:ids)
""")


def new_key(image_id: UUID, thumbnail: bytes) -> str:
    """Return a key that no other file has."""
    return f"{image_id.hex}-{hashlib.sha256(thumbnail).hexdigest()}-{token_hex(8)}"


def id_of(key: str) -> UUID:
    """Return the id of the image that a file was made for."""
    return UUID(key.partition("-")[0])


def holds(key: str, thumbnail: bytes) -> bool:
    """Return whether these bytes are what the key's file should contain."""
    return key.split("-")[1] == hashlib.sha256(thumbnail).hexdigest()


def are_same(key: str, other: str) -> bool:
    """Return whether two keys are of the same thumbnail of the same image."""
    return key.rpartition("-")[0] == other.rpartition("-")[0]


class ThumbnailFiles(Protocol):
    """The files in MEDIA_URL, by their keys."""

    async def load(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Return the files that there are; raises `StorageUnavailable`."""
        ...

    async def load_soon(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Return the files that can be had within a moment; never raises for the others."""
        ...


Load: TypeAlias = Callable[[Collection[str]], Awaitable[Mapping[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the row of an image holds: its thumbnail, or the key of the file that does.

    `sha256` is that of the image's own file.
    """

    sha256: str
    data: bytes | None
    key: str | None


class Thumbnails:
    """Reads thumbnails of rows that have a `thumbnail` or a `thumbnail_key`.

    They are found, too, if they were moved since their rows were read, or since a replica had them.
    """

    def __init__(
        self, files: ThumbnailFiles | None = None, database: Database | None = None
    ) -> None:
        self._files = files
        self._database = database

    async def read(self, rows: Sequence[Any]) -> list[bytes]:
        """Return the thumbnail of each row; empty bytes stand for a file that is lost.

        Raises `StorageUnavailable` if files cannot be read.
        """
        found = await self._load(_keys(rows))
        return [
            found.get(row.thumbnail_key, b"") if _is_file(row) else row.thumbnail for row in rows
        ]

    async def read_soon(self, rows: Sequence[Any]) -> list[bytes | None]:
        """Return the thumbnail of each row, None for files that cannot be had within a moment."""
        keys, found = _keys(rows), dict[str, bytes]()
        if keys:
            found |= await self._opened.load_soon(keys)
            # Without the database, they are those that cannot be had.
            with suppress(Unavailable):
                found |= await self._moved(set(keys) - found.keys(), self._opened.load_soon)
        return [found.get(row.thumbnail_key) if _is_file(row) else row.thumbnail for row in rows]

    async def open(self, kept: Kept) -> bytes:
        """Return a thumbnail; raises `StorageUnavailable`, or `NotFound` if its file is lost."""
        if kept.key is None:
            return kept.data or b""
        found = (await self._load([kept.key])).get(kept.key)
        if found is None:
            raise NotFound(LOST)
        return found

    async def _load(self, keys: Sequence[str]) -> dict[str, bytes]:
        if not keys:
            return {}
        found = dict(await self._opened.load(keys))
        return found | await self._moved(set(keys) - found.keys(), self._opened.load)

    async def _moved(self, keys: Collection[str], load: Load) -> dict[str, bytes]:
        """Return the thumbnails of files that are no longer there, from where they are by now."""
        if not keys or self._database is None:
            return {}
        # On the primary, whatever the rows were read from.
        async with self._database.begin(writes=True) as connection:
            given = {"ids": [id_of(key) for key in keys]}
            rows = {row.id: row for row in await connection.execute(_NOW, given)}
        in_rows, in_files = dict[str, bytes](), dict[str, str]()
        for key in keys:
            row = rows.get(id_of(key))
            if row is None:
                continue
            if not _is_file(row) and holds(key, row.thumbnail):
                in_rows[key] = row.thumbnail
            elif _is_file(row) and row.thumbnail_key != key and are_same(row.thumbnail_key, key):
                in_files[key] = row.thumbnail_key
        loaded = await load(in_files.values()) if in_files else dict[str, bytes]()
        return in_rows | {key: loaded[now] for key, now in in_files.items() if now in loaded}

    @property
    def _opened(self) -> ThumbnailFiles:
        if self._files is None:
            raise StorageUnavailable(NO_FILES)
        return self._files


def _is_file(row: Any) -> bool:
    return row.thumbnail_key is not None


def _keys(rows: Sequence[Any]) -> list[str]:
    return [row.thumbnail_key for row in rows if _is_file(row)]
