"""The indexing pipeline: fetch, decode, embed, store."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import UUID
from weakref import WeakValueDictionary

from app.catalog import Catalog, Entry, Image
from app.database import Database
from app.download import Fetcher
from app.encoder import Encoder
from app.media import Media
from app.pictures import SUFFIXES, Decoder
from app.problems import NotAPicture, NotFound, PictureTooLarge, Problem, Unavailable
from app.store import ImageVectorStore, image_node

T = TypeVar("T")
Status = Literal["indexed", "unchanged", "updated", "failed"]

UPLOAD_SCHEME = "upload:"
FILE_SCHEME = "file:"

# Pictures of all requests together that are between fetch and store, which bounds the memory: each
# holds its file (MAX_UPLOAD_MB) and, in one of the decoding threads, its pixels.
MOST_IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture; `reason` says why if it failed."""

    url: str
    status: Status
    id: UUID | None = None
    reason: str | None = None


class Indexer:
    """Puts pictures into the index and takes them out.

    One URL is one row, whoever posts it and however often: ids come from URLs, and both tables are
    written by one transaction of upserts.
    """

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        store: ImageVectorStore,
        encoder: Encoder,
        decoder: Decoder,
        fetcher: Fetcher,
        media: Media,
        max_bytes: int,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._store = store
        self._encoder = encoder
        self._decoder = decoder
        self._fetcher = fetcher
        self._media = media
        self._max_bytes = max_bytes
        self._in_flight = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def upsert_urls(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Fetch and index pictures; the outcomes are in the order of the entries.

        Raises `DatabaseUnavailable`; whatever is wrong with one picture is its outcome.
        """
        return await _gather([self.upsert_url(entry) for entry in entries])

    async def upsert_url(self, entry: Entry) -> Outcome:
        """Fetch and index one picture."""
        return await self._outcome(entry, lambda: self._fetcher.fetch(entry.url))

    async def upsert_upload(self, data: bytes, *, title: str) -> Outcome:
        """Index an uploaded file and keep it; the same bytes are the same picture."""
        sha256 = hashlib.sha256(data).hexdigest()
        entry = Entry(UPLOAD_SCHEME + sha256, title=title)

        async def read() -> bytes:
            if len(data) > self._max_bytes:
                raise self._too_large()
            return data

        outcome = await self._outcome(entry, read, keep=True)
        return replace(outcome, url=title or entry.url) if outcome.status == "failed" else outcome

    async def upsert_file(self, path: Path) -> Outcome:
        """Index a file of this machine, where it stays."""
        place = await asyncio.to_thread(path.resolve)
        entry = Entry(place.as_uri(), title=path.stem)
        return await self._outcome(entry, lambda: asyncio.to_thread(self._read_file, path))

    async def original(self, image: Image) -> bytes | None:
        """Return the bytes of an upload or a file; None if they are to be had at the image's URL.

        Raises `NotFound` when the file has gone or changed since it was indexed.
        """
        if image.url.startswith(UPLOAD_SCHEME):
            return await self._media.load(image.sha256)
        if not image.url.startswith(FILE_SCHEME):
            return None
        try:
            data = await asyncio.to_thread(self._read_file, _path(image.url))
        except Problem as exc:
            raise NotFound("The file is no longer there.") from exc
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise NotFound("The file has changed since it was indexed.")
        return data

    async def delete(self, image: Image) -> None:
        """Take an image out of the index, and its file with it if it was uploaded."""
        async with self._database.begin() as connection:
            await self._store.remove(connection, [image.id])
            await self._catalog.delete(connection, [image.id])
        if image.url.startswith(UPLOAD_SCHEME):
            await self._media.delete(image.sha256)

    async def reindex(self, *, batch: int = 64) -> AsyncGenerator[int]:
        """Embed, from their thumbnails, the images that this encoder has no vector of.

        Yields the number of images looked at so far.
        """
        looked_at, after = 0, None
        while rows := await self._catalog.thumbnails(after=after, limit=batch):
            images = [image for image, _ in rows]
            embedded = await self._store.embedded([image.id for image in images])
            missing = [row for row in rows if embedded.get(row[0].id) != row[0].sha256]
            await _gather([self._embed_thumbnail(image, data) for image, data in missing])
            looked_at, after = looked_at + len(rows), images[-1].id
            yield looked_at

    async def _embed_thumbnail(self, image: Image, thumbnail: bytes) -> None:
        picture = await self._decoder.decode(thumbnail)
        vector = await self._encoder.embed_image(picture.image)
        entry = Entry(image.url).over(image)
        async with self._database.begin() as connection:
            node = image_node(entry, sha256=image.sha256, vector=vector)
            await self._store.upsert(connection, [node])

    async def _outcome(
        self, entry: Entry, read: Callable[[], Awaitable[bytes]], *, keep: bool = False
    ) -> Outcome:
        lock = self._locks.get(entry.id) or asyncio.Lock()
        self._locks[entry.id] = lock
        try:
            async with self._in_flight:
                data = await read()
                # A second client with the same URL waits here, and then finds it unchanged.
                async with lock:
                    status = await self._upsert(entry, data, keep=keep)
        except Unavailable:
            raise
        except Problem as problem:
            return Outcome(entry.url, "failed", reason=problem.detail)
        return Outcome(entry.url, status, id=entry.id)

    async def _upsert(self, entry: Entry, data: bytes, *, keep: bool) -> Status:
        existing = await self._catalog.find(entry.id)
        entry = entry.over(existing)
        if existing is not None and await self._is_current(existing, data):
            if keep:
                # The file may have gone from a storage that does not last.
                await self._media.save(existing.sha256, data)
            if entry.describes(existing) or keep:
                return "unchanged"
            await self._describe(entry, existing)
            return "updated"
        picture = await self._decoder.decode(data)
        vector = await self._encoder.embed_image(picture.image)
        if keep:
            await self._media.save(picture.sha256, data)
        node = image_node(entry, sha256=picture.sha256, vector=vector)
        async with self._database.begin() as connection:
            is_new = await self._catalog.upsert(connection, entry, picture)
            await self._store.upsert(connection, [node])
        return "indexed" if is_new else "updated"

    async def _is_current(self, image: Image, data: bytes) -> bool:
        """Return whether these bytes are the ones that this encoder's vector was made from."""
        if hashlib.sha256(data).hexdigest() != image.sha256:
            return False
        embedded = await self._store.embedded([image.id])
        return embedded.get(image.id) == image.sha256

    async def _describe(self, entry: Entry, image: Image) -> None:
        vector = await self._store.vector(image.id)
        async with self._database.begin() as connection:
            await self._catalog.describe(connection, entry)
            if vector is not None:
                node = image_node(entry, sha256=image.sha256, vector=vector)
                await self._store.upsert(connection, [node])

    def _read_file(self, path: Path) -> bytes:
        try:
            if path.stat().st_size > self._max_bytes:
                raise self._too_large()
            return path.read_bytes()
        except OSError as exc:
            raise NotAPicture(f"The file cannot be read: {exc.strerror}.") from exc

    def _too_large(self) -> PictureTooLarge:
        return PictureTooLarge(f"The file is larger than {self._max_bytes / 1e6:g} MB.")


def picture_files(folder: Path) -> list[Path]:
    """Return the files under a folder, hidden ones left out, whose names end like pictures'."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _path(file_url: str) -> Path:
    return Path(url2pathname(urlsplit(file_url).path))


async def _gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines together; the first one's failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(item) for item in work]
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    return [task.result() for task in started]
