"""The indexing pipeline: fetch, decode, embed, store."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from uuid import UUID
from weakref import WeakValueDictionary

from app.encoding.encoder import Encoder, Vector
from app.indexing.coalescer import Coalescer, gather
from app.indexing.fetcher import Fetcher
from app.indexing.files import file_title, read_file
from app.indexing.originals import NAME_TOO_LONG, Originals
from app.indexing.outcomes import Outcome, OutcomeStatus
from app.indexing.writes import RowGone, Write, Writer
from app.pictures.decoding import Decoder, Facts
from app.problems import (
    CredentialsDropped,
    FetchProblem,
    InvalidRequest,
    NotFound,
    PictureTooLarge,
    Problem,
    Unavailable,
    WriteConflict,
)
from app.store.catalog import Catalog, Selection
from app.store.database import Database
from app.store.images import DROPPED, Entry, ImageRow, Validators
from app.store.items import Item, ItemSource
from app.store.job_items import JobItems
from app.store.trash import TrashTable
from app.store.vectors import NewVector, VectorTable

# Images that are fetched but not yet stored, over all requests and jobs: one batch of the encoder
# that runs, one that fills and one being written. With the fetches (fetcher.py), they bound the
# memory: (16 + 48) files of MAX_UPLOAD_MB, beside the MAX_DECODED_MB of those being decoded.
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
        trash: TrashTable,
        job_items: JobItems,
        encoder: Encoder,
        decoder: Decoder,
        fetcher: Fetcher,
        originals: Originals,
        max_bytes: int,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._vectors = vectors
        self._trash = trash
        self._encoder = encoder
        self._decoder = decoder
        self._fetcher = fetcher
        self.originals = originals
        self._max_bytes = max_bytes
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lookups = Coalescer(self._look_up, max_batch=MAX_PER_STATEMENT)
        writer = Writer(database, catalog, vectors, trash, job_items)
        self._writes = Coalescer(writer.write, max_batch=MAX_PER_STATEMENT)

    async def upsert_urls(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Fetch and index images; return the outcomes in the order of the entries.

        Raises `Unavailable`. A problem with one image is in its outcome.
        """
        return await gather([self.upsert("web", entry) for entry in entries])

    async def upsert_upload(self, data: bytes, *, title: str) -> Outcome:
        """Store and index an uploaded file; the same bytes are always the same image."""
        async with self.originals.keeping(data, title=title) as item:
            if item.reason is not None:
                problem = InvalidRequest if item.reason == NAME_TOO_LONG else PictureTooLarge
                return Outcome(item.entry.title or "", "failed", problem=problem(item.reason))
            outcome = await self.upsert("upload", item.entry)
        return replace(outcome, url=title or outcome.url) if outcome.problem else outcome

    async def upsert(
        self, source: ItemSource, entry: Entry, *, item: Item | None = None
    ) -> Outcome:
        """Index an image: read its bytes and, unless they are indexed, decode, embed and store.

        Raises `Unavailable`. A problem with the image is in the outcome.
        """
        try:
            # A second client with the same URL waits here, and then finds it unchanged.
            async with self._lock(entry.url):
                # A job may be deleted while its item is indexed; other uploads are claimed already.
                is_open = source == "upload" and item is not None
                async with self.originals.claimed(entry) if is_open else nullcontext():
                    status, image_id = await self._upsert_kept(source, entry, item)
        except Unavailable:
            raise
        except Problem as problem:
            if isinstance(problem, FetchProblem) and problem.is_gone:
                await self._catalog.mark_gone(entry)
            return Outcome(entry.url, "failed", problem=problem)
        return Outcome(entry.url, status, id=image_id)

    async def delete_unused(self, urls: Collection[str]) -> None:
        """Delete uploads, given by URL, that neither an image nor an item of a job needs."""
        await self.originals.remove_unneeded(urls)

    async def describe(
        self, image: ImageRow, entry: Entry, *, fills: bool = False, item: Item | None = None
    ) -> OutcomeStatus:
        """Change the metadata of an image; a None in the entry keeps the value.

        With `fills`, so does a value that is not empty by now. Raises `NotFound` if the image has
        been deleted.
        """
        async with self._lock(image.url):
            try:
                write = Write(_of(entry, image), fills=fills, creates=False, item=item)
                return await self._writes.submit(write)
            except RowGone as exc:
                raise NotFound("The image is no longer in the index.") from exc

    async def delete_all(self, selection: Selection) -> int:
        """Remove every image of a selection; return their number."""
        deleted = 0
        while images := await self._catalog.newest(selection, limit=MAX_PER_STATEMENT):
            await self.delete(images)
            deleted += len(images)
        return deleted

    async def delete(self, images: Sequence[ImageRow]) -> None:
        """Remove images from the index, and the files of uploads that nothing else needs."""
        ids = sorted(image.id for image in images)
        async with self._database.begin() as connection:
            await self._catalog.delete(connection, ids)
        await self.originals.remove_unneeded([image.url for image in images])

    async def reindex(self, *, batch: int = 64) -> AsyncGenerator[int]:
        """Embed, from their thumbnails, the images that this encoder has not embedded.

        Vectors of an older version are kept, and get the columns that filters use. Yields the
        number of images checked so far.
        """
        checked, after = 0, None
        while rows := await self._catalog.thumbnails(after=after, limit=batch):
            checked, after = checked + len(rows), rows[-1][0].id
            while rows:
                rows = await self._embed_missing(rows)
            yield checked

    async def _embed_missing(
        self, rows: Sequence[tuple[ImageRow, bytes]]
    ) -> Sequence[tuple[ImageRow, bytes]]:
        """Embed the thumbnails that need it; return the images whose bytes changed meanwhile."""
        ids = [image.id for image, _ in rows]
        embedded = await self._vectors.embedded(ids)
        current = {i.id for i, _ in rows if embedded.get(i.id) == i.sha256}
        without_facets = await self._vectors.without_facets(list(current))
        new = await gather(
            [
                self._from_thumbnail(image, thumbnail, without_facets.get(image.id))
                for image, thumbnail in rows
                if image.id not in current or image.id in without_facets
            ]
        )
        if not new:
            return []
        async with self._database.begin() as connection:
            now = await self._catalog.lock(connection, [row.entry.id for row in new])
            same = [row for row in new if (i := now.get(row.entry.id)) and i.sha256 == row.sha256]
            if same:
                colours = {row.entry.id: row.picture.colours for row in same}
                await self._catalog.set_colours(connection, colours)
                # What is said of them may have changed, too.
                said = [replace(r, entry=Entry(r.entry.url).over(now[r.entry.id])) for r in same]
                await self._vectors.upsert(connection, said)
        changed = now.keys() - {row.entry.id for row in same}
        if not changed:
            return []
        return await self._catalog.thumbnails(ids=list(changed), limit=len(ids))

    async def _from_thumbnail(
        self, image: ImageRow, thumbnail: bytes, vector: Vector | None
    ) -> NewVector:
        picture, prepared = await self._decoder.decode_and(thumbnail, self._encoder.prepare)
        image = replace(image, colours=image.colours or picture.colours)
        if vector is None:
            vector = await self._encoder.embed_prepared(prepared)
        return NewVector(Entry(image.url).over(image), image, image.sha256, vector)

    def _lock(self, key: str) -> asyncio.Lock:
        lock = self._locks.get(key) or asyncio.Lock()
        self._locks[key] = lock
        return lock

    async def _upsert_kept(
        self, source: ItemSource, entry: Entry, item: Item | None
    ) -> tuple[OutcomeStatus, UUID]:
        """Index an image, once more if it is deleted at the same time; a refresh does not."""
        try:
            return await self._upsert(source, entry, item)
        except RowGone as exc:
            if source == "refresh":
                raise NotFound("The image is no longer in the index.") from exc
        try:
            return await self._upsert(source, entry, item)
        except RowGone as exc:
            raise WriteConflict from exc

    async def _upsert(
        self, source: ItemSource, entry: Entry, item: Item | None
    ) -> tuple[OutcomeStatus, UUID]:
        """Return also the id of the image, which is not always the one that the URL decides."""
        image, seen = None, Validators()
        if source in ("file", "refresh"):
            known = await self._lookups.submit((entry, None, False))
            if known.image is not None and known.embedded:
                image = known.image
                seen = Validators(image.etag, image.last_modified)
        data, validators = await self._read(source, entry, seen)
        try:
            if data is None and image is not None:
                return await self._keep(source, entry, image, seen, item), image.id
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
        known = await self._lookups.submit((entry, sha256, source != "refresh"))
        image, vector = known.image, known.vector
        entry = _with_title(source, entry, image)
        if image is not None and image.sha256 == sha256 and known.embedded:
            return await self._keep(source, entry, image, validators, item), image.id
        if vector is None:
            picture, vector = await self._decode_and_embed(data)
        else:
            picture = await self._decoder.facts(data)
        write = Write(
            _of(entry, image), picture, vector, validators, creates=source != "refresh", item=item
        )
        return await self._writes.submit(write), write.entry.id

    async def _decode_and_embed(self, data: bytes) -> tuple[Facts, Vector]:
        # The encoder briefly holds its batch open for images that are being decoded.
        with self._encoder.images.expected():
            picture, prepared = await self._decoder.decode_and(data, self._encoder.prepare)
            future = self._encoder.images.submit(prepared, hurried=False)
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
                return await self.originals.load(entry), Validators()
            data, etag = await asyncio.to_thread(
                read_file, entry.url, max_bytes=self._max_bytes, unless_etag=seen.etag
            )
            return data, Validators(etag)
        except BaseException:
            self._in_flight.release()
            raise

    async def _keep(
        self,
        source: ItemSource,
        entry: Entry,
        image: ImageRow,
        validators: Validators,
        item: Item | None,
    ) -> OutcomeStatus:
        """Write an image's metadata and validators, if they changed, and end its item."""
        same = validators == Validators(image.etag, image.last_modified) and image.gone_at is None
        if same and item is None and entry.over(image).describes(image):
            return "unchanged"
        write = Write(
            _of(entry, image),
            validators=validators,
            checked=image.sha256,
            creates=source != "refresh",
            item=item,
        )
        return await self._writes.submit(write)

    async def _look_up(self, wanted: Sequence[tuple[Entry, str | None, bool]]) -> list[_Known]:
        """Look up images and their new bytes, if these are known; some are restored before."""
        if trashed := [entry.url for entry, _, restores in wanted if restores]:
            async with self._database.begin() as connection:
                await self._trash.restore(connection, urls=trashed)
        images = await self._catalog.find_entries([entry for entry, *_ in wanted])
        hashes = [sha256 for _, sha256, _ in wanted]
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


def _with_title(source: ItemSource, entry: Entry, image: ImageRow | None) -> Entry:
    """Return the entry with its default title: the existing one, or a new file's name."""
    if source == "upload" and image is not None:
        return replace(entry, title=None)
    if source == "file" and image is None and entry.title is None:
        return replace(entry, title=file_title(entry.url))
    return entry


def _of(entry: Entry, image: ImageRow | None) -> Entry:
    """Return the entry with the id of the image's row."""
    return replace(entry, image_id=image.id) if image else entry
