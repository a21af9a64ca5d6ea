"""The JSON endpoints that index images, immediately or as jobs."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from app.indexing.coalescer import gather
from app.indexing.documents import outcome_document
from app.indexing.list_fetcher import list_fetcher
from app.indexing.outcomes import Outcome
from app.indexing.sources import ListKind, list_kind_of, posted_items, web_item
from app.indexing.streams import charset_of
from app.problems import InvalidRequest, JobCancelled, NoPicture
from app.store.catalog import Selection
from app.store.images import Entry
from app.store.items import NewItem
from app.web import schemas
from app.web.forms import chosen_files, form_of, parse_query, refuse_unknown_files
from app.web.jobs_api import accepted
from app.web.requests import Request, json_body, parts, respond, selection_of

# How much of a list is kept in memory before it is moved to a temporary file.
SPOOLED_BYTES = 1_000_000
# How long a request may take to fetch the sitemaps that its lists name.
SITEMAPS_WITHIN_S = 600
# How many uploaded files of one request are in memory at once.
UPLOADS_AT_ONCE = 8


async def upsert(request: Request) -> Response:
    """Index images by URL: immediately, or as a job if the client asks for one or sends a list."""
    kind = list_kind_of(request.headers.get("content-type", ""))
    if kind is not None:
        return await _upsert_list(request, kind)
    body = await json_body(request, schemas.UpsertRequest)
    entries = [_entry(image) for image in body.images]
    if _prefers_async(request):
        items = [web_item(entry) for entry in entries]
        return await accepted(request, await parts(request).jobs.create(urls_title(items), items))
    outcomes = await parts(request).indexer.upsert_urls(entries)
    await describe_indexed(request, outcomes)
    return respond(schemas.UpsertResponse(results=[outcome_document(o) for o in outcomes]))


async def upload_images(request: Request) -> Response:
    """Index uploaded images: immediately, or as a job if the client asks for one."""
    async with form_of(request, max_files=schemas.MOST_IMAGES_PER_REQUEST) as form:
        files = image_files(form)
        if _prefers_async(request) or "job" in request.query_params:
            return await _upload_to_job(request, files)
        outcomes = await _index_uploads(request, files)
    await describe_indexed(request, outcomes)
    return respond(schemas.UpsertResponse(results=[outcome_document(o) for o in outcomes]))


async def refresh(request: Request) -> Response:
    """Create a job that checks which images of a selection have changed or are gone."""
    wanted = parse_query(request, schemas.SelectionRequest)
    job_id = await parts(request).jobs.refresh(selection_of(wanted))
    return await accepted(request, job_id)


async def caption(request: Request) -> Response:
    """Create a job that describes the images of a selection that have no description."""
    wanted = parse_query(request, schemas.SelectionRequest)
    if not parts(request).settings.caption_model:
        raise InvalidRequest("This server has no caption model; set CAPTION_MODEL.")
    selection = replace(selection_of(wanted), undescribed=True)
    job_id = await parts(request).jobs.caption(selection)
    if job_id is None:
        raise InvalidRequest("Every selected image has a description or is waiting for one.")
    return await accepted(request, job_id)


async def describe_indexed(request: Request, outcomes: Sequence[Outcome]) -> None:
    """Create a caption job for images that were just indexed, if CAPTION_MODEL is set."""
    ids = [o.id for o in outcomes if o.id and o.status in ("indexed", "updated")]
    if ids:
        await parts(request).jobs.caption(Selection(ids=ids, undescribed=True))


def image_files(form: FormData) -> list[UploadFile]:
    """Return the form's `file`s; raises `NoPicture` if there are none."""
    refuse_unknown_files(form)
    files = chosen_files(form)
    if not files:
        raise NoPicture("Send images as form fields named `file`.")
    return files


@asynccontextmanager
async def keeping_uploads(
    request: Request, files: Sequence[UploadFile]
) -> AsyncGenerator[list[NewItem]]:
    """Store uploaded files; on leaving, those go that no job has taken."""
    originals = parts(request).indexer.originals
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                originals.keeping(await file.read(), title=file.filename or "")
            )
            for file in files
        ]


def urls_title(items: Sequence[NewItem]) -> str:
    """Return the title of a job that indexes URLs."""
    if len(items) == 1:
        return items[0].entry.url
    return f"{len(items)} URLs"


async def _upsert_list(request: Request, kind: ListKind) -> Response:
    """Create a job from a list of URLs, which is read as a stream and never held whole."""
    with SpooledTemporaryFile(SPOOLED_BYTES) as file:
        async for chunk in request.stream():
            await asyncio.to_thread(file.write, chunk)
        file.seek(0)
        charset = charset_of(request.headers.get("content-type", ""))
        fetch = list_fetcher(parts(request).fetcher, within_s=SITEMAPS_WITHIN_S)
        items = posted_items(cast(BinaryIO, file), kind, fetch=fetch, charset=charset)
        job_id = await parts(request).jobs.create("A list of URLs", items)
    return await accepted(request, job_id)


async def _upload_to_job(request: Request, files: Sequence[UploadFile]) -> Response:
    """Store uploaded images and index them in a job, new or named by `job`."""
    wanted = parse_query(request, schemas.UploadRequest)
    if wanted.job is None:
        async with keeping_uploads(request, files) as items:
            job_id = await parts(request).jobs.create("Uploads", items)
        return await accepted(request, job_id)
    job = await parts(request).job_items.find(wanted.job)
    if job.cancelled_at is not None:
        raise JobCancelled
    async with keeping_uploads(request, files) as items:
        await parts(request).jobs.add(job.id, items)
    return await accepted(request, job.id)


async def _index_uploads(request: Request, files: Sequence[UploadFile]) -> list[Outcome]:
    places = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def index(file: UploadFile) -> Outcome:
        async with places:
            data = await file.read()
            return await parts(request).indexer.upsert_upload(data, title=file.filename or "")

    return await gather([index(file) for file in files])


def _prefers_async(request: Request) -> bool:
    """Return whether the client prefers a job to waiting (RFC 7240, 4.1)."""
    preferences = request.headers.get("prefer", "").lower().split(",")
    return "respond-async" in [preference.strip() for preference in preferences]


def _entry(image: str | schemas.ImageEntry) -> Entry:
    if isinstance(image, str):
        return Entry(image.strip())
    return Entry(image.url.strip(), image.title, image.description, image.tags, image.metadata)
