"""The HTML page on which images are added, and their jobs; all of it works without JavaScript."""

import json
import re
from itertools import chain

from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse, Response

from app.indexing.list_fetcher import list_fetcher
from app.indexing.sources import KINDS, ListKind, list_kind, posted_items, web_item
from app.indexing.streams import charset_of
from app.jobs.feed import FAILURES, RECENT
from app.problems import InvalidRequest, NoPicture, NotFound, PictureProblem, Problem
from app.store.images import Entry
from app.store.items import JobProgress
from app.web import schemas
from app.web.event_streams import EventStream
from app.web.forms import chosen_files, form_of, lines_of
from app.web.indexing_api import SITEMAPS_WITHIN_S, keeping_uploads, urls_title
from app.web.jobs_api import find_job
from app.web.requests import Request, parts
from app.web.templating import accept, page, templates

MAX_JOBS = 20
MAX_FOLLOWED = 100
# At a time, of the finished jobs that are cleared together.
CLEARED_AT_ONCE = 100
_JOB_ID = re.compile("[0-9]{1,18}")
_JOB_IDS = re.compile(rf"[0-9]{{1,18}}(,[0-9]{{1,18}}){{0,{MAX_FOLLOWED - 1}}}")


async def adding_page(request: Request, *, problem: Problem | None = None) -> Response:
    """Show the form to add images, and recent jobs."""
    lookalike = parts(request)
    jobs = await lookalike.job_items.newest(limit=MAX_JOBS, recent=RECENT, failures=FAILURES)
    return page(
        request,
        "add.html",
        status_code=problem.status if problem else 200,
        jobs=jobs,
        workers=await lookalike.workers.count(),
        problem=problem,
        total=await lookalike.sizes.images(),
        accept=accept(),
        lists=",".join(KINDS),
    )


async def adding_form(request: Request) -> Response:
    """Create a job from the form, and show it."""
    try:
        async with form_of(request, max_files=schemas.MOST_IMAGES_PER_REQUEST) as form:
            job_id = await _job_of(request, form)
    except (InvalidRequest, PictureProblem) as problem:
        return await adding_page(request, problem=problem)
    return RedirectResponse(f"/add#job-{job_id}", 303)


async def job_events(request: Request) -> Response:
    """Stream the HTML of the page's jobs, as the page has it, at every change of any."""
    listed = request.query_params.get("jobs", "")
    if not _JOB_IDS.fullmatch(listed):
        raise InvalidRequest(f"`jobs` must be at most {MAX_FOLLOWED} ids with commas between them.")
    template = templates.get_template("_job.html")

    def render(job: JobProgress) -> str:
        shown = {"id": job.id, "state": job.state, "html": template.render(job=job)}
        return json.dumps(shown)

    return EventStream(request, map(int, listed.split(",")), render)


async def shown_job(request: Request) -> JobProgress | None:
    """Return the job that a page's URL names, None if there is none."""
    given = request.query_params.get("job", "")
    if not _JOB_ID.fullmatch(given):
        return None
    found = await parts(request).job_items.progress_of([int(given)], failures=FAILURES)
    return found[0] if found else None


async def change_job(request: Request) -> Response:
    """Retry, cancel or delete a job: what its buttons do."""
    job = await find_job(request)
    lookalike = parts(request)
    match request.path_params["action"]:
        case "retry":
            await lookalike.jobs.retry(job.id)
        case "cancel":
            await lookalike.job_items.cancel(job.id)
        case "delete":
            await lookalike.jobs.delete(job.id)
        case _:
            raise NotFound
    return RedirectResponse(f"/add#job-{job.id}", 303)


async def clear_jobs(request: Request) -> Response:
    """Delete the jobs that have ended; what they indexed stays."""
    lookalike = parts(request)
    while True:
        found = await lookalike.job_items.newest(limit=CLEARED_AT_ONCE)
        ended = [job.id for job in found if job.state != "running"]
        for job_id in ended:
            await lookalike.jobs.delete(job_id)
        if not ended:
            return RedirectResponse("/add", 303)


async def _job_of(request: Request, form: FormData) -> int:
    # A URL that is too long fails alone, as an item of the job.
    urls = lines_of(form, "urls")
    items = [web_item(Entry(url)) for url in urls]
    title = urls_title(items) if items else ""
    files = chosen_files(form)
    lists: list[tuple[UploadFile, ListKind]] = [
        (f, kind) for f in files if (kind := list_kind(f.filename or "")) is not None
    ]
    images = [file for file in files if list_kind(file.filename or "") is None]
    if not items and not files:
        raise NoPicture("Enter image URLs, one per line, or choose files to upload.")
    names = [file.filename or "" for file in files]
    title = title or (names[0] if len(names) == 1 else f"{len(names)} files")
    fetch = list_fetcher(parts(request).fetcher, within_s=SITEMAPS_WITHIN_S)
    listed = (
        item
        for file, kind in lists
        for item in posted_items(
            file.file, kind, fetch=fetch, charset=charset_of(f"{file.content_type}")
        )
    )
    async with keeping_uploads(request, images) as uploads:
        return await parts(request).jobs.create(title, chain(items, uploads, listed))
