"""The indexing pipeline: fetch, decode, embed, store."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from app.encoding.encoder import Vector
from app.faces.face import Finder, Found
from app.indexing.coalescer import LONGER_S, Coalescer, gather
from app.indexing.fetcher import Fetcher
from app.indexing.files import file_title, read_file
from app.indexing.originals import NAME_TOO_LONG, Originals
from app.indexing.outcomes import Outcome, OutcomeStatus
from app.indexing.writes import EditEnded, RowGone, Write, Writer
from app.pictures.decoding import Decoder, Facts, Picture
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
from app.store.faces import FaceTable
from app.store.images import DROPPED, UPLOAD_SCHEME, Entry, ImageRow, Validators
from app.store.items import Item, ItemSource
from app.store.job_items import JobItems
from app.store.spaces import Embedded, Space, Spaces, prepare
from app.store.trash import TrashTable
from app.store.urls import is_web

# Images that are fetched but not yet stored, over all requests and jobs: one batch of the encoder
# that runs, one that fills and one being written. With the fetches (fetcher.py), they bound the
# memory: (16 + 48) files of MAX_UPLOAD_MB, beside the MAX_DECODED_MB of those being decoded.
MAX_IN_FLIGHT = 48
MAX_PER_STATEMENT = 128


@dataclass(frozen=True, slots=True)
class _Known:
    """What the index has of an image.

    `embedded` says whether its vectors are what the bytes of its row give now. `vectors` are those
    of the new bytes, as far as any indexed image has them.
    """

    image: ImageRow | None
    embedded: bool
    vectors: Embedded


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
        spaces: Spaces,
        trash: TrashTable,
        job_items: JobItems,
        decoder: Decoder,
        fetcher: Fetcher,
        originals: Originals,
        max_bytes: int,
        faces: Finder | None = None,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._spaces = spaces
        self._trash = trash
        self._decoder = decoder
        self._fetcher = fetcher
        self.originals = originals
        self._max_bytes = max_bytes
        self._faces = faces
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lookups = Coalescer(self._look_up, max_batch=MAX_PER_STATEMENT, held_open_s=LONGER_S)
        writer = Writer(database, catalog, spaces, trash, job_items, FaceTable(database, catalog))
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

    async def original(self, image: ImageRow) -> bytes | None:
        """Return the file that an image was made from; None if it has changed or cannot be had.

        Raises `Unavailable`.
        """
        source: ItemSource = "file"
        if image.url.startswith(UPLOAD_SCHEME):
            source = "upload"
        elif is_web(image.url):
            source = "web"
        dropped = DROPPED if image.needs_credentials else None
        try:
            data, _ = await self._read(source, Entry(image.url, credentials=dropped), Validators())
        except Unavailable:
            raise
        except Problem:
            return None
        self._in_flight.release()
        same = data is not None and hashlib.sha256(data).hexdigest() == image.sha256
        return data if same else None

    async def delete_unused(self, urls: Collection[str]) -> None:
        """Delete uploads, given by URL, that neither an image nor an item of a job needs."""
        await self.originals.remove_unneeded(urls)

    async def describe(
        self,
        image: ImageRow,
        entry: Entry,
        *,
        fills: bool = False,
        edit: Callable[[ImageRow], Entry] | None = None,
        item: Item | None = None,
    ) -> OutcomeStatus:
        """Change the metadata of an image; a None in the entry keeps the value.

        With `fills`, so does a value that is not empty by now; with an `edit`, values are made of
        those that the image has by now, unless the item has ended meanwhile. Raises `NotFound` if
        the image has been deleted, and what the edit raises.
        """
        async with self._lock(image.url):
            try:
                write = Write(_of(entry, image), fills=fills, edit=edit, creates=False, item=item)
                return await self._writes.submit(write)
            except EditEnded:
                return "unchanged"
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
        image, vectors = known.image, known.vectors
        entry = _with_title(source, entry, image)
        if image is not None and image.sha256 == sha256 and known.embedded:
            return await self._keep(source, entry, image, validators, item), image.id
        missing = [space for space in self._spaces.all if space not in vectors]
        picture, new, faces = await self._decode_and_embed(data, missing)
        entry = _of(entry, image)
        key = await self.originals.thumbnails.put(entry.id, picture.thumbnail)
        write = Write(entry, picture, {**vectors, **new}, validators, faces=faces, item=item)
        write = replace(write, thumbnail_key=key, creates=source != "refresh")
        return await self._writes.submit(write), entry.id

    async def _decode_and_embed(
        self, data: bytes, wanted: Sequence[Space]
    ) -> tuple[Facts, dict[Space, Vector], Found | None]:
        # The encoders briefly hold their batches open for images that are being decoded.
        with ExitStack() as stack:
            for space in wanted:
                stack.enter_context(space.encoder.images.expected())
            picture, (prepared, faces) = await self._decoder.decode_and(
                data, partial(self._look, wanted)
            )
            futures = [
                asyncio.wrap_future(space.encoder.images.submit(prepared[space], hurried=False))
                for space in wanted
            ]
        vectors = dict(zip(wanted, await asyncio.gather(*futures), strict=True))
        return picture, vectors, faces

    def _look(
        self, wanted: Sequence[Space], picture: Picture
    ) -> tuple[dict[Space, Any], Found | None]:
        """Return what encoders read of a picture, and its faces, if they are wanted."""
        faces = self._faces.look(picture.image) if self._faces else None
        return prepare(wanted, picture), faces

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
        trashed = [entry.url for entry, _, restores in wanted if restores]
        # Hardly ever, so that it is asked before a transaction begins.
        if trashed and await self._trash.holds_any(trashed):
            async with self._database.begin() as connection:
                await self._trash.restore(connection, urls=trashed)
        images = await self._catalog.find_entries([entry for entry, *_ in wanted])
        hashes = [sha256 for _, sha256, _ in wanted]
        others = await self._catalog.same_bytes([sha256 for sha256 in hashes if sha256])
        ids = [*(image.id for image in images if image), *others.values()]
        embedded = {
            space: await space.vectors.embedded(ids) if ids else {} for space in self._spaces.all
        }
        pairs = list(zip(images, hashes, strict=True))
        kept = [image is not None and _is_current(image, embedded) for image in images]
        # Only for bytes that are new at their URL, or were not read there as they are now.
        new = {
            s
            for (image, s), is_kept in zip(pairs, kept, strict=True)
            if s and not (is_kept and image is not None and image.sha256 == s)
        }
        vectors = await _vectors_of({s: i for s, i in others.items() if s in new}, embedded)
        return [
            _Known(image, is_kept, vectors.get(sha256 or "", {}))
            for (image, sha256), is_kept in zip(pairs, kept, strict=True)
        ]


def _is_current(image: ImageRow, embedded: Mapping[Space, Mapping[UUID, str]]) -> bool:
    """Return whether an image has every vector that its bytes give now."""
    return not image.is_outdated and all(
        hashes.get(image.id) == image.sha256 for hashes in embedded.values()
    )


async def _vectors_of(
    files: Mapping[str, UUID], embedded: Mapping[Space, Mapping[UUID, str]]
) -> dict[str, dict[Space, Vector]]:
    """Return the vectors that there are of files, each given by its SHA-256 with an image of it."""
    found: dict[str, dict[Space, Vector]] = {}
    for space, hashes in embedded.items():
        same = {sha256: i for sha256, i in files.items() if hashes.get(i) == sha256}
        vectors = await space.vectors.fetch(list(same.values())) if same else {}
        for sha256, image_id in same.items():
            if image_id in vectors:
                found.setdefault(sha256, {})[space] = vectors[image_id]
    return found


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
