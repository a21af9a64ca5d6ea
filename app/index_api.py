"""The JSON endpoints that index pictures, at once or as jobs, and those that follow jobs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast, get_args

from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response, StreamingResponse

from app import schemas
from app.api import (
    Request,
    chosen_files,
    json_body,
    parse,
    parts,
    refuse_unknown_files,
    respond,
    selection_of,
)
from app.catalog import Entry, Selection
from app.indexing import Outcome, gather
from app.items import Item, NewItem, Progress, State
from app.problems import InvalidRequest, NoPicture
from app.sources import MEDIA_TYPES, Kind, read_list

# What of a list is kept in memory before it goes to a temporary file.
SPOOLED_BYTES = 1_000_000
MOST_JOBS = 100
# Uploaded files of one request that are in memory at once.
UPLOADS_AT_ONCE = 8


async def upsert(request: Request) -> Response:
    """Index pictures by URL: now, or as a job if the client prefers that or sends a list."""
    kind = MEDIA_TYPES.get(request.headers.get("content-type", "").partition(";")[0].strip())
    if kind is not None:
        return await _upsert_list(request, kind)
    body = await json_body(request, schemas.UpsertRequest)
    entries = [_entry(image) for image in body.images]
    if _prefers_async(request):
        items = [NewItem("web", entry) for entry in entries]
        return await accepted(request, await parts(request).jobs.create(urls_title(items), items))
    outcomes = await parts(request).indexer.upsert_urls(entries)
    await describe_indexed(request, outcomes)
    return respond(schemas.UpsertResponse(results=[outcome_document(o) for o in outcomes]))


async def upload_images(request: Request) -> Response:
    """Index uploaded pictures: now, or as a job if the client prefers that."""
    async with request.form(max_files=schemas.MOST_IMAGES_PER_REQUEST) as form:
        files = picture_files(form)
        if _prefers_async(request) or "job" in request.query_params:
            return await _upload_to_job(request, files)
        outcomes = await _index_uploads(request, files)
    await describe_indexed(request, outcomes)
    return respond(schemas.UpsertResponse(results=[outcome_document(o) for o in outcomes]))


async def refresh(request: Request) -> Response:
    """Make a job that asks the web whether pictures have changed or gone."""
    wanted = parse(schemas.SelectionRequest, dict(request.query_params))
    job_id = await parts(request).jobs.refresh(selection_of(wanted))
    return await accepted(request, job_id)


async def caption(request: Request) -> Response:
    """Make a job that describes the pictures of a selection that no one has described."""
    wanted = parse(schemas.SelectionRequest, dict(request.query_params))
    if not parts(request).settings.caption_model:
        raise InvalidRequest("There is no caption model: set CAPTION_MODEL.")
    selection = replace(selection_of(wanted), undescribed=True)
    job_id = await parts(request).jobs.caption(selection)
    if job_id is None:
        raise InvalidRequest("Every picture of the selection has a description, or waits for one.")
    return await accepted(request, job_id)


async def describe_indexed(request: Request, outcomes: Sequence[Outcome]) -> None:
    """Let what was indexed just now be described, if a model is named for it."""
    ids = [o.id for o in outcomes if o.id and o.status in ("indexed", "updated")]
    if ids:
        await parts(request).jobs.caption(Selection(ids=ids, undescribed=True))


async def list_jobs(request: Request) -> Response:
    """List the jobs, the last made first."""
    jobs = await parts(request).job_items.newest(limit=MOST_JOBS)
    return respond(schemas.JobsResponse(jobs=[job_document(job) for job in jobs]))


async def show_job(request: Request) -> Response:
    """Tell how far a job is."""
    return respond(job_document(await find_job(request)))


async def list_items(request: Request) -> Response:
    """List what a job is made of."""
    job = await find_job(request)
    wanted = parse(schemas.JobItemsRequest, dict(request.query_params))
    items = await parts(request).job_items.items(
        job.id, state=wanted.state, after=wanted.after, limit=wanted.limit
    )
    return respond(
        schemas.JobItemsResponse(
            items=[item_document(item) for item in items],
            next=items[-1].position if len(items) == wanted.limit else None,
        )
    )


async def job_events(request: Request) -> Response:
    """Tell how far a job is, again and again, until it ends."""
    job = await find_job(request)

    async def render(progress: Progress) -> str:
        return job_document(progress).model_dump_json()

    return event_stream(parts(request).jobs.watch(job.id), render)


async def retry_job(request: Request) -> Response:
    """Try again what failed or was cancelled."""
    job = await find_job(request)
    await parts(request).jobs.retry(job.id)
    return respond(job_document(await find_job(request)))


async def cancel_job(request: Request) -> Response:
    """Leave out what has not ended yet."""
    job = await find_job(request)
    await parts(request).job_items.cancel(job.id)
    return respond(job_document(await find_job(request)))


async def delete_job(request: Request) -> Response:
    """Cancel and forget a job; what it indexed stays."""
    job = await find_job(request)
    await parts(request).job_items.delete(job.id)
    return Response(status_code=204)


async def find_job(request: Request) -> Progress:
    """Return the job that the path names; raises `NotFound`."""
    return await parts(request).job_items.find(request.path_params["id"])


async def accepted(request: Request, job_id: int) -> Response:
    """Answer a request whose work goes on as a job (RFC 7240, 4.1)."""
    response = respond(job_document(await parts(request).job_items.find(job_id)), status_code=202)
    response.headers["Location"] = f"/api/jobs/{job_id}"
    response.headers["Preference-Applied"] = "respond-async"
    return response


def picture_files(form: FormData) -> list[UploadFile]:
    """Return the form's `file`s; raises `NoPicture` if there are none."""
    refuse_unknown_files(form)
    files = chosen_files(form)
    if not files:
        raise NoPicture("Send pictures as form fields named `file`.")
    return files


