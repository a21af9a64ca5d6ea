"""The indexing pipeline: fetch, decode, embed, store."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID
from weakref import WeakValueDictionary

from app.encoding.encoder import Encoder, Vector
from app.indexing.coalescer import Coalescer, gather
from app.indexing.fetcher import Fetcher
from app.indexing.files import file_title, read_file
from app.indexing.media import Media, delete_unused_uploads
from app.indexing.outcomes import Outcome, OutcomeStatus
from app.indexing.requests import MAX_TITLE
from app.pictures.decoding import Decoder, Picture
from app.problems import (
    CredentialsDropped,
    InvalidRequest,
    NotFound,
    PictureTooLarge,
    Problem,
    Unavailable,
    UrlNotFound,
)
from app.store.catalog import Catalog, Selection
from app.store.database import Database
from app.store.images import DROPPED, Entry, ImageRow, NewImage, Validators
from app.store.items import Ended, Item, ItemSource, NewItem
from app.store.job_items import JobItems
from app.store.upload_use import UPLOAD_SCHEME
from app.store.vectors import NewVector, VectorTable

NAME_TOO_LONG = f"The file's name is longer than {MAX_TITLE:,} characters."

# Images that are fetched but not yet stored, over all requests and jobs: one batch of the encoder
# that runs, one that fills and one being written. With the fetches (fetcher.py), they bound the
# memory: (16 + 48) files of MAX_UPLOAD_MB, and the pixels of one picture per decoding thread.
MAX_IN_FLIGHT = 48
MAX_PER_STATEMENT = 128


@dataclass(frozen=True, slots=True)
class _Known:
    """What the index has of an image.

    `embedded` says whether its vector is what the bytes of its row give now. `vector` is that of
    the new bytes, if any indexed image has them.
    """

    image: ImageRow | None
    embedded: bool
    vector: Vector | None


@dataclass(frozen=True, slots=True)
class _Write:
    """An image to write; without `picture`, only its metadata and validators change."""

    entry: Entry
    validators: Validators
    picture: Picture | None = None
    vector: Vector | None = None
    described: ImageRow | None = None
    item: Item | None = None


class Indexer:
    """Adds images to the index, updates and removes them.

    Each URL has one row, however often it is posted: ids are derived from URLs, and one transaction
    upserts the rows of both tables. If the image is an item of a job, the same transaction ends the
    item.
    """

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        vectors: VectorTable,
        job_items: JobItems,
        encoder: Encoder,
        decoder: Decoder,
        fetcher: Fetcher,
        media: Media,
        max_bytes: int,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._vectors = vectors
        self._job_items = job_items
        self._encoder = encoder
        self._decoder = decoder
        self._fetcher = fetcher
        self._media = media
        self._max_bytes = max_bytes
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lookups = Coalescer(self._look_up, max_batch=MAX_PER_STATEMENT)
        self._writes = Coalescer(self._write, max_batch=MAX_PER_STATEMENT)

    async def upsert_urls(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Fetch and index images; return the outcomes in the order of the entries.

        Raises `Unavailable`. A problem with one image is in its outcome.
        """
        return await gather([self.upsert("web", entry) for entry in entries])

    async def upsert_upload(self, data: bytes, *, title: str) -> Outcome:
        """Store and index an uploaded file; the same bytes are always the same image."""
        item = await self.keep_upload(data, title=title)
        if item.reason is not None:
            problem = InvalidRequest if item.reason == NAME_TOO_LONG else PictureTooLarge
            return Outcome(item.entry.title or "", "failed", problem=problem(item.reason))
        outcome = await self.upsert("upload", item.entry)
        return replace(outcome, url=title or outcome.url) if outcome.problem else outcome

    async def keep_upload(self, data: bytes, *, title: str) -> NewItem:
        """Store an uploaded file; return it as an item, a failed one if it is too large."""
        sha256 = hashlib.sha256(data).hexdigest()
        entry = Entry(UPLOAD_SCHEME + sha256, title=title)
        if len(data) > self._max_bytes:
            return NewItem("upload", entry, PictureTooLarge.over(self._max_bytes).detail)
        if len(title) > MAX_TITLE:
            return NewItem("upload", replace(entry, title=title[:100]), NAME_TOO_LONG)
        await self._media.save(sha256, data)
        return NewItem("upload", entry)

    async def upsert(
        self, source: ItemSource, entry: Entry, *, item: Item | None = None
    ) -> Outcome:
        """Index an image: read its bytes and, unless they are indexed, decode, embed and store.

        Raises `Unavailable`. A problem with the image is in the outcome.
        """
        try:
            # A second client with the same URL waits here, and then finds it unchanged.
            async with self._lock(entry.url):
                status, image_id = await self._upsert(source, entry, item)
        except Unavailable:
            raise
        except Problem as problem:
            if isinstance(problem, UrlNotFound):
                await self._catalog.mark_gone(entry)
            if source == "upload" and item is None:
                await self.delete_unused([entry.url])
            return Outcome(entry.url, "failed", problem=problem)
        return Outcome(entry.url, status, id=image_id)

    async def delete_unused(self, urls: Collection[str]) -> None:
        """Delete uploads, given by URL, that neither an image nor an item of a job uses."""
        await delete_unused_uploads(urls, database=self._database, media=self._media)

    async def original(self, image: ImageRow) -> bytes | None:
        """Return the bytes of an upload or a file; None for an image on the web.

        Raises `NotFound` if the file was removed or changed since it was indexed.
        """
        if image.url.startswith(UPLOAD_SCHEME):
            return await self._media.load(image.sha256)
        if image.url.startswith(("http:", "https:")):
            return None
        try:
            data, _ = await asyncio.to_thread(read_file, image.url, max_bytes=self._max_bytes)
        except Problem as exc:
            raise NotFound("The file no longer exists.") from exc
        if data is None or hashlib.sha256(data).hexdigest() != image.sha256:
            raise NotFound("The file has changed since it was indexed.")
        return data

    async def describe(
        self, image: ImageRow, entry: Entry, *, item: Item | None = None
    ) -> OutcomeStatus:
        """Change the metadata of an image; a None in the entry keeps the value."""
        async with self._lock(image.url):
            validators = Validators(image.etag, image.last_modified)
            return await self._keep(entry, image, validators, item)

    async def delete_all(self, selection: Selection) -> int:
        """Remove every image of a selection; return their number."""
        deleted = 0
        while images := await self._catalog.newest(selection, limit=MAX_PER_STATEMENT):
            await self.delete(images)
            deleted += len(images)
        return deleted

    async def delete(self, images: Sequence[ImageRow]) -> None:
        """Remove images from the index, and the files of uploads."""
        ids = sorted(image.id for image in images)
        async with self._database.begin() as connection:
            await self._catalog.delete(connection, ids)
        for image in images:
            if image.url.startswith(UPLOAD_SCHEME):
                await self._media.delete(image.sha256)

    async def reindex(self, *, batch: int = 64) -> AsyncGenerator[int]:
        """Embed, from their thumbnails, the images that this encoder has not embedded.

        Vectors of an older version are kept, and get the columns that filters use. Yields the
        number of images checked so far.
        """
        checked, after = 0, None
        while rows := await self._catalog.thumbnails(after=after, limit=batch):
            images = [image for image, _ in rows]
            ids = [image.id for image in images]
            embedded = await self._vectors.embedded(ids)
            current = {image.id for image in images if embedded.get(image.id) == image.sha256}
            without_facets = await self._vectors.without_facets(list(current))
            new = await gather(
                [
                    self._from_thumbnail(image, thumbnail, without_facets.get(image.id))
                    for image, thumbnail in rows
                    if image.id not in current or image.id in without_facets
                ]
            )
            if new:
                async with self._database.begin() as connection:
                    colours = {row.entry.id: row.picture.colours for row in new}
                    await self._catalog.set_colours(connection, colours)
                    await self._vectors.upsert(connection, new)
            checked, after = checked + len(rows), images[-1].id
            yield checked

    async def _from_thumbnail(
        self, image: ImageRow, thumbnail: bytes, vector: Vector | None
    ) -> NewVector:
        picture = await self._decoder.decode(thumbnail)
        image = replace(image, colours=image.colours or picture.colours)
        if vector is None:
            vector = await self._encoder.embed_image(picture.image)
        return NewVector(Entry(image.url).over(image), image, image.sha256, vector)

    def _lock(self, key: str) -> asyncio.Lock:
        lock = self._locks.get(key) or asyncio.Lock()
        self._locks[key] = lock
        return lock

    async def _upsert(
        self, source: ItemSource, entry: Entry, item: Item | None
    ) -> tuple[OutcomeStatus, UUID]:
        """Return also the id of the image, which is not always the one that the URL decides."""
        image, seen = None, Validators()
        if source in ("file", "refresh"):
            known = await self._lookups.submit((entry, None))
            if known.image is not None and known.embedded:
                image = known.image
                seen = Validators(image.etag, image.last_modified)
        data, validators = await self._read(source, entry, seen)
        try:
            if data is None and image is not None:
                return await self._keep(entry, image, seen, item), image.id
            sha256 = hashlib.sha256(data or b"").hexdigest()
            # The same bytes at another URL wait here, and then reuse this vector.
            async with self._lock(sha256):
                return await self._upsert_bytes(
                    source, entry, data or b"", sha256, validators, item
                )
        finally:
            self._in_flight.release()

    async def _upsert_bytes(
        self,
        source: ItemSource,
        entry: Entry,
        data: bytes,
        sha256: str,
        validators: Validators,
        item: Item | None,
    ) -> tuple[OutcomeStatus, UUID]:
        known = await self._lookups.submit((entry, sha256))
        image, vector = known.image, known.vector
        entry = _with_title(source, entry, image)
        if image is not None and image.sha256 == sha256 and known.embedded:
            return await self._keep(entry, image, validators, item), image.id
        if vector is None:
            picture, vector = await self._decode_and_embed(data)
        else:
            picture = await self._decoder.decode(data)
        write = _Write(entry.over(image), validators, picture, vector, item=item)
        return await self._writes.submit(write), write.entry.id

    async def _decode_and_embed(self, data: bytes) -> tuple[Picture, Vector]:
        encoder = self._encoder
        # The encoder briefly holds its batch open for images that are being decoded.
        with encoder.images.expected():
            picture, prepared = await self._decoder.decode_and(data, encoder.model.prepare)
            future = encoder.images.submit(prepared, hurried=False)
        return picture, await asyncio.wrap_future(future)

    async def _read(
        self, source: ItemSource, entry: Entry, seen: Validators
    ) -> tuple[bytes | None, Validators]:
        """Acquire a place in flight, and read an image; bytes of None mean that it is unchanged.

        A fetched image keeps its place among the fetches until it has one in flight.
        """
        if source in ("web", "refresh"):
            if entry.credentials == DROPPED:
                raise CredentialsDropped
            given = (entry.credentials, seen.etag, seen.last_modified)
            async with self._fetcher.fetched(entry.url, *given) as answer:
                await self._in_flight.acquire()
                return answer.data, Validators(answer.etag, answer.last_modified)
        await self._in_flight.acquire()
        try:
            if source == "upload":
                sha256 = entry.url.removeprefix(UPLOAD_SCHEME)
                return await self._media.load(sha256), Validators()
            data, etag = await asyncio.to_thread(
                read_file, entry.url, max_bytes=self._max_bytes, unless_etag=seen.etag
            )
            return data, Validators(etag)
        except BaseException:
            self._in_flight.release()
            raise

    async def _keep(
        self, entry: Entry, image: ImageRow, validators: Validators, item: Item | None
    ) -> OutcomeStatus:
        """Write an image's metadata and validators, if they changed, and end its item."""
        entry = entry.over(image)
        described = None if entry.describes(image) else image
        same = validators == Validators(image.etag, image.last_modified) and image.gone_at is None
        if described or item or not same:
            write = _Write(entry, validators, described=described, item=item)
            return await self._writes.submit(write)
        return "unchanged"

    async def _look_up(self, wanted: Sequence[tuple[Entry, str | None]]) -> list[_Known]:
        images = await self._catalog.find_entries([entry for entry, _ in wanted])
        hashes = [sha256 for _, sha256 in wanted]
        others = await self._catalog.same_bytes([sha256 for sha256 in hashes if sha256])
        ids = [*(image.id for image in images if image), *others.values()]
        embedded = await self._vectors.embedded(ids) if ids else {}
        pairs = list(zip(images, hashes, strict=True))
        # Only for bytes that are new at their URL, or were read by an older decoder there.
        kept = {(image.id, image.sha256) for image in images if image and not image.is_outdated}
        new = {s for image, s in pairs if s and (image is None or (image.id, s) not in kept)}
        same = {s: i for s, i in others.items() if s in new and embedded.get(i) == s}
        vectors = await self._vectors.fetch(list(same.values())) if same else {}
        return [
            _Known(
                image,
                image is not None and (image.id, embedded.get(image.id)) in kept,
                vectors.get(same[sha256]) if sha256 in same else None,
            )
            for image, sha256 in pairs
        ]

    async def _write(self, writes: Sequence[_Write]) -> list[OutcomeStatus]:
        new = [NewImage(w.entry, w.picture, w.validators) for w in writes if w.picture]
        nodes = [
            NewVector(w.entry, w.picture, w.picture.sha256, w.vector)
            for w in writes
            if w.picture and w.vector is not None
        ]
        described = [w.described for w in writes if w.described]
        vectors = await self._vectors.fetch([image.id for image in described]) if described else {}
        nodes += [
            NewVector(w.entry, w.described, w.described.sha256, vectors[w.described.id])
            for w in writes
            if w.described and w.described.id in vectors
        ]
        async with self._database.begin() as connection:
            inserted = await self._catalog.upsert(connection, new) if new else set[UUID]()
            for write in sorted((w for w in writes if not w.picture), key=lambda w: w.entry.id):
                await self._catalog.mark_same(connection, write.entry, write.validators)
                if write.described:
                    await self._catalog.describe(connection, write.entry)
            if nodes:
                await self._vectors.upsert(connection, nodes)
            statuses: list[OutcomeStatus] = [_status(write, inserted) for write in writes]
            ended = [
                Ended(write.item, status, image_id=write.entry.id)
                for write, status in zip(writes, statuses, strict=True)
                if write.item
            ]
            if ended:
                await self._job_items.end(connection, ended)
        return statuses


def _with_title(source: ItemSource, entry: Entry, image: ImageRow | None) -> Entry:
    """Return the entry with its default title: the existing one, or a new file's name."""
    if source == "upload" and image is not None:
        return replace(entry, title=None)
    if source == "file" and image is None and entry.title is None:
        return replace(entry, title=file_title(entry.url))
    return entry


def _status(write: _Write, inserted: set[UUID]) -> OutcomeStatus:
    if write.picture:
        return "indexed" if write.entry.id in inserted else "updated"
    return "updated" if write.described else "unchanged"
