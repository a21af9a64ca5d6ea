"""The JSON endpoints of jobs and their event streams."""

from starlette.responses import Response

from app.jobs.documents import item_document, job_document
from app.store.items import JobProgress
from app.web import schemas
from app.web.event_streams import EventStream
from app.web.forms import parse_query
from app.web.requests import Request, parts, respond

MOST_JOBS = 100


async def list_jobs(request: Request) -> Response:
    """List jobs, newest first."""
    jobs = await parts(request).job_items.newest(limit=MOST_JOBS)
    return respond(schemas.JobsResponse(jobs=[job_document(job) for job in jobs]))


async def show_job(request: Request) -> Response:
    """Return job progress."""
    return respond(job_document(await find_job(request)))


async def list_items(request: Request) -> Response:
    """List the items of a job."""
    job = await find_job(request)
    wanted = parse_query(request, schemas.JobItemsRequest)
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
    """Stream job progress until the job ends."""
    job = await find_job(request)

    def render(progress: JobProgress) -> str:
        return job_document(progress).model_dump_json()

    return EventStream(request, [job.id], render)


async def retry_job(request: Request) -> Response:
    """Retry failed and cancelled items."""
    job = await find_job(request)
    await parts(request).jobs.retry(job.id)
    return respond(job_document(await find_job(request)))


async def cancel_job(request: Request) -> Response:
    """Cancel pending items."""
    job = await find_job(request)
    await parts(request).job_items.cancel(job.id)
    return respond(job_document(await find_job(request)))


async def delete_job(request: Request) -> Response:
    """Delete a job and the uploads that only it kept; images that it indexed stay."""
    job = await find_job(request)
    await parts(request).jobs.delete(job.id)
    return Response(status_code=204)


async def find_job(request: Request) -> JobProgress:
    """Return the job that the path names; raises `NotFound`."""
    return await parts(request).job_items.find(request.path_params["id"])


async def accepted(request: Request, job_id: int) -> Response:
    """Return the 202 response of a request that became a job (RFC 7240, 4.1)."""
    response = respond(job_document(await parts(request).job_items.find(job_id)), status_code=202)
    response.headers["Location"] = f"/api/jobs/{job_id}"
    response.headers["Preference-Applied"] = "respond-async"
    return response