async def keep_uploads(request: Request, files: Sequence[UploadFile]) -> list[NewItem]:
    """Keep uploaded files until a job has indexed them."""
    indexer = parts(request).indexer
    return [
        await indexer.keep_upload(await file.read(), title=file.filename or "") for file in files
    ]


def urls_title(items: Sequence[NewItem]) -> str:
    """Return what a job of URLs is called."""
    if len(items) == 1:
        return items[0].entry.url
    return f"{len(items)} URLs"


def event_stream(
    changes: AsyncIterable[Progress], render: Callable[[Progress], Awaitable[str]]
) -> StreamingResponse:
    """Return progress as server-sent events; each tells all, so that nothing is lost between."""

    async def events() -> AsyncGenerator[str]:
        yield "retry: 1000\n\n"
        async for progress in changes:
            lines = "".join(f"data: {line}\n" for line in (await render(progress)).splitlines())
            ended = "" if progress.state == "running" else "event: end\ndata:\n\n"
            yield f"event: progress\n{lines}\n{ended}"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def outcome_document(outcome: Outcome) -> schemas.OutcomeDocument:
    """Return an outcome as JSON shows it."""
    return schemas.OutcomeDocument(
        url=outcome.url, status=outcome.status, id=outcome.id, reason=outcome.reason
    )


def job_document(job: Progress) -> schemas.JobDocument:
    """Return a job as JSON shows it."""
    counts: dict[str, Any] = {state: job.counts.get(state, 0) for state in get_args(State)}
    return schemas.JobDocument(
        id=job.id,
        title=job.title,
        state=job.state,
        created_at=job.created_at,
        total=job.total,
        **counts,
        postponed=job.postponed,
        rate=round(job.rate, 2),
        eta_s=None if job.eta_s is None else round(job.eta_s, 1),
        recent=[item_document(item) for item in job.recent],
    )


def item_document(item: Item) -> schemas.JobItemDocument:
    """Return an item as JSON shows it."""
    return schemas.JobItemDocument(
        position=item.position,
        url=item.entry.url,
        state=item.state,
        reason=item.reason,
        tries=item.tries,
        id=item.image_id,
    )


async def _upsert_list(request: Request, kind: Kind) -> Response:
    """Make a job of a list of URLs, which is read as it comes and never held whole."""
    with SpooledTemporaryFile(SPOOLED_BYTES) as file:
        async for chunk in request.stream():
            await asyncio.to_thread(file.write, chunk)
        file.seek(0)
        entries = read_list(cast(BinaryIO, file), kind)
        items = (NewItem("web", entry) for entry in entries)
        job_id = await parts(request).jobs.create("A list of URLs", items)
    return await accepted(request, job_id)


async def _upload_to_job(request: Request, files: Sequence[UploadFile]) -> Response:
    """Keep uploaded pictures and index them as a job, a new one or the one named by `job`."""
    wanted = parse(schemas.UploadRequest, dict(request.query_params))
    if wanted.job is None:
        items = await keep_uploads(request, files)
        return await accepted(request, await parts(request).jobs.create("Uploads", items))
    job = await parts(request).job_items.find(wanted.job)
    await parts(request).jobs.add(job.id, await keep_uploads(request, files))
    return await accepted(request, job.id)


async def _index_uploads(request: Request, files: Sequence[UploadFile]) -> list[Outcome]:
    places = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def index(file: UploadFile) -> Outcome:
        async with places:
            data = await file.read()
            return await parts(request).indexer.upsert_upload(data, title=file.filename or "")

    return await gather([index(file) for file in files])


def _prefers_async(request: Request) -> bool:
    """Return whether the client would rather follow a job than wait (RFC 7240, 4.1)."""
    preferences = request.headers.get("prefer", "").lower().split(",")
    return "respond-async" in [preference.strip() for preference in preferences]


def _entry(image: str | schemas.ImageEntry) -> Entry:
    if isinstance(image, str):
        return Entry(image.strip())
    return Entry(image.url.strip(), image.title, image.description, image.tags, image.metadata)
