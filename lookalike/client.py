"""The clients: one that waits, and one to be awaited, with the same methods."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar, Unpack
from uuid import UUID

import httpx

from lookalike import calls
from lookalike.calls import Call, EventReader, File, Filters, ImageEntry, SearchOptions
from lookalike.models import (
    Hit,
    Image,
    ImageSort,
    ItemState,
    Job,
    JobItem,
    MetadataValue,
    Outcome,
    Results,
)
from lookalike.people import AsyncPeople, People
from lookalike.problems import problem_of

T = TypeVar("T")

LOCAL = "http://localhost:8000"
# An upsert of many URLs is answered when all are indexed.
TIMEOUT_S = 600.0
CONNECT_S = 10.0
# A stream has a line every ten seconds.
QUIET_S = 60.0
CHUNK = 1 << 16
# Entries of a page of what is listed in full.
PAGE = 500


class Client(People):
    """A client of the server at a URL, with an API key if it needs one.

    Methods raise `Problem` for an answer that is no success, and `NoAnswer` (httpx's `HTTPError`)
    if there is none. Use it in a `with`, or call `close`. An `http` client of your own, with this
    base URL, may be given for what else httpx can do; it is closed, too.
    """

    def __init__(
        self,
        url: str = LOCAL,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        http: httpx.Client | None = None,
    ) -> None:
        self._http = http or httpx.Client(**_options(url, timeout_s))
        self._http.headers.update(_access(key))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def upsert(self, images: Sequence[str | ImageEntry]) -> list[Outcome]:
        """Index at most 1,000 images by URL; return an outcome for each, in order."""
        return self.send(calls.upsert(images))

    def upsert_job(self, images: Sequence[str | ImageEntry]) -> Job:
        """Index at most 1,000 images by URL in a job."""
        return self.send(calls.upsert_job(images))

    def upsert_list(self, source: File, *, media_type: str | None = None) -> Job:
        """Index a list of URLs of any length in a job: CSV, TSV, text, JSON Lines or a sitemap.

        The file's suffix tells which, or else the media type.
        """
        return self.send(calls.upsert_list(source, media_type))

    def upload(self, files: Sequence[File]) -> list[Outcome]:
        """Index images by their bytes; return an outcome for each, in order."""
        return self.send(calls.upload(files))

    def upload_job(self, files: Sequence[File], *, job: int | None = None) -> Job:
        """Index images by their bytes in a job: a new one, or one that is there already."""
        return self.send(calls.upload_job(files, job))

    def query(self, file: File, *, verified: bool = False) -> list[str]:
        """Return the URLs of images with a similarity above 0.90, or of verified copies only."""
        return self.send(calls.query(file, verified=verified))

    def search(self, file: File | None = None, **options: Unpack[SearchOptions]) -> Results:
        """Search by a file, a URL, a text, or any sum, within filters; return the first page."""
        return self.send(calls.search(file, options))

    def search_all(
        self, file: File | None = None, **options: Unpack[SearchOptions]
    ) -> Iterator[Hit]:
        """Search, and yield the hits of all pages, best match first."""
        results = self.search(file, **options)
        yield from results.hits
        while results.next:
            results = self.search(**_following(options, results.next))
            yield from results.hits

    def images(self, q: str = "", *, sort: ImageSort = "newest") -> Iterator[Image]:
        """Yield all images whose URL, title, description or tags contain a text, in an order.

        `biggest` and `smallest` are by pixels, `heaviest` by the bytes of the file.
        """
        page, cursor = self.send(calls.images(q, sort, PAGE, None))
        yield from page
        while cursor:
            page, cursor = self.send(calls.images(q, sort, PAGE, cursor))
            yield from page

    def image(self, image_id: UUID | str) -> Image:
        """Return an image with all its details."""
        return self.send(calls.image(image_id))

    def update(
        self,
        image_id: UUID | str,
        *,
        title: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, MetadataValue] | None = None,
    ) -> Image:
        """Change what is said of an image; None keeps a value."""
        return self.send(calls.update(image_id, _said(title, description, tags, metadata)))

    def delete(self, image_id: UUID | str, *, trash: bool = False) -> None:
        """Delete an image for good, or move it to the trash."""
        self.send(calls.delete(image_id, trash=trash))

    def thumbnail(self, image_id: UUID | str) -> bytes:
        """Return an image's thumbnail: a JPEG, 256 px on the short side."""
        return self.send(calls.thumbnail(image_id))

    def facets(self, **filters: Unpack[Filters]) -> dict[str, Any]:
        """Return the values to filter by, with counts, as JSON."""
        return self.send(calls.facets(filters))

    def stats(self) -> dict[str, Any]:
        """Return the size of the index and its encoder, as JSON."""
        return self.send(calls.stats())

    def jobs(self) -> list[Job]:
        """Return the jobs, newest first."""
        return self.send(calls.jobs())

    def job(self, job_id: int) -> Job:
        """Return a job's progress."""
        return self.send(calls.job(job_id))

    def job_items(self, job_id: int, *, state: ItemState | None = None) -> Iterator[JobItem]:
        """Yield the items of a job, all or those in one state."""
        after: int | None = -1
        while after is not None:
            page, after = self.send(calls.job_items(job_id, state, after, PAGE))
            yield from page

    def follow(self, job_id: int) -> Iterator[Job]:
        """Yield a job's progress whenever it changes, until it has ended."""
        reader = EventReader()
        path = calls.job_events(job_id)
        with self._http.stream("GET", path, timeout=_timeout(QUIET_S)) as response:
            if not response.is_success:
                response.read()
                raise problem_of(response)
            for line in response.iter_lines():
                job = reader.read(line)
                if job is not None:
                    yield job
                if reader.has_ended:
                    return

    def retry(self, job_id: int) -> Job:
        """Retry failed and cancelled items of a job."""
        return self.send(calls.job(job_id, "/retry"))

    def cancel(self, job_id: int) -> Job:
        """Cancel the pending items of a job."""
        return self.send(calls.job(job_id, "/cancel"))

    def send(self, call: Call[T]) -> T:
        """Send a request of `lookalike.calls`, or of your own."""
        if call.source is None:
            return _read(call, self._http.request(call.method, call.path, **call.options))
        with _opened(call.source) as file:
            response = self._http.request(call.method, call.path, content=file, **call.options)
        return _read(call, response)


class AsyncClient(AsyncPeople):
    """The same as `Client`, to be awaited: its methods are described there."""

    def __init__(
        self,
        url: str = LOCAL,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._http = http or httpx.AsyncClient(**_options(url, timeout_s))
        self._http.headers.update(_access(key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def upsert(self, images: Sequence[str | ImageEntry]) -> list[Outcome]:
        """See `Client.upsert`."""
        return await self.send(calls.upsert(images))

    async def upsert_job(self, images: Sequence[str | ImageEntry]) -> Job:
        """See `Client.upsert_job`."""
        return await self.send(calls.upsert_job(images))

    async def upsert_list(self, source: File, *, media_type: str | None = None) -> Job:
        """See `Client.upsert_list`."""
        return await self.send(calls.upsert_list(source, media_type))

    async def upload(self, files: Sequence[File]) -> list[Outcome]:
        """See `Client.upload`."""
        return await self.send(calls.upload(files))

    async def upload_job(self, files: Sequence[File], *, job: int | None = None) -> Job:
        """See `Client.upload_job`."""
        return await self.send(calls.upload_job(files, job))

    async def query(self, file: File, *, verified: bool = False) -> list[str]:
        """See `Client.query`."""
        return await self.send(calls.query(file, verified=verified))

    async def search(self, file: File | None = None, **options: Unpack[SearchOptions]) -> Results:
        """See `Client.search`."""
        return await self.send(calls.search(file, options))

    async def search_all(
        self, file: File | None = None, **options: Unpack[SearchOptions]
    ) -> AsyncGenerator[Hit]:
        """See `Client.search_all`."""
        results = await self.search(file, **options)
        for hit in results.hits:
            yield hit
        while results.next:
            results = await self.search(**_following(options, results.next))
            for hit in results.hits:
                yield hit

    async def images(self, q: str = "", *, sort: ImageSort = "newest") -> AsyncGenerator[Image]:
        """See `Client.images`."""
        page, cursor = await self.send(calls.images(q, sort, PAGE, None))
        for image in page:
            yield image
        while cursor:
            page, cursor = await self.send(calls.images(q, sort, PAGE, cursor))
            for image in page:
                yield image

    async def image(self, image_id: UUID | str) -> Image:
        """See `Client.image`."""
        return await self.send(calls.image(image_id))

    async def update(
        self,
        image_id: UUID | str,
        *,
        title: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, MetadataValue] | None = None,
    ) -> Image:
        """See `Client.update`."""
        return await self.send(calls.update(image_id, _said(title, description, tags, metadata)))

    async def delete(self, image_id: UUID | str, *, trash: bool = False) -> None:
        """See `Client.delete`."""
        await self.send(calls.delete(image_id, trash=trash))

    async def thumbnail(self, image_id: UUID | str) -> bytes:
        """See `Client.thumbnail`."""
        return await self.send(calls.thumbnail(image_id))

    async def facets(self, **filters: Unpack[Filters]) -> dict[str, Any]:
        """See `Client.facets`."""
        return await self.send(calls.facets(filters))

    async def stats(self) -> dict[str, Any]:
        """See `Client.stats`."""
        return await self.send(calls.stats())

    async def jobs(self) -> list[Job]:
        """See `Client.jobs`."""
        return await self.send(calls.jobs())

    async def job(self, job_id: int) -> Job:
        """See `Client.job`."""
        return await self.send(calls.job(job_id))

    async def job_items(
        self, job_id: int, *, state: ItemState | None = None
    ) -> AsyncGenerator[JobItem]:
        """See `Client.job_items`."""
        after: int | None = -1
        while after is not None:
            page, after = await self.send(calls.job_items(job_id, state, after, PAGE))
            for item in page:
                yield item

    async def follow(self, job_id: int) -> AsyncGenerator[Job]:
        """See `Client.follow`."""
        reader = EventReader()
        path = calls.job_events(job_id)
        async with self._http.stream("GET", path, timeout=_timeout(QUIET_S)) as response:
            if not response.is_success:
                await response.aread()
                raise problem_of(response)
            async for line in response.aiter_lines():
                job = reader.read(line)
                if job is not None:
                    yield job
                if reader.has_ended:
                    return

    async def retry(self, job_id: int) -> Job:
        """See `Client.retry`."""
        return await self.send(calls.job(job_id, "/retry"))

    async def cancel(self, job_id: int) -> Job:
        """See `Client.cancel`."""
        return await self.send(calls.job(job_id, "/cancel"))

    async def send(self, call: Call[T]) -> T:
        """See `Client.send`."""
        if call.source is None:
            return _read(call, await self._http.request(call.method, call.path, **call.options))
        with _opened(call.source) as file:
            body = _chunks(file)
            response = await self._http.request(
                call.method, call.path, content=body, **call.options
            )
        return _read(call, response)


def _options(url: str, timeout_s: float) -> dict[str, Any]:
    """Return what httpx is told of the server; proxies of the environment lead to no loopback."""
    host = httpx.URL(url).host
    return {
        "base_url": url,
        "timeout": _timeout(timeout_s),
        "trust_env": host not in ("localhost", "127.0.0.1", "::1"),
        # Certificates take a while to load.
        "verify": url.lower().startswith("https:"),
    }


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_S))


def _access(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _read(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success:
        raise problem_of(response)
    return call.read(response)


def _following(options: SearchOptions, cursor: str) -> SearchOptions:
    """Return the options of a next page: all but these are as on the first."""
    following: SearchOptions = {"cursor": cursor}
    if "limit" in options:
        following["limit"] = options["limit"]
    if "include" in options:
        following["include"] = options["include"]
    return following


def _said(
    title: str | None,
    description: str | None,
    tags: Sequence[str] | None,
    metadata: Mapping[str, MetadataValue] | None,
) -> dict[str, Any]:
    said = {"title": title, "description": description, "metadata": metadata}
    return {**said, "tags": None if tags is None else list(tags)}


@contextmanager
def _opened(source: File) -> Generator[BinaryIO]:
    """Open a file that is given by its path or its bytes; one that is open stays open."""
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield file
    elif isinstance(source, bytes):
        yield BytesIO(source)
    else:
        yield source


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK):
        yield chunk
